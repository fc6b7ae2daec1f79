//! Joining small packs and loose objects into one pack, so that look-ups stay quick after many pushes.
//!
//! Nothing is decided about what is still needed: every object that was there is there afterwards. Old files go only
//! when the new pack, taken in and hashed like a push, is durable in their place; readers that have them mapped go on.
//! Spec: git-repack(1) `--geometric`, gitrepository-layout(5).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gix_hash::ObjectId;
use hashbrown::HashSet;

use super::connectivity;
use super::copy::{self, copy};
use super::enumerate::{ListedObject, ObjectList};
use super::ingest::{self, Ingested};
use crate::interrupt::Interrupt;
use crate::limits::PushLimits;
use crate::repository::objects::{self, Location, Objects, Pack};
use crate::repository::{self, Repository, durable};

/// A pack is left alone when it has at least this many times the objects of all smaller ones together.
const GEOMETRIC_FACTOR: u64 = 2;

/// Why the repository was left as it was.
#[derive(Debug, thiserror::Error)]
pub enum MaintainError {
    /// The new pack lacks an object, because what lies under its name is something else: nothing was removed.
    #[error("object {id} is not what its name says: run 'patgate repo fsck' on the repository")]
    Incomplete {
        /// The first that is missing.
        id: ObjectId,
    },
    /// The new pack cannot be read back as it should.
    #[error("the joined pack is not what it should be")]
    Ingest(#[from] ingest::Error),
    /// The object database cannot be read.
    #[error(transparent)]
    Objects(#[from] objects::Error),
    /// The repository cannot be written.
    #[error(transparent)]
    Repository(#[from] repository::Error),
    /// A file cannot be removed or a directory not synced.
    #[error("cannot tidy up")]
    Tidy(#[from] io::Error),
    /// The new pack cannot be written.
    #[error("cannot write the joined pack")]
    Write(#[from] super::Error),
}

/// What was done.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Maintained {
    /// Packs that were joined.
    pub packs: usize,
    /// Loose objects that went into the new pack.
    pub loose: usize,
    /// Objects in the new pack.
    pub objects: u64,
}

/// Joins what is worth joining in `repository`'s own object directory. Alternates, and packs with a `.keep` or
/// `.promisor` file, are left alone.
///
/// # Errors
///
/// When something cannot be read or written; whatever fails, no object is lost.
pub fn maintain(
    repository: &Arc<Repository>,
    limits: &PushLimits,
    interrupt: &Interrupt,
) -> Result<Maintained, MaintainError> {
    let own = repository.git_dir().join("objects");
    let mut objects = repository.objects()?;
    let joined = to_join(&objects, &own.join("pack"));
    let loose: Vec<(ObjectId, Location)> = objects
        .loose()?
        .into_iter()
        .filter(|(_, location)| objects.dir_of(*location).is_some_and(|dir| dir == own))
        .collect();
    if joined.len() < 2 && loose.is_empty() {
        return Ok(Maintained::default());
    }
    let list = list_all(&objects, &joined, &loose);
    let count = list.len() as u64;
    let quarantine = repository.quarantine()?;
    let options = ingest::Options {
        object_hash: repository.object_hash(),
        limits: limits.clone(),
        fsck: None,
        thin: false,
        compression: repository.settings().compression,
    };
    let pack = copy(
        &mut objects,
        &list,
        quarantine.pack_dir(),
        &options,
        &mut |_| (),
        interrupt,
    )?;
    check_whole(&pack, &list, options.object_hash)?;
    quarantine
        .into_checked(&connectivity::of_present_objects())
        .migrate()?;
    remove_joined(&own, &joined, &pack, &loose)?;
    repository.object_store().refresh()?;
    Ok(Maintained {
        packs: joined.len(),
        loose: loose.len(),
        objects: count,
    })
}

/// The smallest packs, up to the first that is large beside all smaller ones.
fn to_join(objects: &Objects, pack_dir: &Path) -> Vec<Arc<Pack>> {
    let is_free = |pack: &Pack| {
        let path = pack.index_path();
        path.parent() == Some(pack_dir)
            && pack.is_readable()
            && pack.index().is_some()
            && !path.with_extension("keep").exists()
            && !path.with_extension("promisor").exists()
    };
    let mut packs: Vec<Arc<Pack>> = objects
        .packs()
        .iter()
        .filter(|pack| is_free(pack))
        .cloned()
        .collect();
    packs.sort_by_key(|pack| pack.num_objects());
    let mut smaller = 0;
    let mut end = 0;
    for (at, pack) in packs.iter().enumerate() {
        let count = u64::from(pack.num_objects());
        if at > 0 && count < GEOMETRIC_FACTOR * smaller {
            end = at + 1;
        }
        smaller += count;
    }
    packs.truncate(end);
    packs
}

fn list_all(objects: &Objects, joined: &[Arc<Pack>], loose: &[(ObjectId, Location)]) -> ObjectList {
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    for (place, pack) in (0u32..).zip(objects.packs()) {
        if joined.iter().any(|member| Arc::ptr_eq(member, pack)) {
            let listed = pack.objects().map(|(offset, id)| ListedObject {
                id,
                location: Location::Packed { pack: place, offset },
            });
            found.extend(listed.filter(|object| seen.insert(object.id)));
        }
    }
    let listed = loose.iter().map(|&(id, location)| ListedObject { id, location });
    found.extend(listed.filter(|object| seen.insert(object.id)));
    ObjectList::of(found)
}

impl From<copy::Error> for MaintainError {
    fn from(err: copy::Error) -> Self {
        match err {
            copy::Error::Ingest(err) => MaintainError::Ingest(err),
            copy::Error::Pipe(err) => MaintainError::Tidy(err),
            copy::Error::Write(err) => MaintainError::Write(err),
        }
    }
}

/// Makes sure that the new pack has every object of `list`. Counting is not enough: damage that zlib does not notice
/// makes an object another one, and the only good copy may be among the files that are about to go.
fn check_whole(pack: &Ingested, list: &ObjectList, hash: gix_hash::Kind) -> Result<(), MaintainError> {
    let index = gix_pack::index::File::at(&pack.index, hash)
        .map_err(|err| objects::Error::corrupt(pack.index.display(), err))?;
    match list
        .objects()
        .iter()
        .find(|object| index.lookup(object.id).is_none())
    {
        Some(missing) => Err(MaintainError::Incomplete { id: missing.id }),
        None => Ok(()),
    }
}

/// Removes what the new pack replaces: first what names the old packs, so that nobody is sent to one that is gone.
fn remove_joined(
    own: &Path,
    joined: &[Arc<Pack>],
    pack: &Ingested,
    loose: &[(ObjectId, Location)],
) -> io::Result<()> {
    let pack_dir = own.join("pack");
    if !joined.is_empty() {
        remove(&pack_dir.join("multi-pack-index"))?;
    }
    for old in joined
        .iter()
        .filter(|old| old.index_path().file_name() != pack.index.file_name())
    {
        for extension in ["idx", "bitmap", "rev", "mtimes", "pack"] {
            remove(&old.index_path().with_extension(extension))?;
        }
    }
    durable::sync_dir(&pack_dir)?;
    for (id, _) in loose {
        let hex = id.to_string();
        let (fan, rest) = hex.split_at_checked(2).unwrap_or((&hex, ""));
        let path: PathBuf = own.join(fan).join(rest);
        remove(&path)?;
    }
    Ok(())
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => Err(err),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::create;
    use crate::repository::testing::git_text;
    use std::collections::BTreeSet;

    fn git(dir: &Path, args: &[&str], input: &str) -> String {
        git_text(dir, args, input.as_bytes())
    }

    /// Two packs and some loose objects, one of them with a `.keep` if wanted.
    fn repository() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let git_dir = create(&dir.path().join("r.git"), gix_hash::Kind::Sha1, "main").unwrap();
        for round in 0..3 {
            let blobs: Vec<String> = (0..5)
                .map(|n| {
                    git(
                        &git_dir,
                        &["hash-object", "-w", "--stdin"],
                        &format!("{round} {n}"),
                    )
                })
                .collect();
            if round < 2 {
                let base = "objects/pack/pack";
                git(&git_dir, &["pack-objects", "-q", base], &blobs.concat());
                git(&git_dir, &["prune-packed"], "");
            }
        }
        (dir, git_dir)
    }

    fn ids(git_dir: &Path) -> BTreeSet<String> {
        let args = ["cat-file", "--batch-all-objects", "--batch-check"];
        git(git_dir, &args, "").lines().map(str::to_owned).collect()
    }

    fn packs(git_dir: &Path) -> Vec<PathBuf> {
        fs::read_dir(git_dir.join("objects/pack"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "pack"))
            .collect()
    }

    fn maintained(git_dir: &Path) -> Result<Maintained, MaintainError> {
        let repository = Arc::new(Repository::open(git_dir).unwrap());
        let limits = PushLimits {
            disk_reserve_bytes: 0,
            ..PushLimits::default()
        };
        maintain(&repository, &limits, &Interrupt::new())
    }

    #[test]
    fn small_packs_and_loose_objects_become_one_pack_that_has_them_all() {
        let (_dir, git_dir) = repository();
        git(&git_dir, &["multi-pack-index", "write"], "");
        let before = ids(&git_dir);
        let done = maintained(&git_dir).unwrap();
        assert_eq!((done.packs, done.loose, done.objects), (2, 5, 15));
        assert_eq!(ids(&git_dir), before);
        assert_eq!(packs(&git_dir).len(), 1);
        assert!(git(&git_dir, &["count-objects"], "").starts_with("0 objects"));
        git(&git_dir, &["fsck", "--strict"], "");
        assert_eq!(maintained(&git_dir).unwrap(), Maintained::default());
    }

    #[test]
    fn a_pack_that_is_to_be_kept_stays_as_it_is() {
        let (_dir, git_dir) = repository();
        let kept = packs(&git_dir).remove(0);
        fs::write(kept.with_extension("keep"), "").unwrap();
        let before = ids(&git_dir);
        maintained(&git_dir).unwrap();
        assert!(kept.exists());
        assert_eq!(ids(&git_dir), before);
    }

    #[test]
    fn nothing_is_removed_where_an_object_is_not_what_its_name_says() {
        let (_dir, git_dir) = repository();
        let loose = |text: &str| {
            let id = git(&git_dir, &["hash-object", "-w", "--stdin"], text);
            let (fan, rest) = id.trim().split_at(2);
            git_dir.join("objects").join(fan).join(rest)
        };
        let (odd, other) = (loose("odd"), loose("other"));
        fs::remove_file(&odd).unwrap();
        fs::rename(&other, &odd).unwrap();
        let before = packs(&git_dir);
        assert!(matches!(
            maintained(&git_dir),
            Err(MaintainError::Incomplete { .. })
        ));
        assert!(odd.exists());
        assert_eq!(packs(&git_dir), before);
    }
}
