//! One pass over everything that refs are made of, with the stats that tell later whether it still holds.
//!
//! Loose refs are read before `packed-refs`: git packs by writing `packed-refs` first and removing the loose file then,
//! so in this order a ref is never missed. That alone does not make the pass a state that existed; two equal passes in
//! a row do, and [`Scan::is_current`] tells when the second can be spared.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use bstr::{BStr, BString, ByteSlice};

use super::loose::{self, Raw};
use super::packed::PackedRefs;
use super::stat::{Stat, is_absence};
use super::{is_valid_name, journal};
use crate::repository::{Error, IoContext};

/// What one pass found.
#[derive(Debug)]
pub(super) struct Scan {
    started: SystemTime,
    /// Every directory from `refs` down, in the order of the paths.
    dirs: Vec<(PathBuf, Stat)>,
    /// In the order of the names.
    pub(super) loose: Vec<LooseFile>,
    packed_stat: Option<Stat>,
    pub(super) packed: Arc<PackedRefs>,
    head_stat: Option<Stat>,
    pub(super) head: Raw,
    /// Whether a transaction was being carried out when everything had been read.
    pub(super) met_journal: bool,
}

/// One file below `refs`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LooseFile {
    pub(super) name: BString,
    stat: Stat,
    pub(super) raw: Raw,
}

impl Scan {
    /// Reads everything; what `previous` has read and cannot have changed since is taken from there.
    pub(super) fn read(git_dir: &Path, hash: gix_hash::Kind, previous: Option<&Scan>) -> Result<Scan, Error> {
        let started = SystemTime::now();
        let mut dirs = Vec::new();
        let mut loose = Vec::new();
        let mut pending = vec![BString::from("refs")];
        while let Some(dir) = pending.pop() {
            scan_dir(
                git_dir,
                dir.as_bstr(),
                hash,
                previous,
                &mut dirs,
                &mut loose,
                &mut pending,
            )?;
        }
        dirs.sort_by(|a, b| a.0.cmp(&b.0));
        loose.sort_by(|a: &LooseFile, b| a.name.cmp(&b.name));
        let (packed_stat, packed) = read_packed(git_dir, hash, previous)?;
        let path = git_dir.join("HEAD");
        let head_stat = Stat::of(&path).at("read", &path)?;
        let head = loose::read(&path, hash).at("read", &path)?.unwrap_or(Raw::Broken);
        // Asked last: between the end of this pass and the next one is the moment that two equal passes show.
        let met_journal = journal::exists(git_dir)?;
        Ok(Scan {
            started,
            dirs,
            loose,
            packed_stat,
            packed,
            head_stat,
            head,
            met_journal,
        })
    }

    /// Tells whether all files and directories are as this pass found them, so surely that nothing can have changed
    /// in between.
    pub(super) fn is_current(&self, git_dir: &Path) -> bool {
        let holds = |path: &Path, stat: Option<Stat>| {
            stat.is_none_or(|stat| !stat.is_racy(self.started)) && Stat::of(path).is_ok_and(|now| now == stat)
        };
        self.dirs.iter().all(|(path, stat)| holds(path, Some(*stat)))
            && self
                .loose
                .iter()
                .all(|file| holds(&loose::path(git_dir, file.name.as_bstr()), Some(file.stat)))
            && holds(&git_dir.join("packed-refs"), self.packed_stat)
            && holds(&git_dir.join("HEAD"), self.head_stat)
    }

    /// Tells whether two passes met the same files with the same content.
    pub(super) fn is_same(&self, other: &Scan) -> bool {
        self.dirs == other.dirs
            && self.loose == other.loose
            && self.packed_stat == other.packed_stat
            && self.head_stat == other.head_stat
            && self.has_same_refs(other)
    }

    /// Tells whether two passes read the same refs, from whatever files.
    pub(super) fn has_same_refs(&self, other: &Scan) -> bool {
        self.head == other.head
            && self.loose.len() == other.loose.len()
            && self
                .loose
                .iter()
                .zip(&other.loose)
                .all(|(a, b)| a.name == b.name && a.raw == b.raw)
            && (Arc::ptr_eq(&self.packed, &other.packed) || self.packed == other.packed)
    }

    /// What was read of `packed-refs`, with its stat and the moment from which on it may have changed.
    pub(super) fn packed(&self) -> PackedFile {
        PackedFile {
            started: self.started,
            stat: self.packed_stat,
            refs: Arc::clone(&self.packed),
        }
    }

    fn known(&self, name: &BStr, stat: &Stat) -> Option<Raw> {
        let index = self
            .loose
            .binary_search_by(|file| file.name.as_bstr().cmp(name))
            .ok()?;
        let file = self.loose.get(index)?;
        (file.stat == *stat && !stat.is_racy(self.started)).then(|| file.raw.clone())
    }
}

fn scan_dir(
    git_dir: &Path,
    dir: &BStr,
    hash: gix_hash::Kind,
    previous: Option<&Scan>,
    dirs: &mut Vec<(PathBuf, Stat)>,
    files: &mut Vec<LooseFile>,
    pending: &mut Vec<BString>,
) -> Result<(), Error> {
    let dir_path = loose::path(git_dir, dir);
    // The stat comes before the entries: a change between the two then shows as one of the directory.
    let Some(dir_stat) = Stat::of(&dir_path).at("read", &dir_path)? else {
        return Ok(());
    };
    dirs.push((dir_path.clone(), dir_stat));
    let entries = match fs::read_dir(&dir_path) {
        Ok(entries) => entries,
        Err(error) if is_absence(&error) => return Ok(()),
        Err(error) => return Err(error).at("list", &dir_path),
    };
    for entry in entries {
        let entry = entry.at("list", &dir_path)?;
        let mut name = dir.to_owned();
        name.push(b'/');
        name.extend_from_slice(entry.file_name().as_bytes());
        let file_type = match entry.file_type() {
            Ok(file_type) => file_type,
            Err(error) if is_absence(&error) => continue,
            Err(error) => return Err(error).at("list", &dir_path),
        };
        if name.ends_with(b".lock") {
            continue;
        }
        if !is_valid_name(name.as_bstr()) {
            tracing::warn!(%name, "file below refs whose name is no ref's is left out");
            continue;
        }
        if file_type.is_dir() {
            pending.push(name);
            continue;
        }
        let path = entry.path();
        let Some(stat) = Stat::of(&path).at("read", &path)? else {
            continue;
        };
        let raw = match previous.and_then(|previous| previous.known(name.as_bstr(), &stat)) {
            Some(raw) => raw,
            None => match loose::read(&path, hash).at("read", &path)? {
                Some(raw) => raw,
                None => continue,
            },
        };
        files.push(LooseFile { name, stat, raw });
    }
    Ok(())
}

fn read_packed(
    git_dir: &Path,
    hash: gix_hash::Kind,
    previous: Option<&Scan>,
) -> Result<(Option<Stat>, Arc<PackedRefs>), Error> {
    let mut file = match previous {
        Some(previous) => previous.packed(),
        None => PackedFile::read(git_dir, hash)?,
    };
    file.refresh(git_dir, hash)?;
    Ok((file.stat, file.refs))
}

/// A `packed-refs` file as it was read at one time.
#[derive(Debug, Clone)]
pub(super) struct PackedFile {
    started: SystemTime,
    stat: Option<Stat>,
    pub(super) refs: Arc<PackedRefs>,
}

impl PackedFile {
    /// Reads the file.
    pub(super) fn read(git_dir: &Path, hash: gix_hash::Kind) -> Result<Self, Error> {
        let started = SystemTime::now();
        let (stat, refs) = PackedRefs::read(&git_dir.join("packed-refs"), hash)?;
        Ok(PackedFile {
            started,
            stat,
            refs: Arc::new(refs),
        })
    }

    /// Reads the file again if it may have changed.
    pub(super) fn refresh(&mut self, git_dir: &Path, hash: gix_hash::Kind) -> Result<(), Error> {
        let path = git_dir.join("packed-refs");
        let is_current = self.stat.is_none_or(|stat| !stat.is_racy(self.started))
            && Stat::of(&path).at("read", &path)? == self.stat;
        if !is_current {
            *self = PackedFile::read(git_dir, hash)?;
        }
        Ok(())
    }
}
