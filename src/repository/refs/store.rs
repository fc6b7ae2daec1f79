//! The refs of one repository, for reading and for changing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bstr::{BStr, BString, ByteSlice};

use super::cache::SnapshotCache;
use super::commit::{Commit, Origin, Peel, clean_up};
use super::journal::{self, Move};
use super::lock::{LockError, LockFile, Turn, is_ours};
use super::scan::PackedFile;
use super::transaction::{
    Failure, Item, LOOSE_UPDATES_MAX, Locked, Locker, NamesTogether, Results, plan, settle,
};
use super::{RefChange, RefChangeError, RefSnapshot, is_valid_name, loose};
use crate::repository::settings::LogRefUpdates;
use crate::repository::{Error, IoContext, durable, fault};

/// How long a reader waits for a transaction of another process to end.
const READER_TIME_MAX: Duration = Duration::from_secs(20);

/// How long to wait for the turn before what a crash left is looked for. Whoever has it longer is alive, and recovers
/// by itself what matters.
const RECOVERY_TIME_MAX: Duration = Duration::from_secs(1);

/// The files that hold the refs of one repository.
#[derive(Debug)]
pub(crate) struct RefStore {
    git_dir: PathBuf,
    hash: gix_hash::Kind,
    log: LogRefUpdates,
    cache: SnapshotCache,
    /// Held for writing while refs are half moved, for reading while they are listed.
    visible: RwLock<()>,
    /// One transaction at a time; beyond this process, [`Turn`] sees to it.
    changing: Mutex<()>,
}

impl RefStore {
    /// Does no I/O.
    pub(crate) fn new(git_dir: PathBuf, hash: gix_hash::Kind, log: LogRefUpdates) -> Self {
        RefStore {
            git_dir,
            hash,
            log,
            cache: SnapshotCache::default(),
            visible: RwLock::new(()),
            changing: Mutex::new(()),
        }
    }

    /// Gives a snapshot of a state that the refs were in during this call, the same one while nothing changed.
    pub(crate) fn snapshot(&self, peel: &mut Peel<'_>) -> Result<Arc<RefSnapshot>, Error> {
        let deadline = Instant::now() + READER_TIME_MAX;
        loop {
            if let Some(snapshot) = self.cache.snapshot(&self.git_dir, self.hash, &self.visible)? {
                return Ok(snapshot);
            }
            if Instant::now() >= deadline {
                return Err(Error::TransactionBusy);
            }
            // Waits for whoever is at it, or finishes what a crash left.
            let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
            let mut turn = Turn::take(&self.git_dir)?;
            self.finish_journal(&mut turn, peel)?;
        }
    }

    /// Moves refs by compare-and-swap; one result for each change, in their order. With `atomic` either all move or
    /// none; without, each that can move does. `may_begin` is asked once all that can take long has been waited for.
    pub(crate) fn update(
        &self,
        changes: &[RefChange],
        atomic: bool,
        committer: &[u8],
        may_begin: &mut dyn FnMut() -> bool,
        peel: &mut Peel<'_>,
    ) -> Result<Vec<Result<(), RefChangeError>>, Error> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut turn = Turn::take(&self.git_dir)?;
        self.finish_journal(&mut turn, peel)?;
        if !may_begin() {
            return Err(Error::Withdrawn);
        }
        let mut packed = match self.cache.packed() {
            Some(packed) => packed,
            None => PackedFile::read(&self.git_dir, self.hash)?,
        };
        packed.refresh(&self.git_dir, self.hash)?;
        let mut results: Results = vec![None; changes.len()];
        let (items, shared) = plan(&self.git_dir, self.hash, &packed, changes, &mut results)?;
        let batches = if atomic {
            one_batch(items, &mut results)
        } else {
            batches(items)
        };
        if !(atomic && results.iter().any(Option::is_some)) {
            for batch in batches {
                self.run_batch(&batch, atomic, &mut results, &mut turn, &packed, committer, peel)?;
                if !fault::crashed() {
                    clean_up(&self.git_dir, batch.iter().map(|item| &item.one));
                }
            }
        }
        for (index, target) in shared {
            if let Some(Some(result)) = results.get(target).cloned() {
                settle(&mut results, index, result);
            }
        }
        Ok(results
            .into_iter()
            .map(|result| result.unwrap_or(Err(RefChangeError::Atomic)))
            .collect())
    }

    fn run_batch(
        &self,
        items: &[Item],
        atomic: bool,
        results: &mut Results,
        turn: &mut Turn,
        packed: &PackedFile,
        committer: &[u8],
        peel: &mut Peel<'_>,
    ) -> Result<(), Error> {
        let mut locker = Locker::new(&self.git_dir, self.hash, turn, packed.clone());
        let Some((mut locked, settled)) = lock_all(&mut locker, items, atomic, results)? else {
            return Ok(());
        };
        fault::point("refs locked").at("lock refs in", &self.git_dir)?;
        let into_packed = locked.iter().filter(|one| one.one.new.is_some()).count() > LOOSE_UPDATES_MAX;
        let needs_packed = |one: &Move| into_packed || one.new.is_none();
        let mut packed_lock = None;
        if locked.iter().any(|one| needs_packed(&one.one)) {
            match lock_packed(&self.git_dir, locker.turn)? {
                Some(lock) => packed_lock = Some(lock),
                None => {
                    for one in locked.extract_if(.., |one| needs_packed(&one.one)) {
                        let (name, lock) = (one.one.name, "packed-refs.lock".into());
                        settle(results, one.index, Err(RefChangeError::Locked { name, lock }));
                    }
                    if atomic {
                        return Ok(());
                    }
                }
            }
            locker.packed.refresh(&self.git_dir, self.hash)?;
        }
        let packed = locker.packed;
        let moves: Vec<Move> = locked.iter().map(|one| one.one.clone()).collect();
        if !moves.is_empty() {
            self.commit(committer, peel)
                .carry_out(&moves, into_packed, &packed, Origin::Request)?;
        }
        for index in locked.iter().map(|one| one.index).chain(settled) {
            settle(results, index, Ok(()));
        }
        drop(packed_lock);
        Ok(())
    }

    fn commit<'a>(&'a self, committer: &'a [u8], peel: &'a mut Peel<'_>) -> Commit<'a> {
        let (git_dir, visible) = (&self.git_dir, &self.visible);
        Commit {
            git_dir,
            hash: self.hash,
            log: self.log,
            committer,
            visible,
            peel,
        }
    }

    /// Carries out what a process that died left undone. Whoever has the turn knows that it is dead.
    fn finish_journal(&self, turn: &mut Turn, peel: &mut Peel<'_>) -> Result<(), Error> {
        let Some(moves) = journal::read(&self.git_dir, self.hash)? else {
            return Ok(());
        };
        tracing::info!(git_dir = %self.git_dir.display(), refs = moves.len(), "finishing the ref transaction of a crash");
        let packed = PackedFile::read(&self.git_dir, self.hash)?;
        let mut locker = Locker::new(&self.git_dir, self.hash, turn, packed);
        let mut locks = Vec::new();
        for one in &moves {
            match locker.lock_file(one.name.as_bstr(), one.new.is_none()) {
                Ok(lock) => locks.extend(lock),
                Err(failure) => return Err(unfinished(failure)),
            }
        }
        locker.all_locked()?;
        let mut open = Vec::new();
        for one in &moves {
            match locker.current(one.name.as_bstr()) {
                Ok((current, _)) if current == one.new => {}
                Ok((current, _)) if current == one.old => open.push(one.clone()),
                Ok(_) => {
                    tracing::warn!(name = %one.name, "ref was moved since the crash and is left as it is")
                }
                Err(failure) => return Err(unfinished(failure)),
            }
        }
        let Some(packed_lock) = lock_packed(&self.git_dir, locker.turn)? else {
            return Err(Error::TransactionBusy);
        };
        locker.packed.refresh(&self.git_dir, self.hash)?;
        let packed = locker.packed;
        let into_packed = open.iter().filter(|one| one.new.is_some()).count() > LOOSE_UPDATES_MAX;
        let committer = crate::repository::signature::server();
        self.commit(committer.as_bytes(), peel)
            .carry_out(&open, into_packed, &packed, Origin::Journal)?;
        drop((locks, packed_lock));
        clean_up(&self.git_dir, moves.iter());
        Ok(())
    }

    /// Finishes and removes what a process that died left: journal, lock files, temporary files. Does nothing while a
    /// transaction of another process runs, and where none ever did.
    pub(crate) fn recover(&self, peel: &mut Peel<'_>) -> Result<(), Error> {
        if !Turn::was_ever_taken(&self.git_dir) {
            return Ok(());
        }
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(mut turn) = Turn::take_within(&self.git_dir, RECOVERY_TIME_MAX)? else {
            return Ok(());
        };
        self.finish_journal(&mut turn, peel)?;
        for name in ["packed-refs.lock", "HEAD.lock"] {
            remove_leftover_lock(&self.git_dir.join(name));
        }
        remove_leftover_locks(&self.git_dir.join("refs"));
        let entries = fs::read_dir(&self.git_dir).at("list", &self.git_dir)?;
        for entry in entries.flatten() {
            if entry
                .file_name()
                .as_encoded_bytes()
                .starts_with(durable::TEMP_PREFIX.as_bytes())
            {
                remove_leftover(&entry.path());
            }
        }
        Ok(())
    }

    /// Points HEAD at `branch`, which may be unborn.
    pub(crate) fn set_head(&self, branch: &BStr, peel: &mut Peel<'_>) -> Result<(), Error> {
        if !is_valid_name(branch) || !branch.starts_with(b"refs/heads/") {
            return Err(Error::BranchName {
                name: branch.to_owned(),
            });
        }
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut turn = Turn::take(&self.git_dir)?;
        self.finish_journal(&mut turn, peel)?;
        let path = self.git_dir.join("HEAD");
        let _lock = match turn.lock(self.git_dir.join("HEAD.lock")) {
            Ok(lock) => lock,
            Err(LockError::Held) => return Err(Error::Locked { lock: "HEAD.lock" }),
            Err(LockError::NoDirectory) => {
                return Err(Error::NotARepository {
                    path: self.git_dir.clone(),
                });
            }
            Err(LockError::Io(error)) => return Err(error).at("lock", &path),
        };
        let content = [b"ref: ", branch.as_bytes(), b"\n"].concat();
        durable::replace(&path, &content, &self.git_dir).at("write", &path)?;
        durable::sync_dir(&self.git_dir).at("sync", &self.git_dir)
    }

    /// Reads the name that HEAD holds, whether or not such a branch exists.
    pub(crate) fn head_target(&self) -> Result<Option<BString>, Error> {
        let path = self.git_dir.join("HEAD");
        match loose::read(&path, self.hash).at("read", &path)? {
            Some(loose::Raw::Symref(target)) => Ok(Some(target)),
            Some(loose::Raw::Id(_)) => Ok(None),
            Some(loose::Raw::Broken) | None => Err(Error::Head),
        }
    }
}

/// Locks and compares refs. Gives those that have to move, and the changes that are done as it is; `None` if one is
/// refused and all are to move or none.
fn lock_all(
    locker: &mut Locker<'_>,
    items: &[Item],
    atomic: bool,
    results: &mut Results,
) -> Result<Option<(Vec<Locked>, Vec<usize>)>, Error> {
    let mut locks = Vec::with_capacity(items.len());
    for item in items {
        match locker.lock(item) {
            Ok(lock) => locks.push((item, lock)),
            Err(Failure::Fatal(error)) => return Err(error),
            Err(Failure::Refused(error)) => {
                settle(results, item.index, Err(error));
                if atomic {
                    return Ok(None);
                }
            }
        }
    }
    locker.all_locked()?;
    let mut locked = Vec::with_capacity(locks.len());
    let mut settled = Vec::new();
    for (item, lock) in locks {
        match (locker.check(&item.one, lock.as_ref()), lock) {
            (Ok(true), Some(lock)) => locked.push(Locked {
                index: item.index,
                one: item.one.clone(),
                _lock: lock,
            }),
            (Ok(_), _) => settled.push(item.index),
            (Err(Failure::Fatal(error)), _) => return Err(error),
            (Err(Failure::Refused(error)), _) => {
                settle(results, item.index, Err(error));
                if atomic {
                    return Ok(None);
                }
            }
        }
    }
    Ok(Some((locked, settled)))
}

/// Locks `packed-refs`; `None` while another program has it.
fn lock_packed(git_dir: &Path, turn: &mut Turn) -> Result<Option<LockFile>, Error> {
    let path = git_dir.join("packed-refs.lock");
    match turn.lock(path.clone()) {
        Ok(lock) => Ok(Some(lock)),
        Err(LockError::Held) => Ok(None),
        Err(LockError::NoDirectory) => Err(Error::NotARepository {
            path: git_dir.to_owned(),
        }),
        Err(LockError::Io(error)) => Err(error).at("lock", &path),
    }
}

/// Why the transaction of a crash stays unfinished for now: somebody holds a lock, or the system fails.
fn unfinished(failure: Failure) -> Error {
    match failure {
        Failure::Refused(error) => {
            tracing::warn!(%error, "the ref transaction of a crash cannot be finished yet");
            Error::TransactionBusy
        }
        Failure::Fatal(error) => error,
    }
}

/// All items as one batch; those that exclude one another get their errors.
fn one_batch(items: Vec<Item>, results: &mut Results) -> Vec<Vec<Item>> {
    let mut together = NamesTogether::default();
    for item in &items {
        if let Err(error) = together.add(item.one.name.as_bstr()) {
            settle(results, item.index, Err(error));
        }
    }
    vec![items]
}

/// Cuts the items, in their order, where one cannot be locked together with those before: it is to meet what they
/// left, as if each were a transaction of its own.
fn batches(items: Vec<Item>) -> Vec<Vec<Item>> {
    let mut all = Vec::new();
    let mut batch = Vec::new();
    let mut together = NamesTogether::default();
    for item in items {
        if together.add(item.one.name.as_bstr()).is_err() {
            all.push(std::mem::take(&mut batch));
            together = NamesTogether::default();
            if let Err(error) = together.add(item.one.name.as_bstr()) {
                tracing::error!(%error, "a ref excludes itself");
            }
        }
        batch.push(item);
    }
    all.push(batch);
    all
}

fn remove_leftover_locks(dir: &Path) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|file_type| file_type.is_dir()) {
            remove_leftover_locks(&path);
        } else if path.extension().is_some_and(|extension| extension == "lock") {
            remove_leftover_lock(&path);
        }
    }
}

fn remove_leftover_lock(path: &Path) {
    if is_ours(path) {
        remove_leftover(path);
    }
}

fn remove_leftover(path: &Path) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "cannot remove what a crash left");
        }
        _ => {}
    }
}
