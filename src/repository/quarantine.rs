//! Objects of a push that nobody sees yet: taken in beside the repository's own, moved over once they were checked.
//!
//! The directory's name begins as that of git's own quarantines, so that git gc prunes leftovers too. It holds a file
//! that its owner keeps locked with flock(2): one that can be locked belongs to a process that died, or to one that has
//! not locked it yet. That one looks, once it has the lock, whether its file is still there, and begins anew if somebody
//! took it for a leftover. The file is the first to be made and the last to go, so a directory without it is empty.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::objects::ObjectStore;
use super::{Error, IoContext, durable, fault};

const PREFIX: &str = "tmp_objdir-incoming-patgate-";
const OWNER_FILE: &str = "owner";

/// Tries to make a quarantine that nobody takes for a leftover. Each failure needs a sweep within microseconds.
const TRIES_MAX: usize = 16;

/// How long one sweep waits for locks, all together: that of a process that is just dying may outlive it a little.
const SWEEP_TIME_MAX: Duration = Duration::from_millis(200);

/// A directory `objects/tmp_objdir-incoming-patgate-…` of a push; removed when dropped.
#[derive(Debug)]
pub struct Quarantine {
    object_dir: PathBuf,
    pack_dir: PathBuf,
    /// The repository's own object directory.
    objects_dir: PathBuf,
    store: Arc<ObjectStore>,
    _owner: File,
}

impl Quarantine {
    /// Makes an empty one for `store`, whose directory is `objects_dir`.
    pub(super) fn new(objects_dir: &Path, store: &Arc<ObjectStore>) -> io::Result<Quarantine> {
        for _ in 0..TRIES_MAX {
            let object_dir = objects_dir.join(format!("{PREFIX}{:016x}", rand::random::<u64>()));
            fs::DirBuilder::new().mode(0o777).create(&object_dir)?;
            let Some(owner) = own(&object_dir)? else { continue };
            let quarantine = Quarantine {
                pack_dir: object_dir.join("pack"),
                object_dir,
                objects_dir: objects_dir.to_owned(),
                store: Arc::clone(store),
                _owner: owner,
            };
            fs::create_dir(&quarantine.pack_dir)?;
            return Ok(quarantine);
        }
        Err(io::Error::other(
            "others remove quarantines as fast as they are made",
        ))
    }

    /// Returns the directory where packs go; it exists.
    pub fn pack_dir(&self) -> &Path {
        &self.pack_dir
    }

    /// Returns the object directory itself.
    pub fn object_dir(&self) -> &Path {
        &self.object_dir
    }

    /// Takes note that everything in it was checked.
    pub fn into_checked(self, _proof: &Connected) -> Checked {
        Checked { quarantine: self }
    }
}

/// Proof that all that some tips reach is there. Only `pack::connectivity` makes one.
#[derive(Debug)]
pub struct Connected {
    _private: (),
}

impl Connected {
    pub(crate) fn proven() -> Connected {
        Connected { _private: () }
    }
}

impl Drop for Quarantine {
    fn drop(&mut self) {
        if fault::crashed() {
            return;
        }
        if let Err(error) = remove(&self.object_dir) {
            tracing::warn!(path = %self.object_dir.display(), %error, "cannot remove quarantine");
        }
    }
}

/// Makes and locks the owner's file of a new directory; `None` if a sweep took the directory away meanwhile.
fn own(object_dir: &Path) -> io::Result<Option<File>> {
    let path = object_dir.join(OWNER_FILE);
    let file = match OpenOptions::new().write(true).create_new(true).open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    file.lock()?;
    match fs::metadata(&path) {
        Ok(there) if there.ino() == file.metadata()?.ino() => Ok(Some(file)),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes a quarantine, the owner's file last: what a crash in between leaves is still known for what it is.
fn remove(object_dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(object_dir)? {
        let entry = entry?;
        if entry.file_name() == OWNER_FILE {
            continue;
        }
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    fs::remove_file(object_dir.join(OWNER_FILE))?;
    fs::remove_dir(object_dir)
}

/// A quarantine whose objects are known to be sound and complete.
#[derive(Debug)]
pub struct Checked {
    quarantine: Quarantine,
}

impl Checked {
    /// Makes the packs durable, moves them into the repository, and makes that durable.
    ///
    /// # Errors
    ///
    /// When the system fails. Packs that were moved in by then stay: they hold objects that nothing needs.
    pub fn migrate(self) -> Result<Migrated, Error> {
        let from = &self.quarantine.pack_dir;
        let to = self.quarantine.objects_dir.join("pack");
        let mut files = Vec::new();
        for entry in fs::read_dir(from).at("list", from)? {
            let name = entry.at("list", from)?.file_name();
            if is_pack_file(&name) {
                files.push(name);
            }
        }
        if files.is_empty() {
            return Ok(Migrated { _private: () });
        }
        // An index makes git look for its pack, so it goes last.
        files.sort_by_key(|name| (move_order(name), name.clone()));
        for name in &files {
            let path = from.join(name);
            fs::set_permissions(&path, Permissions::from_mode(0o444)).at("change the mode of", &path)?;
            durable::sync_file(&path).at("sync", &path)?;
        }
        fault::point("packs synced").at("sync", from)?;
        durable::create_dirs(&to).at("make", &to)?;
        for name in &files {
            let target = to.join(name);
            // A pack is named by its content: what has the name is the same, and may be in use.
            if target.exists() {
                continue;
            }
            fs::rename(from.join(name), &target).at("make", &target)?;
            fault::point("pack file moved").at("make", &target)?;
        }
        durable::sync_dir(&to).at("sync", &to)?;
        self.quarantine.store.refresh()?;
        Ok(Migrated { _private: () })
    }
}

/// The right to move refs: the objects that they need are in the repository.
#[derive(Debug)]
pub struct Migrated {
    _private: (),
}

impl Migrated {
    /// For refs to objects that this module's callers wrote into the repository themselves.
    pub(super) fn written_in_place() -> Migrated {
        Migrated { _private: () }
    }
}

fn is_pack_file(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.starts_with(b"pack-")
        && [&b".pack"[..], b".rev", b".idx"]
            .iter()
            .any(|suffix| name.ends_with(suffix))
}

fn move_order(name: &OsStr) -> u8 {
    match Path::new(name).extension().map(OsStr::as_encoded_bytes) {
        Some(b"pack") => 0,
        Some(b"idx") => 2,
        _ => 1,
    }
}

/// Removes the quarantines below `objects_dir` whose owner died. Those of stock git have no owner file and are left
/// to git gc.
pub(super) fn sweep(objects_dir: &Path) -> io::Result<()> {
    let deadline = Instant::now() + SWEEP_TIME_MAX;
    for entry in fs::read_dir(objects_dir)? {
        let entry = entry?;
        if !entry
            .file_name()
            .as_encoded_bytes()
            .starts_with(PREFIX.as_bytes())
        {
            continue;
        }
        match sweep_one(&entry.path(), deadline) {
            // Its owner was done with it, too.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            swept => swept?,
        }
    }
    Ok(())
}

fn sweep_one(quarantine: &Path, deadline: Instant) -> io::Result<()> {
    match OpenOptions::new().read(true).open(quarantine.join(OWNER_FILE)) {
        Ok(file) => {
            if lock_until(&file, deadline) {
                tracing::info!(path = %quarantine.display(), "removing a quarantine that a crash left");
                remove(quarantine)?;
            }
        }
        // Its owner died before it had a file, or is about to make one: then this fails, or the owner begins anew.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let _ = fs::remove_dir(quarantine);
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

fn lock_until(file: &File, deadline: Instant) -> bool {
    loop {
        if file.try_lock().is_ok() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quarantine(dir: &Path) -> Quarantine {
        fs::create_dir_all(dir.join("pack")).unwrap();
        let store = ObjectStore::open(dir, gix_hash::Kind::Sha1).unwrap();
        Quarantine::new(dir, &Arc::new(store)).unwrap()
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn filled(dir: &Path) -> Quarantine {
        let quarantine = quarantine(dir);
        for name in ["pack-1.idx", "pack-1.pack", "pack-1.rev", "tmp_pack_x"] {
            fs::write(quarantine.pack_dir().join(name), name).unwrap();
        }
        quarantine
    }

    #[test]
    fn a_dropped_quarantine_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        drop(filled(dir.path()));
        assert_eq!(names(dir.path()), ["pack"]);
        assert!(names(&dir.path().join("pack")).is_empty());
    }

    #[test]
    fn a_checked_quarantine_moves_its_packs_in_read_only_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path())
            .into_checked(&Connected::proven())
            .migrate()
            .unwrap();
        assert_eq!(
            names(&dir.path().join("pack")),
            ["pack-1.idx", "pack-1.pack", "pack-1.rev"]
        );
        assert_eq!(names(dir.path()), ["pack"]);
        let mode = fs::metadata(dir.path().join("pack/pack-1.pack"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o444);
    }

    #[test]
    fn a_pack_that_exists_is_kept_and_an_empty_quarantine_migrates_to_nothing() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("pack")).unwrap();
        fs::write(dir.path().join("pack/pack-1.pack"), "old").unwrap();
        filled(dir.path())
            .into_checked(&Connected::proven())
            .migrate()
            .unwrap();
        assert_eq!(fs::read(dir.path().join("pack/pack-1.pack")).unwrap(), b"old");
        assert!(dir.path().join("pack/pack-1.idx").exists());
        quarantine(dir.path())
            .into_checked(&Connected::proven())
            .migrate()
            .unwrap();
        assert_eq!(names(dir.path()), ["pack"]);
    }

    #[test]
    fn a_crash_at_any_point_leaves_a_quarantine_that_the_sweep_removes_and_no_index_without_its_pack() {
        let mut index = 0;
        loop {
            let dir = tempfile::tempdir().unwrap();
            let quarantine = filled(dir.path());
            let (result, died) =
                fault::armed::die_at(index, || quarantine.into_checked(&Connected::proven()).migrate());
            let packs = names(&dir.path().join("pack"));
            assert!(!packs.contains(&"pack-1.idx".to_owned()) || packs.contains(&"pack-1.pack".to_owned()));
            sweep(dir.path()).unwrap();
            assert_eq!(names(dir.path()), ["pack"], "died at {died:?}");
            if died.is_none() {
                result.unwrap();
                break;
            }
            index += 1;
        }
        assert!(index > 3, "the points of migrate were met");
    }

    #[test]
    fn the_sweep_leaves_live_quarantines_and_those_of_stock_git_alone() {
        let dir = tempfile::tempdir().unwrap();
        let live = quarantine(dir.path());
        fs::create_dir(dir.path().join("tmp_objdir-incoming-ofgit1")).unwrap();
        sweep(dir.path()).unwrap();
        assert!(live.pack_dir().is_dir());
        assert!(dir.path().join("tmp_objdir-incoming-ofgit1").is_dir());
    }

    #[test]
    fn what_a_crash_leaves_of_making_or_removing_a_quarantine_is_swept() {
        let dir = tempfile::tempdir().unwrap();
        for (name, files) in [
            ("1", &[][..]),
            ("2", &["owner"]),
            ("3", &["owner", "pack/pack-1.pack"]),
        ] {
            let quarantine = dir.path().join(format!("{PREFIX}{name}"));
            fs::create_dir_all(quarantine.join("pack")).unwrap();
            for file in files {
                fs::write(quarantine.join(file), "").unwrap();
            }
            if files.len() < 2 {
                fs::remove_dir(quarantine.join("pack")).unwrap();
            }
        }
        sweep(dir.path()).unwrap();
        assert!(names(dir.path()).is_empty());
    }

    #[test]
    fn quarantines_are_made_while_others_sweep() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("pack")).unwrap();
        std::thread::scope(|scope| {
            let sweeper = scope.spawn(|| {
                for _ in 0..300 {
                    sweep(dir.path()).unwrap();
                }
            });
            while !sweeper.is_finished() {
                let made = filled(dir.path());
                assert!(
                    made.pack_dir().join("pack-1.pack").exists(),
                    "a live quarantine was swept"
                );
            }
        });
        assert_eq!(names(dir.path()), ["pack"]);
    }
}
