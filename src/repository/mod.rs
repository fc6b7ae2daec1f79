//! Repositories: where they are, what their refs are at, which objects they hold, and how a push changes them.
//!
//! Owns the on-disk format of bare repositories (gitrepository-layout(5)): nothing above builds a path, takes a lock
//! file or assumes that it alone writes, because stock git and other processes may work on the same repository. Does
//! not know who may do what, nor the wire.
//!
//! Invariants: what is reported as done survives power loss; refs move only after the objects they need were moved in
//! ([`quarantine::Migrated`]); what a crash leaves is finished or removed by whoever opens the repository next.

mod create;
pub mod durable;
pub(crate) mod fault;
pub mod hidden;
mod initial_commit;
pub mod objects;
pub mod quarantine;
pub mod refs;
pub mod registry;
pub mod settings;
mod signature;
#[cfg(test)]
pub(crate) mod testing;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bstr::{BStr, BString};
use gix_hash::ObjectId;
use hashbrown::HashMap;

pub use create::create;
use refs::{RefChange, RefChangeError, RefSnapshot, RefStore};
pub use registry::Repositories;

/// What can go wrong with a repository on disk.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A name that HEAD cannot point at.
    #[error("'{name}' is not a branch: it must begin with 'refs/heads/' and be a name that git accepts")]
    BranchName {
        /// The name.
        name: BString,
    },
    /// A repository cannot have a name that differs from an existing one only in case.
    #[error("'{existing}' exists and differs only in the case of letters: use its spelling or another name")]
    CaseConflict {
        /// What exists, relative to the root.
        existing: String,
    },
    /// The repository's `config` cannot be parsed, or a value in it makes no sense.
    #[error("bad 'config' file in repository: {what}")]
    Config {
        /// What is wrong.
        what: String,
    },
    /// A repository of this name exists.
    #[error("repository '{path}' already exists")]
    Exists {
        /// Collection, project and name.
        path: String,
    },
    /// The repository uses an extension that is not supported.
    #[error("repository uses 'extensions.{name}', which is not supported: {hint}")]
    Extension {
        /// Name of the extension.
        name: String,
        /// What to do.
        hint: &'static str,
    },
    /// The repository has a newer format.
    #[error("repository has format version {version}; only 0 and 1 are supported: clone it anew")]
    FormatVersion {
        /// `core.repositoryFormatVersion`.
        version: i64,
    },
    /// HEAD is missing, malformed, or leads nowhere.
    #[error("HEAD is not a valid ref: point it at a branch with 'git symbolic-ref HEAD refs/heads/<branch>'")]
    Head,
    /// The system refused.
    #[error("cannot {action} '{}'", path.display())]
    Io {
        /// A verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A journal of a ref transaction that does not have its checksum: what it says cannot be trusted.
    #[error("ref journal '{}' is damaged: check the refs against a copy, then remove it", path.display())]
    Journal {
        /// The file.
        path: PathBuf,
    },
    /// Another program holds a lock.
    #[error(
        "unable to create '{lock}': file exists; another git process seems to be running in this repository"
    )]
    Locked {
        /// The lock file.
        lock: &'static str,
    },
    /// There is no such repository.
    #[error("repository '{path}' does not exist")]
    Missing {
        /// Collection, project and name.
        path: String,
    },
    /// The directory is not a repository.
    #[error("'{}' is not a git repository: it needs HEAD, objects and refs", path.display())]
    NotARepository {
        /// The directory.
        path: PathBuf,
    },
    /// A first commit was to be made where there is one.
    #[error("branch '{branch}' already exists")]
    NotEmpty {
        /// Full name of the branch.
        branch: BString,
    },
    /// Reading objects failed.
    #[error(transparent)]
    Objects(#[from] objects::Error),
    /// `packed-refs` is not as git writes it.
    #[error("bad 'packed-refs' file in repository: {what}")]
    PackedRefs {
        /// What is wrong.
        what: &'static str,
    },
    /// Other programs change refs faster than they can be listed.
    #[error("refs change faster than they can be read: try again")]
    RefsUnsettled,
    /// The repository's history is cut off.
    #[error("repository is shallow, which is not supported: complete it with 'git fetch --unshallow'")]
    Shallow,
    /// Another process is changing refs.
    #[error("another process is changing refs of this repository: try again")]
    TransactionBusy,
    /// Whoever wanted to move refs does not want to any more.
    #[error("the change was withdrawn before it began")]
    Withdrawn,
}

impl Error {
    fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Error::Io {
            action,
            path: path.to_owned(),
            source,
        }
    }
}

/// Says what was done to which path when the system refused.
trait IoContext<T> {
    /// Turns an I/O error into one that reads "cannot `action` '`path`'".
    fn at(self, action: &'static str, path: &Path) -> Result<T, Error>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, Error> {
        self.map_err(|error| Error::io(action, path, error))
    }
}

/// One repository. Shared between tasks; all methods may block on the disk.
#[derive(Debug)]
pub struct Repository {
    git_dir: PathBuf,
    object_hash: gix_hash::Kind,
    settings: settings::Settings,
    refs: RefStore,
    objects: Arc<objects::ObjectStore>,
    peeled: Mutex<PeelCache>,
}

impl Repository {
    /// Opens the repository whose git directory is `git_dir`: a bare one, or the `.git` of another.
    ///
    /// What a crash left (a ref transaction, lock files of patgate, quarantines) is finished or removed first.
    ///
    /// # Errors
    ///
    /// When it is no repository, or one of a format that is not served; the error says what to do.
    pub fn open(git_dir: &Path) -> Result<Repository, Error> {
        if !["objects", "refs"].iter().all(|name| git_dir.join(name).is_dir()) {
            return Err(Error::NotARepository {
                path: git_dir.to_owned(),
            });
        }
        let (settings, object_hash) = settings::read(git_dir)?;
        let shallow = git_dir.join("shallow");
        match std::fs::metadata(&shallow) {
            Ok(metadata) if metadata.len() > 0 => return Err(Error::Shallow),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).at("read", &shallow),
            _ => {}
        }
        let objects_dir = git_dir.join("objects");
        let repository = Repository {
            git_dir: git_dir.to_owned(),
            object_hash,
            refs: RefStore::new(git_dir.to_owned(), object_hash, settings.log_all_ref_updates),
            settings,
            objects: Arc::new(objects::ObjectStore::open(&objects_dir, object_hash)?),
            peeled: Mutex::default(),
        };
        repository.refs.head_target()?;
        // A repository that cannot be written to can still be read.
        if let Err(error) = repository.refs.recover(&mut |id| repository.peel(id)) {
            tracing::warn!(git_dir = %git_dir.display(), %error, "cannot recover what a crash left in refs");
        }
        if let Err(error) = quarantine::sweep(&objects_dir) {
            tracing::warn!(git_dir = %git_dir.display(), %error, "cannot remove quarantines that a crash left");
        }
        Ok(repository)
    }

    /// Returns the git directory.
    pub fn git_dir(&self) -> &Path {
        &self.git_dir
    }

    /// Returns the hash that objects are named by.
    pub fn object_hash(&self) -> gix_hash::Kind {
        self.object_hash
    }

    /// Returns how many bytes its packs have.
    ///
    /// # Errors
    ///
    /// When they cannot be listed.
    pub fn packs_bytes(&self) -> Result<u64, Error> {
        let dir = self.git_dir.join("objects").join("pack");
        let entries = match std::fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(error).at("list", &dir),
        };
        let mut bytes = 0u64;
        for entry in entries {
            let entry = entry.at("list", &dir)?;
            if entry
                .path()
                .extension()
                .is_some_and(|extension| extension == "pack")
            {
                // One that was just joined with others is gone.
                bytes = bytes.saturating_add(entry.metadata().map_or(0, |metadata| metadata.len()));
            }
        }
        Ok(bytes)
    }

    /// Returns what the repository's own configuration said when it was opened.
    pub fn settings(&self) -> &settings::Settings {
        &self.settings
    }

    /// Returns one consistent snapshot of all refs: a state that they were in at a moment of this call. The same `Arc`
    /// is given while nothing changed on disk.
    ///
    /// # Errors
    ///
    /// When files cannot be read, `packed-refs` or HEAD is malformed, or other programs do not let the refs settle.
    pub fn refs(&self) -> Result<Arc<RefSnapshot>, Error> {
        self.refs.snapshot(&mut |id| self.peel(id))
    }

    /// Returns a handle for reading objects: one for each task. It sees packs that appear later.
    ///
    /// # Errors
    ///
    /// When the packs changed and cannot be listed anew.
    pub fn objects(&self) -> Result<objects::Objects, Error> {
        Ok(self.objects.handle()?)
    }

    /// Returns the object database.
    pub fn object_store(&self) -> &Arc<objects::ObjectStore> {
        &self.objects
    }

    /// Returns what the tag `id` finally points at; `None` if `id` is not a tag, or leads to what is not there. Answers
    /// that cannot change are remembered, within bounds.
    ///
    /// # Errors
    ///
    /// When the object cannot be read.
    pub fn peel(&self, id: ObjectId) -> Result<Option<ObjectId>, Error> {
        let cache = || self.peeled.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(peeled) = cache().find(&id) {
            return Ok(peeled);
        }
        let mut objects = self.objects()?;
        let peeled = objects.peel(id)?;
        // What is not there may still come: from a backup, or by somebody who pushes it again.
        let is_for_good = peeled.is_some()
            || objects
                .kind(&id)?
                .is_some_and(|kind| kind != gix_object::Kind::Tag);
        if is_for_good {
            cache().insert(id, peeled);
        }
        Ok(peeled)
    }

    /// Makes a fresh, empty quarantine.
    ///
    /// # Errors
    ///
    /// When its directories cannot be made.
    pub fn quarantine(&self) -> Result<quarantine::Quarantine, Error> {
        let objects_dir = self.git_dir.join("objects");
        quarantine::Quarantine::new(&objects_dir, &self.objects).at("make a quarantine in", &objects_dir)
    }

    /// Moves refs by compare-and-swap, durably. One result for each change, in order: with `atomic` either all are `Ok`
    /// or none, without it each that can move does.
    ///
    /// `committer` goes to reflogs: `Name <email>`, with or without ` seconds ±hhmm` after it.
    ///
    /// # Errors
    ///
    /// When the system fails. Then either nothing moved, or all that was found possible will have moved before anybody
    /// reads the refs again; which of the two the next snapshot shows.
    pub fn update_refs(
        &self,
        migrated: &quarantine::Migrated,
        changes: &[RefChange],
        atomic: bool,
        committer: &str,
    ) -> Result<Vec<Result<(), RefChangeError>>, Error> {
        self.update_refs_if(migrated, changes, atomic, committer, &mut || true)
    }

    /// The same, unless `may_begin` says no: it is asked when it is this transaction's turn, which may have taken
    /// seconds to come, and nothing was moved yet.
    ///
    /// # Errors
    ///
    /// As [`Repository::update_refs`], and [`Error::Withdrawn`] after a no.
    pub fn update_refs_if(
        &self,
        _migrated: &quarantine::Migrated,
        changes: &[RefChange],
        atomic: bool,
        committer: &str,
        may_begin: &mut dyn FnMut() -> bool,
    ) -> Result<Vec<Result<(), RefChangeError>>, Error> {
        let committer = signature::complete(committer);
        self.refs
            .update(changes, atomic, committer.as_bytes(), may_begin, &mut |id| {
                self.peel(id)
            })
    }

    /// Points HEAD at a branch, which may be unborn.
    ///
    /// # Errors
    ///
    /// When `branch` is no full branch name, HEAD is locked, or the system fails.
    pub fn set_head(&self, branch: &BStr) -> Result<(), Error> {
        self.refs.set_head(branch, &mut |id| self.peel(id))
    }
}

/// What objects that are there peel to. They never change, so nothing here is ever outdated; the older half is dropped
/// when the younger is full.
#[derive(Debug, Default)]
struct PeelCache {
    young: HashMap<ObjectId, Option<ObjectId>>,
    old: HashMap<ObjectId, Option<ObjectId>>,
}

impl PeelCache {
    /// Entries of one half: at some 80 bytes each, both halves stay below 3 MB a repository.
    const HALF_COUNT_MAX: usize = 16_384;

    fn find(&self, id: &ObjectId) -> Option<Option<ObjectId>> {
        self.young.get(id).or_else(|| self.old.get(id)).copied()
    }

    fn insert(&mut self, id: ObjectId, peeled: Option<ObjectId>) {
        if self.young.len() >= PeelCache::HALF_COUNT_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(id, peeled);
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{Fixture, git_id};

    #[test]
    fn a_tag_that_was_not_there_is_peeled_once_it_is() {
        let fixture = Fixture::new(1);
        let (dir, commit) = (fixture.dir(), fixture.commits[0]);
        let text = format!("object {commit}\ntype commit\ntag t\ntagger a <a@b> 0 +0000\n\nt\n");
        let tag = git_id(&dir, &["mktag"], text.as_bytes());
        let path = |id: String| dir.join("objects").join(&id[..2]).join(&id[2..]);
        let aside = dir.join("aside");
        let repository = fixture.open();
        for taken_away in [tag, commit] {
            let object = path(taken_away.to_string());
            std::fs::rename(&object, &aside).unwrap();
            assert_eq!(repository.peel(tag).unwrap(), None);
            std::fs::rename(&aside, &object).unwrap();
        }
        assert_eq!(repository.peel(tag).unwrap(), Some(commit));
        assert_eq!(repository.peel(commit).unwrap(), None);
    }
}
