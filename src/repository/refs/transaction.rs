//! Moving refs: from changes that a client asks for to locked moves that are sure to succeed.
//!
//! Every ref is locked with the lock file that stock git takes for it, and read and compared under that lock. The
//! order of checks and the words of refusals are those of git's `refs/files-backend.c`.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use bstr::{BStr, BString, ByteSlice};
use gix_hash::ObjectId;

use super::journal::Move;
use super::lock::{LockError, LockFile, Turn};
use super::loose::{self, Raw};
use super::reflog::remove_empty_dirs;
use super::scan::PackedFile;
use super::snapshot::{Resolved, resolve};
use super::{RefChange, RefChangeError, is_valid_name, parents};
use crate::repository::{Error, IoContext};

/// More updates than this go into one rewrite of `packed-refs` instead of a file each, which costs two fsyncs.
pub(super) const LOOSE_UPDATES_MAX: usize = 64;

/// How often a directory is made again that others keep removing because it is empty.
const DIRECTORY_ATTEMPTS: usize = 5;

/// One change whose name is checked and resolved.
#[derive(Debug)]
pub(super) struct Item {
    /// Which of the changes it is.
    pub(super) index: usize,
    /// What moves: the end of a chain of symbolic refs.
    pub(super) one: Move,
}

/// A ref that is locked, was found where it should be, and has to move.
#[derive(Debug)]
pub(super) struct Locked {
    pub(super) index: usize,
    pub(super) one: Move,
    pub(super) _lock: LockFile,
}

/// Why a ref cannot be locked: for a reason of its own, or one that ends the transaction.
#[derive(Debug)]
pub(super) enum Failure {
    Refused(RefChangeError),
    Fatal(Error),
}

impl From<RefChangeError> for Failure {
    fn from(error: RefChangeError) -> Self {
        Failure::Refused(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Fatal(error)
    }
}

/// The result of each change; `None` while it is open.
pub(super) type Results = Vec<Option<Result<(), RefChangeError>>>;

/// Checks names, resolves symbolic refs, and settles changes that name one ref twice through them.
///
/// The second part of the answer says of changes which other change they share the result of.
pub(super) fn plan(
    git_dir: &Path,
    hash: gix_hash::Kind,
    packed: &PackedFile,
    changes: &[RefChange],
    results: &mut Results,
) -> Result<(Vec<Item>, Vec<(usize, usize)>), Error> {
    let by_name: HashMap<&BStr, usize> = changes
        .iter()
        .enumerate()
        .rev()
        .map(|(index, change)| (change.name.as_bstr(), index))
        .collect();
    let mut items = Vec::with_capacity(changes.len());
    let mut shared = Vec::new();
    for (index, change) in changes.iter().enumerate() {
        let name = match final_name(git_dir, hash, packed, change)? {
            Ok(name) => name,
            Err(error) => {
                settle(results, index, Err(error));
                continue;
            }
        };
        if name != change.name
            && let Some(&target) = by_name.get(name.as_bstr())
        {
            if changes
                .get(target)
                .is_some_and(|other| other.old == change.old && other.new == change.new)
            {
                shared.push((index, target));
            } else {
                let error = RefChangeError::InconsistentAlias {
                    name: change.name.clone(),
                    target: name,
                };
                settle(results, index, Err(error.clone()));
                settle(results, target, Err(error));
            }
            continue;
        }
        items.push(Item {
            index,
            one: Move {
                name,
                old: change.old,
                new: change.new,
            },
        });
    }
    items.retain(|item| results.get(item.index).is_some_and(Option::is_none));
    Ok((items, shared))
}

fn final_name(
    git_dir: &Path,
    hash: gix_hash::Kind,
    packed: &PackedFile,
    change: &RefChange,
) -> Result<Result<BString, RefChangeError>, Error> {
    let name = change.name.clone();
    if !is_valid_name(name.as_bstr()) {
        return Ok(Err(RefChangeError::InvalidName { name }));
    }
    let read = |name: &BStr| loose::read(&loose::path(git_dir, name), hash);
    let target = match read(name.as_bstr()) {
        Ok(Some(Raw::Symref(target))) => target,
        Ok(_) => return Ok(Ok(name)),
        // Names that are too long for the file system get their error where they are locked.
        Err(error) if error.kind() == io::ErrorKind::InvalidFilename => return Ok(Ok(name)),
        Err(error) => return Err(error).at("read", &loose::path(git_dir, name.as_bstr())),
    };
    let find = |name: &BStr| match read(name) {
        Ok(Some(raw)) => Some(raw),
        Ok(None) => packed.refs.find(name).map(|entry| Raw::Id(entry.id)),
        Err(_) => Some(Raw::Broken),
    };
    Ok(match resolve(target, &find) {
        Resolved::At(target, _) | Resolved::Unborn(target) => Ok(target),
        Resolved::Broken => Err(RefChangeError::BrokenSymref { name }),
    })
}

/// Sets the result of a change that has none yet.
pub(super) fn settle(results: &mut Results, index: usize, result: Result<(), RefChangeError>) {
    if let Some(slot) = results.get_mut(index)
        && slot.is_none()
    {
        *slot = Some(result);
    }
}

/// Names that are to be locked together, to find those that exclude one another.
#[derive(Debug, Default)]
pub(super) struct NamesTogether {
    names: HashSet<BString>,
    /// Every proper prefix of `names`, with one of those.
    dirs: HashMap<BString, BString>,
}

impl NamesTogether {
    /// Adds `name`, or says what it cannot go together with.
    pub(super) fn add(&mut self, name: &BStr) -> Result<(), RefChangeError> {
        let conflict = |other: &BStr| {
            Err(RefChangeError::ConflictWithin {
                name: name.to_owned(),
                other: other.to_owned(),
            })
        };
        if self.names.contains(name.as_bytes().as_bstr()) {
            return Err(RefChangeError::Duplicate {
                name: name.to_owned(),
            });
        }
        if let Some(parent) = parents(name).find(|parent| self.names.contains(*parent)) {
            return conflict(parent);
        }
        if let Some(other) = self.dirs.get(name) {
            return conflict(other.as_bstr());
        }
        for parent in parents(name) {
            if !self.dirs.contains_key(parent) {
                self.dirs.insert(parent.to_owned(), name.to_owned());
            }
        }
        self.names.insert(name.to_owned());
        Ok(())
    }
}

/// Locks refs one after the other and compares them with what they should be at.
#[derive(Debug)]
pub(super) struct Locker<'a> {
    pub(super) git_dir: &'a Path,
    pub(super) hash: gix_hash::Kind,
    pub(super) turn: &'a mut Turn,
    pub(super) packed: PackedFile,
    /// Prefixes that were seen not to be refs.
    dirs: HashSet<BString>,
}

impl<'a> Locker<'a> {
    pub(super) fn new(
        git_dir: &'a Path,
        hash: gix_hash::Kind,
        turn: &'a mut Turn,
        packed: PackedFile,
    ) -> Self {
        Locker {
            git_dir,
            hash,
            turn,
            packed,
            dirs: HashSet::new(),
        }
    }

    /// Locks one ref; `None` where it is to be deleted and a file is in the place of its directory.
    pub(super) fn lock(&mut self, item: &Item) -> Result<Option<LockFile>, Failure> {
        let name = item.one.name.as_bstr();
        if item.one.new.is_some() {
            // Once more under the lock; here it keeps a directory from being made where a ref is.
            self.check_parents(name)?;
        }
        self.lock_file(name, item.one.new.is_none())
    }

    /// Looks at `packed-refs` again, when all refs are locked: from then on nobody can move one of them there from its
    /// loose file, so once is enough.
    pub(super) fn all_locked(&mut self) -> Result<(), Error> {
        self.dirs.clear();
        self.packed.refresh(self.git_dir, self.hash)
    }

    /// Compares a locked ref with what it should be at, and tells whether it has to move.
    pub(super) fn check(&mut self, one: &Move, lock: Option<&LockFile>) -> Result<bool, Failure> {
        let name = one.name.as_bstr();
        if lock.is_none() {
            // Nothing can be there, nor be put there while a file is in the place of its directory.
            compare(one, None)?;
            return Ok(false);
        }
        if one.new.is_some() {
            self.check_parents(name)?;
        }
        let (current, is_broken) = self.current(name)?;
        if is_broken && (one.new.is_some() || one.old.is_some()) {
            return Err(RefChangeError::Broken {
                name: one.name.clone(),
            }
            .into());
        }
        compare(one, current)?;
        if current.is_none() && one.new.is_some() {
            self.check_children(name)?;
        }
        Ok(current != one.new || is_broken)
    }

    /// Makes the lock file of `name`. `None`: the ref is to be deleted, and a file is in the place of its directory.
    pub(super) fn lock_file(&mut self, name: &BStr, is_deletion: bool) -> Result<Option<LockFile>, Failure> {
        let path = loose::path(self.git_dir, name);
        let mut lock_path = path.clone().into_os_string();
        lock_path.push(".lock");
        let unwritable = |error: io::Error| {
            let kind = error.kind();
            if matches!(
                kind,
                io::ErrorKind::InvalidFilename | io::ErrorKind::NotADirectory
            ) {
                Failure::Refused(RefChangeError::Unwritable {
                    name: name.to_owned(),
                    reason: error.to_string(),
                })
            } else {
                Failure::Fatal(Error::io("lock", &path, error))
            }
        };
        for _ in 0..DIRECTORY_ATTEMPTS {
            match self.turn.lock(lock_path.clone().into()) {
                Ok(lock) => return Ok(Some(lock)),
                Err(LockError::Held) => {
                    let lock = lock_name(name);
                    return Err(RefChangeError::Locked {
                        name: name.to_owned(),
                        lock,
                    }
                    .into());
                }
                Err(LockError::Io(error)) if is_deletion && error.kind() == io::ErrorKind::NotADirectory => {
                    return Ok(None);
                }
                Err(LockError::Io(error)) => return Err(unwritable(error)),
                Err(LockError::NoDirectory) => {
                    let Some(parent) = path.parent() else { break };
                    match fs::create_dir_all(parent) {
                        // Somebody removed a directory above again, or made the same one.
                        Err(error)
                            if matches!(
                                error.kind(),
                                io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists
                            ) => {}
                        Err(error) => return Err(unwritable(error)),
                        Ok(()) => {}
                    }
                }
            }
        }
        let reason = "its directory does not stay".to_owned();
        Err(RefChangeError::Unwritable {
            name: name.to_owned(),
            reason,
        }
        .into())
    }

    /// Reads where a locked ref is, and whether its file is broken.
    pub(super) fn current(&self, name: &BStr) -> Result<(Option<ObjectId>, bool), Failure> {
        let path = loose::path(self.git_dir, name);
        match loose::read(&path, self.hash).at("read", &path)? {
            Some(Raw::Id(id)) => Ok((Some(id), false)),
            Some(Raw::Broken) => Ok((None, true)),
            // It became a symbolic ref after it had been resolved: as good as changed by whoever had the lock.
            Some(Raw::Symref(_)) => {
                let lock = lock_name(name);
                Err(RefChangeError::Locked {
                    name: name.to_owned(),
                    lock,
                }
                .into())
            }
            None => Ok((self.packed.refs.find(name).map(|entry| entry.id), false)),
        }
    }

    /// Refuses a name below that of an existing ref.
    fn check_parents(&mut self, name: &BStr) -> Result<(), Failure> {
        for parent in parents(name) {
            if self.dirs.contains(parent) {
                continue;
            }
            let path = loose::path(self.git_dir, parent);
            let is_loose = match fs::symlink_metadata(&path) {
                Ok(metadata) => !metadata.is_dir(),
                Err(_) => false,
            };
            if is_loose || self.packed.refs.find(parent).is_some() {
                let (name, existing) = (name.to_owned(), parent.to_owned());
                return Err(RefChangeError::Conflict { name, existing }.into());
            }
            self.dirs.insert(parent.to_owned());
        }
        Ok(())
    }

    /// Refuses a name that existing refs need as a directory, and removes empty directories that have it.
    fn check_children(&mut self, name: &BStr) -> Result<(), Failure> {
        let mut prefix = name.to_owned();
        prefix.push(b'/');
        let packed = self.packed.refs.prefix_range(prefix.as_bstr());
        let packed = packed
            .take(1)
            .find_map(|index| Some(self.packed.refs.entry(index)?.name.to_owned()));
        let path = loose::path(self.git_dir, name);
        let existing = match packed {
            Some(existing) => Some(existing),
            None => loose_below(&path, name).at("list", &path)?,
        };
        if let Some(existing) = existing {
            return Err(RefChangeError::Conflict {
                name: name.to_owned(),
                existing,
            }
            .into());
        }
        remove_empty_dirs(&path);
        if path.is_dir() {
            return Err(RefChangeError::Blocked {
                name: name.to_owned(),
            }
            .into());
        }
        Ok(())
    }
}

fn compare(one: &Move, actual: Option<ObjectId>) -> Result<(), RefChangeError> {
    let name = one.name.clone();
    match (actual, one.old) {
        (actual, old) if actual == old => Ok(()),
        (Some(actual), Some(expected)) => Err(RefChangeError::Moved {
            name,
            actual,
            expected,
        }),
        (None, Some(expected)) => Err(RefChangeError::Missing { name, expected }),
        _ => Err(RefChangeError::Exists { name }),
    }
}

/// The lock file of a ref, relative to the git directory.
fn lock_name(name: &BStr) -> BString {
    let mut lock = name.to_owned();
    lock.extend_from_slice(b".lock");
    lock
}

/// Finds any file below the directory `path` that is a ref.
fn loose_below(path: &Path, name: &BStr) -> io::Result<Option<BString>> {
    if !fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir()) {
        return Ok(None);
    }
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let file_name = entry.file_name();
        let mut below = name.to_owned();
        below.push(b'/');
        below.extend_from_slice(file_name.as_bytes());
        if entry.file_type()?.is_dir() {
            if let Some(found) = loose_below(&entry.path(), below.as_bstr())? {
                return Ok(Some(found));
            }
        } else if is_valid_name(below.as_bstr()) {
            return Ok(Some(below));
        }
    }
    Ok(None)
}
