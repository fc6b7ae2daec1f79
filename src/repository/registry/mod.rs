//! All repositories below one root. The folder is the truth: nothing is remembered that a look at the disk does not
//! confirm.
//!
//! The layout is `<root>/<collection>/<project>/<name>.git`. Names were checked by [`crate::names`], so they are single
//! path components; symbolic links are not followed unless the operator wants it, and entries whose names begin with a
//! dot are this module's own.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use hashbrown::HashMap;

use super::refs::Stat;
use super::{Error, IoContext, Repository, create, durable};
use crate::names::{self, AccessPath, RepoPath};

/// Beginning of the names of repositories that are being made.
const NEW_PREFIX: &str = ".patgate-new-";

/// Beginning of the names of repositories that are being removed.
const TRASH_PREFIX: &str = ".patgate-trash-";

/// Beginning of the names of what must not be removed, although it has no name.
const KEPT_PREFIX: &str = ".patgate-kept-";

/// Repositories kept open when nothing else is said; each holds its packs mapped.
const OPEN_REPOSITORIES_MAX: usize = 256;

/// How often a directory is made again that others keep removing because it is empty.
const DIRECTORY_ATTEMPTS: usize = 5;

/// How to treat the root.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Follow symbolic links, also out of the root.
    pub follow_symlinks: bool,
    /// Repositories kept open at once; 0 for the default of 256.
    pub open_repositories_max: usize,
}

/// How to make a repository.
#[derive(Debug, Clone)]
pub struct CreateOptions {
    /// The hash that objects are named by.
    pub object_hash: gix_hash::Kind,
    /// Branch that HEAD points at: `main`, or in full `refs/heads/main`.
    pub default_branch: String,
}

/// A directory in the root that no sweep takes for a leftover while it is held; it is removed when dropped.
#[derive(Debug)]
struct Held {
    dir: tempfile::TempDir,
    _alive: File,
}

impl Held {
    fn new(prefix: &str, root: &Path) -> Result<Held, Error> {
        let dir = tempfile::Builder::new()
            .prefix(prefix)
            .tempdir_in(root)
            .at("write in", root)?;
        let alive = File::open(dir.path()).at("open", dir.path())?;
        alive.lock().at("lock", dir.path())?;
        Ok(Held { dir, _alive: alive })
    }

    fn git_dir(&self) -> PathBuf {
        self.dir.path().join("repository.git")
    }
}

/// A repository that has no name yet; it is removed when dropped.
#[derive(Debug)]
pub struct New(Held);

impl New {
    /// Opens it, to be filled before it gets its name.
    ///
    /// # Errors
    ///
    /// When the system fails.
    pub fn open(&self) -> Result<Repository, Error> {
        Repository::open(&self.0.git_dir())
    }
}

/// A repository that has lost its name, and can have it back; it is removed when dropped.
#[derive(Debug)]
pub struct Discarded {
    held: Held,
    path: RepoPath,
}

impl Discarded {
    /// Removes its files. What cannot be removed is left to the next sweep.
    pub fn remove(self) {
        let place = self.held.dir.path().to_owned();
        if let Err(error) = self.held.dir.close() {
            tracing::warn!(path = %place.display(), %error, "files of a deleted repository are left to the next sweep");
        }
    }

    /// Keeps its files where no sweep removes them, and returns where.
    fn keep(self, root: &Path) -> PathBuf {
        let place = self.held.dir.keep();
        let suffix = place.file_name().map(|name| name.to_string_lossy().into_owned());
        let kept = root.join(format!(
            "{KEPT_PREFIX}{}",
            suffix.unwrap_or_default().trim_start_matches(TRASH_PREFIX)
        ));
        match durable::rename(&place, &kept) {
            Ok(()) => kept,
            Err(error) => {
                tracing::error!(path = %place.display(), %error, "move this away before the next start, which removes it");
                place
            }
        }
    }
}

/// All repositories below one root.
#[derive(Debug)]
pub struct Repositories {
    root: PathBuf,
    options: Options,
    open: Mutex<OpenRepositories>,
    /// Held while names change, so that two that differ in case are not made at once.
    changing: Mutex<()>,
}

impl Repositories {
    /// Makes the root if it is missing.
    ///
    /// # Errors
    ///
    /// When it cannot be made or is no directory.
    pub fn at(root: PathBuf, options: Options) -> Result<Repositories, Error> {
        durable::create_dirs(&root).at("make", &root)?;
        let root = root.canonicalize().at("open", &root)?;
        Ok(Repositories {
            root,
            options,
            open: Mutex::default(),
            changing: Mutex::default(),
        })
    }

    /// Returns the root, absolute and without symbolic links.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Finds the repository that a URL means, spelled as on disk; `None` if there is none. Case does not matter, but
    /// of several that differ in it only, the one spelled as asked comes first.
    ///
    /// # Errors
    ///
    /// When a directory cannot be listed.
    pub fn locate(&self, path: &RepoPath) -> Result<Option<RepoPath>, Error> {
        if self.is_repository(path) {
            return Ok(Some(path.clone()));
        }
        for collection in self.spellings(&self.root, path.collection(), "")? {
            let collection_dir = self.root.join(&collection);
            for project in self.spellings(&collection_dir, path.project(), "")? {
                let project_dir = collection_dir.join(&project);
                for name in self.spellings(&project_dir, path.repository(), ".git")? {
                    match RepoPath::new(&collection, &project, &name) {
                        Ok(found) if self.is_repository(&found) => return Ok(Some(found)),
                        _ => {}
                    }
                }
            }
        }
        Ok(None)
    }

    /// Opens `path`, spelled as [`Repositories::locate`] gave it. The same `Arc` is given while the repository on disk
    /// and its configuration are the same.
    ///
    /// # Errors
    ///
    /// When there is no such repository, or it cannot be opened.
    pub fn open(&self, path: &RepoPath) -> Result<Arc<Repository>, Error> {
        if !self.is_repository(path) {
            return Err(Error::Missing {
                path: path.to_string(),
            });
        }
        let git_dir = self.git_dir(path);
        let key = OpenKey::of(&git_dir)?;
        let open = || self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(repository) = open().find(path, &key) {
            return Ok(repository);
        }
        // Not under the lock: opening may have to recover what a crash left. Of two that race the later one stays.
        let repository = Arc::new(Repository::open(&git_dir)?);
        let count_max = match self.options.open_repositories_max {
            0 => OPEN_REPOSITORIES_MAX,
            count => count,
        };
        open().insert(path.clone(), key, Arc::clone(&repository), count_max);
        Ok(repository)
    }

    /// Lists all repositories, sorted.
    ///
    /// # Errors
    ///
    /// When a directory cannot be listed.
    pub fn list(&self) -> Result<Vec<RepoPath>, Error> {
        self.list_below(&AccessPath::Server)
    }

    /// Lists the repositories of a part of the server, sorted; case does not matter.
    ///
    /// # Errors
    ///
    /// When a directory cannot be listed.
    pub fn list_below(&self, place: &AccessPath) -> Result<Vec<RepoPath>, Error> {
        let (collection, project) = match place {
            AccessPath::Server => (None, None),
            AccessPath::Collection(collection) => (Some(collection.as_str()), None),
            AccessPath::Project(collection, project) => (Some(collection.as_str()), Some(project.as_str())),
            AccessPath::Repository(path) => return Ok(self.locate(path)?.into_iter().collect()),
        };
        let named = |dir: &Path, name: Option<&str>| match name {
            Some(name) => self.spellings(dir, name, ""),
            None => self.dir_names(dir),
        };
        let mut all = Vec::new();
        for collection in named(&self.root, collection)? {
            let collection_dir = self.root.join(&collection);
            for project in named(&collection_dir, project)? {
                for name in self.dir_names(&collection_dir.join(&project))? {
                    let Some(name) = name.strip_suffix(".git") else {
                        continue;
                    };
                    match RepoPath::new(&collection, &project, name) {
                        Ok(path) if self.is_repository(&path) => all.push(path),
                        _ => {}
                    }
                }
            }
        }
        all.sort();
        Ok(all)
    }

    /// Spells the collection and the project of `path` as they are spelled on disk, where there are such: a repository
    /// can then be made in them.
    ///
    /// # Errors
    ///
    /// When a directory cannot be listed.
    pub fn spell(&self, path: &RepoPath) -> Result<RepoPath, Error> {
        let own = |dir: &Path, name: &str| -> Result<String, Error> {
            let found = self.spellings(dir, name, "")?.into_iter().next();
            Ok(found.unwrap_or_else(|| name.to_owned()))
        };
        let collection = own(&self.root, path.collection())?;
        let project = own(&self.root.join(&collection), path.project())?;
        // They are names on disk, which were checked when they were listed, or those of the path.
        Ok(RepoPath::new(&collection, &project, path.repository()).unwrap_or_else(|_| path.clone()))
    }

    /// Tells when the folder of a repository was last changed, as a new repository and changed refs do; `None` if there is
    /// no such repository. The path is spelled as on disk.
    ///
    /// # Errors
    ///
    /// When the system fails.
    pub fn changed_at(&self, path: &RepoPath) -> Result<Option<SystemTime>, Error> {
        let dir = self.git_dir(path);
        match fs::metadata(&dir).and_then(|metadata| metadata.modified()) {
            Ok(time) => Ok(Some(time)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).at("read", &dir),
        }
    }

    /// Makes an empty repository, durably: it is there whole or not at all.
    ///
    /// # Errors
    ///
    /// When a repository, or a directory on the way, has the name but for the case of letters; when the branch name is
    /// invalid; when the system fails.
    pub fn create(&self, path: &RepoPath, options: &CreateOptions) -> Result<Arc<Repository>, Error> {
        self.require_free(path)?;
        self.place(&self.prepare(options)?, path)?;
        self.open(path)
    }

    /// Tells whether there can be a new repository `path`.
    ///
    /// # Errors
    ///
    /// As [`Repositories::create`].
    pub fn require_free(&self, path: &RepoPath) -> Result<(), Error> {
        self.check_free(path, None)
    }

    /// Makes an empty repository that has no name yet; [`Repositories::place`] gives it one.
    ///
    /// # Errors
    ///
    /// When the branch name is invalid, or the system fails.
    pub fn prepare(&self, options: &CreateOptions) -> Result<New, Error> {
        let new = New(Held::new(NEW_PREFIX, &self.root)?);
        create(&new.0.git_dir(), options.object_hash, &options.default_branch)?;
        Ok(new)
    }

    /// Gives a new repository its name, durably; takes milliseconds.
    ///
    /// # Errors
    ///
    /// When the name is taken, as for [`Repositories::create`], or the system fails.
    pub fn place(&self, new: &New, path: &RepoPath) -> Result<(), Error> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        self.check_free(path, None)?;
        self.put(&new.0.git_dir(), path)
    }

    /// Moves a repository, durably: it is moved or it is not. Whoever has it open goes on reading it until the next
    /// request.
    ///
    /// # Errors
    ///
    /// When there is no `from`, when `to` is taken as for [`Repositories::create`], or when the system fails.
    pub fn rename(&self, from: &RepoPath, to: &RepoPath) -> Result<(), Error> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.is_repository(from) {
            return Err(Error::Missing {
                path: from.to_string(),
            });
        }
        if from == to {
            return Ok(());
        }
        self.check_free(to, Some(from))?;
        self.forget(from);
        self.put(&self.git_dir(from), to)?;
        self.remove_empty_parents(from);
        Ok(())
    }

    /// Removes a repository. It is gone at once; its files follow, at the next sweep if need be.
    ///
    /// # Errors
    ///
    /// When there is no such repository, or the system fails.
    pub fn delete(&self, path: &RepoPath) -> Result<(), Error> {
        self.discard(path).map(Discarded::remove)
    }

    /// Takes a repository its name, durably; it is there or it is not. Takes milliseconds.
    ///
    /// # Errors
    ///
    /// When there is no such repository, or the system fails.
    pub fn discard(&self, path: &RepoPath) -> Result<Discarded, Error> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.is_repository(path) {
            return Err(Error::Missing {
                path: path.to_string(),
            });
        }
        self.forget(path);
        let held = Held::new(TRASH_PREFIX, &self.root)?;
        let discarded = Discarded {
            held,
            path: path.clone(),
        };
        if let Err(error) = move_durably(&self.git_dir(path), &discarded.held.git_dir()) {
            // It could not be moved back: dropped, it would be lost.
            if discarded.held.git_dir().exists() {
                let kept = discarded.keep(&self.root);
                tracing::error!(repository = %path, kept = %kept.display(), "move the repository back by hand");
            }
            return Err(error);
        }
        self.remove_empty_parents(path);
        Ok(discarded)
    }

    /// Gives a repository its name back.
    ///
    /// # Errors
    ///
    /// When something else has the name by now, or the system fails; its files are kept then, in the place that is
    /// returned.
    pub fn restore(&self, discarded: Discarded) -> Result<(), (Error, PathBuf)> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let path = &discarded.path;
        let outcome = self
            .check_free(path, None)
            .and_then(|()| self.put(&discarded.held.git_dir(), path));
        outcome.map_err(|error| (error, discarded.keep(&self.root)))
    }

    /// Removes what crashes left in the root, and lets every repository recover. What cannot be recovered is logged
    /// and passed over.
    ///
    /// # Errors
    ///
    /// When the root cannot be listed.
    pub fn sweep(&self) -> Result<(), Error> {
        for entry in fs::read_dir(&self.root).at("list", &self.root)?.flatten() {
            let name = entry.file_name();
            let is_own = [NEW_PREFIX, TRASH_PREFIX]
                .iter()
                .any(|prefix| name.as_encoded_bytes().starts_with(prefix.as_bytes()));
            if is_own && let Err(error) = remove_if_left(&entry.path()) {
                tracing::warn!(path = %entry.path().display(), %error, "cannot remove what a crash left");
            }
        }
        for path in self.list()? {
            if let Err(error) = Repository::open(&self.git_dir(&path)) {
                tracing::warn!(repository = %path, %error, "repository cannot be served");
            }
        }
        Ok(())
    }

    fn git_dir(&self, path: &RepoPath) -> PathBuf {
        let name = format!("{}.git", path.repository());
        self.root.join(path.collection()).join(path.project()).join(name)
    }

    /// Tells whether `path` leads to a repository over directories that may be followed.
    fn is_repository(&self, path: &RepoPath) -> bool {
        let git_dir = self.git_dir(path);
        git_dir.ancestors().skip(1).take(2).all(|dir| self.is_dir(dir))
            && self.is_dir(&git_dir)
            && ["objects", "refs"]
                .iter()
                .all(|name| self.is_dir(&git_dir.join(name)))
            && git_dir.join("HEAD").symlink_metadata().is_ok()
    }

    fn is_dir(&self, path: &Path) -> bool {
        let metadata = if self.options.follow_symlinks {
            path.metadata()
        } else {
            path.symlink_metadata()
        };
        metadata.is_ok_and(|metadata| metadata.is_dir())
    }

    /// The valid UTF-8 names of the directories in `dir`, sorted; none if there is no `dir`.
    fn dir_names(&self, dir: &Path) -> Result<Vec<String>, Error> {
        if !self.is_dir(dir) {
            return Ok(Vec::new());
        }
        let entries = match fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).at("list", dir),
        };
        let mut all = Vec::new();
        for entry in entries {
            let Ok(name) = entry.at("list", dir)?.file_name().into_string() else {
                continue;
            };
            let is_name = names::check(name.strip_suffix(".git").unwrap_or(&name)).is_ok();
            if is_name && self.is_dir(&dir.join(&name)) {
                all.push(name);
            }
        }
        all.sort();
        Ok(all)
    }

    /// The names of directories in `dir` that are `name` and `suffix` but for the case of letters in `name`, without
    /// the suffix, the one spelled as asked first.
    fn spellings(&self, dir: &Path, name: &str, suffix: &str) -> Result<Vec<String>, Error> {
        let wanted = name.to_lowercase();
        let mut found: Vec<String> = self
            .dir_names(dir)?
            .iter()
            .filter_map(|found| found.strip_suffix(suffix))
            .filter(|found| found.to_lowercase() == wanted)
            .map(str::to_owned)
            .collect();
        found.sort_by_key(|found| found != name);
        Ok(found)
    }

    /// Refuses `path` if it, or a directory on the way to it, exists in another spelling; `except` is about to go.
    fn check_free(&self, path: &RepoPath, except: Option<&RepoPath>) -> Result<(), Error> {
        let git_dir = self.git_dir(path);
        if fs::symlink_metadata(&git_dir).is_ok() {
            return Err(Error::Exists {
                path: path.to_string(),
            });
        }
        let levels = [
            ("", path.collection(), ""),
            (path.collection(), path.project(), ""),
        ];
        for (dir, name, suffix) in levels {
            let found = self.spellings(&self.root.join(dir), name, suffix)?;
            if let Some(existing) = found.first().filter(|found| *found != name) {
                let existing = if dir.is_empty() {
                    existing.clone()
                } else {
                    format!("{dir}/{existing}")
                };
                return Err(Error::CaseConflict { existing });
            }
        }
        let project = self.root.join(path.collection()).join(path.project());
        for name in self.spellings(&project, path.repository(), ".git")? {
            let is_except = except.is_some_and(|except| {
                (except.collection(), except.project()) == (path.collection(), path.project())
                    && except.repository() == name
            });
            if !is_except {
                let existing = format!("{}/{}/{name}", path.collection(), path.project());
                return Err(Error::CaseConflict { existing });
            }
        }
        Ok(())
    }

    /// Moves the repository at `from` to its place, durably, or leaves it where it is.
    fn put(&self, from: &Path, path: &RepoPath) -> Result<(), Error> {
        let git_dir = self.git_dir(path);
        let project_dir = self.root.join(path.collection()).join(path.project());
        for _ in 0..DIRECTORY_ATTEMPTS {
            durable::create_dirs(&project_dir).at("make", &project_dir)?;
            match fs::rename(from, &git_dir) {
                Ok(()) => return settle(from, &git_dir),
                // Another process removed the project because it was empty.
                Err(error) if error.kind() == io::ErrorKind::NotFound && from.exists() => {}
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists
                    ) =>
                {
                    return Err(Error::Exists {
                        path: path.to_string(),
                    });
                }
                Err(error) => return Err(error).at("make", &git_dir),
            }
        }
        Err(Error::io("make", &git_dir, io::ErrorKind::NotFound.into()))
    }

    /// Removes the folders of a project and a collection that nothing is left in. One that stays harms nobody.
    fn remove_empty_parents(&self, path: &RepoPath) {
        let collection_dir = self.root.join(path.collection());
        for dir in [&collection_dir.join(path.project()), &collection_dir] {
            match fs::remove_dir(dir) {
                Ok(()) => {}
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::DirectoryNotEmpty
                            | io::ErrorKind::AlreadyExists
                            | io::ErrorKind::NotFound
                    ) => {}
                // A link to a project or collection elsewhere stays.
                Err(error) if error.kind() == io::ErrorKind::NotADirectory => {}
                Err(error) => {
                    tracing::warn!(path = %dir.display(), %error, "cannot remove an empty folder");
                    return;
                }
            }
        }
    }

    fn forget(&self, path: &RepoPath) {
        self.open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .by_path
            .remove(path);
    }
}

/// Moves a repository durably, or leaves it where it is.
fn move_durably(from: &Path, to: &Path) -> Result<(), Error> {
    fs::rename(from, to).at("move", from)?;
    settle(from, to)
}

/// Makes it durable that what was at `from` is at `to`, or moves it back.
fn settle(from: &Path, to: &Path) -> Result<(), Error> {
    let parents = [from.parent(), to.parent()];
    let synced = parents
        .into_iter()
        .flatten()
        .try_for_each(|parent| durable::sync_dir(parent).at("sync", parent));
    synced.inspect_err(|_| {
        if let Err(error) = fs::rename(to, from) {
            tracing::error!(
                from = %to.display(), to = %from.display(), %error,
                "cannot move a repository back: move it by hand"
            );
        }
    })
}

/// Removes a directory whose maker does not hold it any more.
fn remove_if_left(dir: &Path) -> io::Result<()> {
    if File::open(dir)?.try_lock().is_ok() {
        tracing::info!(path = %dir.display(), "removing what a crash left");
        fs::remove_dir_all(dir)?;
    }
    Ok(())
}

/// What must be the same for an open repository to be used on.
#[derive(Debug, PartialEq, Eq)]
struct OpenKey {
    identity: (u64, u64),
    config: Option<Stat>,
    shallow: Option<Stat>,
}

impl OpenKey {
    fn of(git_dir: &Path) -> Result<OpenKey, Error> {
        let stat = |path: &Path| Stat::of(path).at("read", path);
        // Of the directory that a link leads to: the link stays when another takes its place.
        let metadata = fs::metadata(git_dir).at("read", git_dir)?;
        Ok(OpenKey {
            identity: Stat::from(&metadata).identity(),
            config: stat(&git_dir.join("config"))?,
            shallow: stat(&git_dir.join("shallow"))?,
        })
    }
}

/// Open repositories; the one not asked for the longest goes first.
#[derive(Debug, Default)]
struct OpenRepositories {
    by_path: HashMap<RepoPath, OpenRepository>,
    clock: u64,
}

#[derive(Debug)]
struct OpenRepository {
    key: OpenKey,
    repository: Arc<Repository>,
    last_used: u64,
}

impl OpenRepositories {
    fn find(&mut self, path: &RepoPath, key: &OpenKey) -> Option<Arc<Repository>> {
        self.clock += 1;
        let open = self.by_path.get_mut(path).filter(|open| open.key == *key)?;
        open.last_used = self.clock;
        Some(Arc::clone(&open.repository))
    }

    fn insert(&mut self, path: RepoPath, key: OpenKey, repository: Arc<Repository>, count_max: usize) {
        self.by_path.insert(
            path,
            OpenRepository {
                key,
                repository,
                last_used: self.clock,
            },
        );
        while self.by_path.len() > count_max {
            let Some(oldest) = self
                .by_path
                .iter()
                .min_by_key(|(_, open)| open.last_used)
                .map(|(path, _)| path.clone())
            else {
                return;
            };
            self.by_path.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests;
