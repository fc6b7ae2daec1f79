//! Carrying out moves whose refs are locked: durably, all or nothing, and again after a crash.
//!
//! Everything that can run out of space is written to temporary files first. A set of moves that one rename (or, for
//! one deletion, one unlink) makes visible needs nothing more; every other goes through the journal.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use bstr::ByteSlice;
use gix_hash::ObjectId;
use tempfile::NamedTempFile;

use super::journal::{self, Move};
use super::loose::{self, Raw};
use super::packed::PackedEdit;
use super::reflog::{self, remove_empty_dirs, remove_empty_parents};
use super::scan::PackedFile;
use crate::repository::durable::{self, DirsToSync};
use crate::repository::settings::LogRefUpdates;
use crate::repository::{Error, IoContext, fault};

/// What a tag peels to; `None` for everything that is no tag.
pub(super) type Peel<'a> = dyn FnMut(ObjectId) -> Result<Option<ObjectId>, Error> + 'a;

/// What carrying out needs to know beside the moves.
pub(super) struct Commit<'a> {
    pub(super) git_dir: &'a Path,
    pub(super) hash: gix_hash::Kind,
    pub(super) log: LogRefUpdates,
    pub(super) committer: &'a [u8],
    /// Held for writing while the refs are half moved.
    pub(super) visible: &'a RwLock<()>,
    pub(super) peel: &'a mut Peel<'a>,
}

/// Whether the moves are new, or come from a journal that is in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    Request,
    Journal,
}

/// The moves as files, all written and none in its place.
struct Staged {
    packed: Option<NamedTempFile>,
    writes: Vec<(PathBuf, NamedTempFile)>,
    removals: Vec<PathBuf>,
}

impl Commit<'_> {
    /// Moves the refs. Their lock files are held, and that of `packed-refs` too if a ref is deleted or `into_packed`
    /// is set: then the new values are written there and not to loose files.
    ///
    /// # Errors
    ///
    /// When nothing was moved; or, once a journal is in place, when the rest is left to whoever comes next.
    pub(super) fn carry_out(
        &mut self,
        moves: &[Move],
        into_packed: bool,
        packed: &PackedFile,
        origin: Origin,
    ) -> Result<(), Error> {
        let staged = self.stage(moves, into_packed, packed)?;
        let writes = staged.writes.len() + usize::from(staged.packed.is_some());
        let is_one_step = match origin {
            Origin::Request => moves.len() == 1 || (writes <= 1 && staged.removals.is_empty()),
            Origin::Journal => false,
        };
        let visible = self.visible;
        let _hidden = (!is_one_step).then(|| visible.write().unwrap_or_else(PoisonError::into_inner));
        if !is_one_step && origin == Origin::Request {
            journal::write(self.git_dir, moves, self.hash)?;
        }
        fault::point("committed").at("write", self.git_dir)?;
        self.append_logs(moves);
        self.put_in_place(staged)?;
        if !is_one_step {
            journal::remove(self.git_dir)?;
        }
        for one in moves.iter().filter(|one| one.new.is_none()) {
            reflog::remove(self.git_dir, one.name.as_bstr());
        }
        fault::point("done").at("write", self.git_dir)
    }

    fn stage(&mut self, moves: &[Move], into_packed: bool, packed: &PackedFile) -> Result<Staged, Error> {
        let mut staged = Staged {
            packed: None,
            writes: Vec::new(),
            removals: Vec::new(),
        };
        let mut edits = Vec::new();
        for one in moves {
            let path = loose::path(self.git_dir, one.name.as_bstr());
            let is_loose = fs::symlink_metadata(&path).is_ok_and(|metadata| !metadata.is_dir());
            match one.new {
                Some(id) if !into_packed => {
                    staged.writes.push((path, self.stage_loose(id)?));
                    continue;
                }
                Some(id) => {
                    let peeled = (self.peel)(id)?;
                    edits.push(PackedEdit {
                        name: one.name.clone(),
                        new: Some((id, peeled)),
                    });
                }
                None if packed.refs.find(one.name.as_bstr()).is_some() => {
                    edits.push(PackedEdit {
                        name: one.name.clone(),
                        new: None,
                    });
                }
                None => {}
            }
            if is_loose {
                staged.removals.push(path);
            }
        }
        if !edits.is_empty() {
            edits.sort_by(|a, b| a.name.cmp(&b.name));
            staged.packed = Some(self.stage_packed(&edits, packed)?);
        }
        Ok(staged)
    }

    fn stage_loose(&self, id: ObjectId) -> Result<NamedTempFile, Error> {
        let write = || {
            let mut file = durable::temp_file(self.git_dir)?;
            file.write_all(format!("{}\n", id.to_hex()).as_bytes())?;
            file.as_file().sync_all()?;
            fault::point("loose ref written")?;
            Ok(file)
        };
        write().at("write a file in", self.git_dir)
    }

    fn stage_packed(&mut self, edits: &[PackedEdit], packed: &PackedFile) -> Result<NamedTempFile, Error> {
        let peel = &mut self.peel;
        // An object that cannot be read has no peeled line, as with git pack-refs.
        let mut peel_kept = |id| peel(id).unwrap_or(None);
        let mut write = || {
            let mut file = BufWriter::with_capacity(1 << 16, durable::temp_file(self.git_dir)?);
            packed.refs.write_with(edits, &mut peel_kept, &mut file)?;
            let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.as_file().sync_all()?;
            fault::point("packed refs written")?;
            Ok(file)
        };
        write().at("write a file in", self.git_dir)
    }

    fn append_logs(&self, moves: &[Move]) {
        let head = loose::read(&self.git_dir.join("HEAD"), self.hash).ok().flatten();
        for one in moves {
            if one.new.is_some() {
                reflog::append(
                    self.git_dir,
                    one.name.as_bstr(),
                    one,
                    self.committer,
                    self.log,
                    self.hash,
                );
            }
            if matches!(&head, Some(Raw::Symref(target)) if *target == one.name) {
                reflog::append(
                    self.git_dir,
                    b"HEAD".as_bstr(),
                    one,
                    self.committer,
                    self.log,
                    self.hash,
                );
            }
        }
    }

    fn put_in_place(&self, staged: Staged) -> Result<(), Error> {
        let refs = self.git_dir.join("refs");
        let mut dirs = DirsToSync::default();
        if let Some(file) = staged.packed {
            let path = self.git_dir.join("packed-refs");
            file.persist(&path)
                .map_err(|error| error.error)
                .at("replace", &path)?;
            fault::point("packed refs renamed").at("replace", &path)?;
            // Before loose refs go: without them the old file would bring older values back.
            durable::sync_dir(self.git_dir).at("sync", self.git_dir)?;
        }
        for path in staged.removals {
            match fs::remove_file(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other.at("remove", &path)?,
            }
            dirs.add_above(&path, &refs);
            fault::point("loose ref removed").at("remove", &path)?;
        }
        for (path, file) in staged.writes {
            persist_ref(file, &path).at("replace", &path)?;
            dirs.add_above(&path, &refs);
            fault::point("loose ref renamed").at("replace", &path)?;
        }
        dirs.sync().at("sync directories below", &refs)?;
        fault::point("directories synced").at("sync", &refs)
    }
}

/// Renames a staged file onto its ref. Somebody may have made a directory of that name, to lock a ref below it, since
/// empty ones were removed.
fn persist_ref(mut file: NamedTempFile, path: &Path) -> io::Result<()> {
    const ATTEMPTS: usize = 3;
    for _ in 0..ATTEMPTS {
        match file.persist(path) {
            Ok(_) => return Ok(()),
            Err(error) if path.is_dir() => file = error.file,
            Err(error) => return Err(error.error),
        }
        remove_empty_dirs(path);
    }
    file.persist(path).map(drop).map_err(|error| error.error)
}

/// Removes directories that were made for lock files, or that a deletion left empty. The lock files must be gone.
pub(super) fn clean_up<'a>(git_dir: &Path, moves: impl Iterator<Item = &'a Move>) {
    for one in moves {
        remove_empty_parents(git_dir, one.name.as_bstr());
    }
}
