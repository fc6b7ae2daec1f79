//! Objects of a push that nobody sees yet: taken in beside the repository's own, moved over once they were checked.
//!
//! The directory has the name that git's `tmp-objdir.c` gives it, so that git gc prunes leftovers too. It holds a file
//! that its owner keeps locked with flock(2): one that can be locked belongs to a process that died.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::objects::ObjectStore;
use super::{Error, IoContext, durable, fault};

const PREFIX: &str = "tmp_objdir-incoming-";
const OWNER_FILE: &str = "patgate-owner";
const OWNER_MARK: &[u8] = b"patgate\n";

/// How long one sweep waits for locks, all together: that of a process that is just dying may outlive it a little.
const SWEEP_TIME_MAX: Duration = Duration::from_millis(200);

/// A directory `objects/tmp_objdir-incoming-…` of a push; removed when dropped.
#[derive(Debug)]
pub struct Quarantine {
    dir: Option<TempDir>,
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
        let dir = tempfile::Builder::new()
            .prefix(PREFIX)
            .permissions(Permissions::from_mode(0o777))
            .tempdir_in(objects_dir)?;
        let mut owner = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(dir.path().join(OWNER_FILE))?;
        owner.lock()?;
        // Without its mark the file says nothing, so that nobody removes the directory before the lock is taken.
        owner.write_all(OWNER_MARK)?;
        let object_dir = dir.path().to_owned();
        let pack_dir = object_dir.join("pack");
        fs::create_dir(&pack_dir)?;
        let (objects_dir, store) = (objects_dir.to_owned(), Arc::clone(store));
        Ok(Quarantine {
            dir: Some(dir),
            object_dir,
            pack_dir,
            objects_dir,
            store,
            _owner: owner,
        })
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
        let Some(dir) = self.dir.take() else { return };
        if fault::crashed() {
            let _kept = dir.keep();
        } else if let Err(error) = dir.close() {
            tracing::warn!(path = %self.object_dir.display(), %error, "cannot remove quarantine");
        }
    }
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
            || !entry.file_type()?.is_dir()
        {
            continue;
        }
        let path = entry.path();
        let owner = path.join(OWNER_FILE);
        let Ok(file) = OpenOptions::new().read(true).open(&owner) else {
            continue;
        };
        if lock_until(&file, deadline) && fs::read(&owner).is_ok_and(|mark| mark == OWNER_MARK) {
            tracing::info!(path = %path.display(), "removing a quarantine that a crash left");
            fs::remove_dir_all(&path)?;
        }
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
}
