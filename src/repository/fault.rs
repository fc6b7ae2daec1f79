//! Named points at which a test lets a thread "die", as `kill -9` would: nothing after the point happens, and nothing
//! that would have been cleaned up is. Outside tests all of it compiles to nothing.

use std::io;

/// Fails when the test wants the thread to die here.
#[cfg(not(test))]
#[inline]
pub(crate) const fn point(_name: &'static str) -> io::Result<()> {
    Ok(())
}

/// Tells whether the thread is dead, so that guards leave what they would remove.
#[cfg(not(test))]
#[inline]
pub(crate) const fn crashed() -> bool {
    false
}

#[cfg(test)]
pub(crate) use armed::{crashed, point};

#[cfg(test)]
pub(crate) mod armed {
    use super::*;
    use std::cell::{Cell, RefCell};

    thread_local! {
        static POINTS_LEFT: Cell<Option<usize>> = const { Cell::new(None) };
        static CRASHED: RefCell<Option<&'static str>> = const { RefCell::new(None) };
    }

    pub(crate) fn point(name: &'static str) -> io::Result<()> {
        match POINTS_LEFT.get() {
            Some(0) => {
                CRASHED.with_borrow_mut(|at| *at = Some(name));
                Err(io::Error::other(format!("died at '{name}'")))
            }
            Some(left) => {
                POINTS_LEFT.set(Some(left - 1));
                Ok(())
            }
            None => Ok(()),
        }
    }

    pub(crate) fn crashed() -> bool {
        CRASHED.with_borrow(Option::is_some)
    }

    /// Runs `work` on this thread and lets it die at its point number `index`; gives back where it died, if it did.
    pub(crate) fn die_at<T>(index: usize, work: impl FnOnce() -> T) -> (T, Option<&'static str>) {
        POINTS_LEFT.set(Some(index));
        let result = work();
        POINTS_LEFT.set(None);
        (result, CRASHED.take())
    }
}
