//! What lstat(2) tells of a file, to see whether it changed, with git's rule for changes too quick to be seen.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A file that changed less than this before it was looked at may change again without a new time stamp: Linux stamps
/// with the clock of the last timer tick, which is up to 10 ms old.
const TICK: Duration = Duration::from_millis(20);

/// The same for file systems that keep whole seconds, FAT even in twos.
const COARSE_TICK: Duration = Duration::from_secs(2);

/// The fields that a change of a file or directory leaves a trace in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    device: u64,
    inode: u64,
    size: u64,
    mode: u32,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stat {
    /// Looks at `path` itself, not at what it links to; `None` if there is nothing.
    ///
    /// # Errors
    ///
    /// Everything but absence.
    pub(crate) fn of(path: &Path) -> io::Result<Option<Stat>> {
        match fs::symlink_metadata(path) {
            Ok(metadata) => Ok(Some(Stat::from(&metadata))),
            Err(error) if is_absence(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Tells whether the file may have changed again, unseen, at or after the moment `looked`.
    pub(crate) fn is_racy(&self, looked: SystemTime) -> bool {
        let (seconds, nanoseconds) = self.changed;
        let tick = if nanoseconds == 0 { COARSE_TICK } else { TICK };
        let Ok(since_epoch) = looked.duration_since(UNIX_EPOCH) else {
            return true;
        };
        let changed = i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
        changed.saturating_add_unsigned(tick.as_nanos())
            >= i128::try_from(since_epoch.as_nanos()).unwrap_or(0)
    }

    /// Device and inode: what tells one directory from another that took its name.
    pub(crate) fn identity(&self) -> (u64, u64) {
        (self.device, self.inode)
    }
}

impl From<&Metadata> for Stat {
    fn from(metadata: &Metadata) -> Stat {
        Stat {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            mode: metadata.mode(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Tells whether `error` says that there is nothing at a path.
pub(crate) fn is_absence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_just_written_is_racy_and_one_written_long_ago_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let stat = Stat::of(dir.path()).unwrap().unwrap();
        let now = SystemTime::now();
        assert!(stat.is_racy(now));
        assert!(!stat.is_racy(now + Duration::from_secs(3)));
        assert!(
            stat.is_racy(UNIX_EPOCH),
            "a time stamp in the future is never trusted"
        );
        assert_eq!(Stat::of(&dir.path().join("none")).unwrap(), None);
    }
}
