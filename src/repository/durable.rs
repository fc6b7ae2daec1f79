//! Writes that survive power loss: fsync of files and of the directories that name them.
//!
//! Knows nothing of git. A rename or a new file is on disk only after the directory that holds its name was synced
//! (rename(2), fsync(2)), so every function here that changes a directory syncs it, or says that the caller must.

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// How the names of temporary files begin, so that leftovers of a crash are known.
pub(crate) const TEMP_PREFIX: &str = "patgate-tmp-";

/// Makes the names that `dir` holds durable.
///
/// # Errors
///
/// When the directory cannot be opened or synced.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Makes the content and the mode of the file at `path` durable.
///
/// # Errors
///
/// When the file cannot be opened or synced.
pub fn sync_file(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Makes `dir` and what is missing above it, each of them durably named by its parent.
///
/// # Errors
///
/// When one of them cannot be made, for instance because a file has its name.
pub fn create_dirs(dir: &Path) -> io::Result<()> {
    let mut missing = Vec::new();
    let mut at = dir;
    while !at.is_dir() {
        missing.push(at);
        match at.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => at = parent,
            _ => break,
        }
    }
    for dir in missing.into_iter().rev() {
        match fs::create_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {}
            other => other?,
        }
        match dir.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => sync_dir(parent)?,
            _ => sync_dir(Path::new("."))?,
        }
    }
    Ok(())
}

/// Renames `from` to `to` and syncs both parents.
///
/// # Errors
///
/// When the rename or a sync fails; after a failed sync the new name stands but may not survive power loss.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    let parents: BTreeSet<_> = [from.parent(), to.parent()].into_iter().flatten().collect();
    parents.into_iter().try_for_each(sync_dir)
}

/// Makes an empty temporary file in `dir`, with the mode that the umask leaves of 0666; it is removed when dropped.
///
/// # Errors
///
/// When it cannot be made.
pub(crate) fn temp_file(dir: &Path) -> io::Result<NamedTempFile> {
    tempfile::Builder::new()
        .prefix(TEMP_PREFIX)
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(dir)
}

/// Writes `content` to a synced temporary file in `temp_dir` and renames it to `path`, which it replaces. The caller
/// syncs the directory of `path`.
///
/// # Errors
///
/// When writing, syncing or renaming fails; `path` is then as it was.
pub(crate) fn replace(path: &Path, content: &[u8], temp_dir: &Path) -> io::Result<()> {
    let mut file = temp_file(temp_dir)?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// Directories that were changed and wait to be synced, each once.
#[derive(Debug, Default)]
pub(crate) struct DirsToSync(BTreeSet<PathBuf>);

impl DirsToSync {
    /// Adds `dir`.
    pub(crate) fn add(&mut self, dir: &Path) {
        if !self.0.contains(dir) {
            self.0.insert(dir.to_owned());
        }
    }

    /// Adds the directory that holds `path`, and those above it up to and with `base`. The ones above are synced too
    /// because a process that died may have made them without doing so.
    pub(crate) fn add_above(&mut self, path: &Path, base: &Path) {
        for dir in path.ancestors().skip(1).take_while(|dir| dir.starts_with(base)) {
            self.add(dir);
        }
    }

    /// Syncs all of them, the deepest first. One that is gone was removed by somebody because it was empty.
    ///
    /// # Errors
    ///
    /// The first that fails ends it.
    pub(crate) fn sync(self) -> io::Result<()> {
        for dir in self.0.iter().rev() {
            match sync_dir(dir) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_directories_are_made_and_existing_ones_kept() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("a/b/c");
        create_dirs(&deep).unwrap();
        create_dirs(&deep).unwrap();
        assert!(deep.is_dir());
        fs::write(root.path().join("file"), "").unwrap();
        assert!(create_dirs(&root.path().join("file/x")).is_err());
    }

    #[test]
    fn a_replaced_file_has_the_new_content_and_leaves_no_temporary_one() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("x");
        replace(&path, b"old", root.path()).unwrap();
        replace(&path, b"new", root.path()).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_directories_above_a_path_are_synced_up_to_the_base_and_a_vanished_one_is_no_error() {
        let mut dirs = DirsToSync::default();
        let root = tempfile::tempdir().unwrap();
        dirs.add_above(&root.path().join("a/b/c"), root.path());
        assert_eq!(dirs.0.len(), 3);
        dirs.sync().unwrap();
    }
}
