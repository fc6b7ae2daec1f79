//! Locks: one that transactions of all patgate processes take in turn, and those that stock git knows.
//!
//! The file `patgate-transaction` in the git directory is held with flock(2) by the transaction that runs. Lock files
//! of refs (`<ref>.lock`, `packed-refs.lock`, `HEAD.lock`: git's lockfile.h) are hard links of it, so that they appear
//! with their content in one step. Who holds the flock therefore knows that every lock file with this content was left
//! by a process that died, and takes it over; all others belong to a git that may be running, and are waited for.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::stat::Stat;
use crate::repository::{Error, IoContext, fault};

/// Name of the file in the git directory.
const FILE_NAME: &str = "patgate-transaction";

/// What the file and every lock file of ours holds; read by people who wonder.
const MARKER: &[u8] =
    b"patgate: if no patgate runs, this lock was left by a crash and the next start removes it\n";

/// How long to wait for a transaction of another process. A push of 100,000 refs takes seconds.
const TURN_TIME_MAX: Duration = Duration::from_secs(20);

/// How long one transaction waits for lock files of stock git, all together; `core.packedRefsTimeout` is as long.
const FOREIGN_TIME_MAX: Duration = Duration::from_secs(1);

/// The turn of this process to change refs.
#[derive(Debug)]
pub(super) struct Turn {
    path: PathBuf,
    _file: File,
    /// What is left of [`FOREIGN_TIME_MAX`].
    patience: Duration,
}

/// Why a lock file could not be had.
#[derive(Debug)]
pub(super) enum LockError {
    /// Another program holds it.
    Held,
    /// The directory for it is missing: somebody removed it because it was empty.
    NoDirectory,
    /// The file system refuses.
    Io(io::Error),
}

impl Turn {
    /// Waits for the turn.
    ///
    /// # Errors
    ///
    /// When the file cannot be made or written, or other processes do not end in time.
    pub(super) fn take(git_dir: &Path) -> Result<Turn, Error> {
        Turn::take_within(git_dir, TURN_TIME_MAX)?.ok_or(Error::TransactionBusy)
    }

    /// Waits for the turn no longer than `time_max`.
    ///
    /// # Errors
    ///
    /// When the file cannot be made or written.
    pub(super) fn take_within(git_dir: &Path, time_max: Duration) -> Result<Option<Turn>, Error> {
        let deadline = Instant::now() + time_max;
        let mut pause = Duration::from_millis(1);
        loop {
            let turn = Turn::try_take(git_dir)?;
            if turn.is_some() || Instant::now() >= deadline {
                return Ok(turn);
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    /// Takes the turn if nobody has it.
    fn try_take(git_dir: &Path) -> Result<Option<Turn>, Error> {
        let path = git_dir.join(FILE_NAME);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .at("open", &path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error).at("lock", &path),
        }
        // A file that was replaced between opening and locking guards nothing.
        let held = file
            .metadata()
            .map(|metadata| Stat::from(&metadata).identity())
            .at("read", &path)?;
        if Stat::of(&path).at("read", &path)?.map(|stat| stat.identity()) != Some(held) {
            return Ok(None);
        }
        let mut content = Vec::new();
        Read::by_ref(&mut file)
            .take(MARKER.len() as u64 + 1)
            .read_to_end(&mut content)
            .at("read", &path)?;
        if content != MARKER {
            file.set_len(0)
                .and_then(|()| file.rewind())
                .and_then(|()| file.write_all(MARKER))
                .at("write", &path)?;
        }
        Ok(Some(Turn {
            path,
            _file: file,
            patience: FOREIGN_TIME_MAX,
        }))
    }

    /// Tells whether a transaction ever ran here, so that there may be something to recover.
    pub(super) fn was_ever_taken(git_dir: &Path) -> bool {
        git_dir.join(FILE_NAME).exists()
    }

    /// Makes the lock file at `path`, or takes over one that a crash left.
    pub(super) fn lock(&mut self, path: PathBuf) -> Result<LockFile, LockError> {
        let mut pause = Duration::from_millis(1);
        loop {
            match self.link(&path) {
                Ok(()) => return Ok(LockFile { path }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    if is_ours(&path) {
                        return Ok(LockFile { path });
                    }
                    if self.patience.is_zero() {
                        return Err(LockError::Held);
                    }
                    let pause_now = pause.min(self.patience);
                    std::thread::sleep(pause_now);
                    self.patience -= pause_now;
                    pause = (pause * 2).min(Duration::from_millis(50));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(LockError::NoDirectory),
                Err(error) => return Err(LockError::Io(error)),
            }
        }
    }

    fn link(&self, path: &Path) -> io::Result<()> {
        match fs::hard_link(&self.path, path) {
            // File systems without hard links, and ext4 after 65,000 of them.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::TooManyLinks
                        | io::ErrorKind::Unsupported
                        | io::ErrorKind::PermissionDenied
                        | io::ErrorKind::CrossesDevices
                ) =>
            {
                OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .open(path)?
                    .write_all(MARKER)
            }
            other => other,
        }
    }
}

/// Tells whether the lock file at `path` is one of patgate's.
pub(super) fn is_ours(path: &Path) -> bool {
    if !fs::symlink_metadata(path)
        .is_ok_and(|metadata| metadata.is_file() && metadata.len() == MARKER.len() as u64)
    {
        return false;
    }
    fs::read(path).is_ok_and(|content| content == MARKER)
}

/// A lock file that is removed when dropped.
#[derive(Debug)]
pub(super) struct LockFile {
    path: PathBuf,
}

impl Drop for LockFile {
    fn drop(&mut self) {
        if fault::crashed() {
            return;
        }
        if let Err(error) = fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove lock file");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_removed_when_dropped_and_a_second_turn_has_to_wait() {
        let dir = tempfile::tempdir().unwrap();
        let mut turn = Turn::take(dir.path()).unwrap();
        assert!(Turn::try_take(dir.path()).unwrap().is_none());
        let path = dir.path().join("x.lock");
        let lock = turn.lock(path.clone()).unwrap();
        assert!(is_ours(&path));
        drop(lock);
        assert!(!path.exists());
        drop(turn);
        assert!(Turn::take(dir.path()).is_ok());
    }

    #[test]
    fn a_leftover_is_taken_over_and_a_foreign_lock_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let mut turn = Turn::take(dir.path()).unwrap();
        fs::write(dir.path().join("left.lock"), MARKER).unwrap();
        fs::write(dir.path().join("foreign.lock"), "").unwrap();
        assert!(turn.lock(dir.path().join("left.lock")).is_ok());
        assert!(matches!(
            turn.lock(dir.path().join("foreign.lock")),
            Err(LockError::Held)
        ));
        assert!(dir.path().join("foreign.lock").exists());
        assert!(matches!(
            turn.lock(dir.path().join("none/x.lock")),
            Err(LockError::NoDirectory)
        ));
    }
}
