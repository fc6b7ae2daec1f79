//! One pack and its index: where entries are and what they say of themselves.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use flate2::{Decompress, FlushDecompress, Status};
use gix_hash::ObjectId;
use gix_object::Kind;
use gix_pack::data::entry::Header;

use super::Error;
use super::bitmap::PackBitmaps;

/// zlib cannot make more than this many bytes of one: a larger claim is a lie.
const INFLATE_RATIO_MAX: u64 = 1032;

/// How long a pack that could not be opened is left alone. Not for good: too few file descriptors or too little memory
/// would else hide its objects until the server is started anew.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How an entry of a pack stores its object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// The object itself.
    Whole(Kind),
    /// A delta whose base is the entry at this offset of the same pack.
    OfsDelta(u64),
    /// A delta whose base has this id.
    RefDelta(ObjectId),
}

/// One entry as it lies in the pack.
#[derive(Debug, Clone, Copy)]
pub struct RawEntry<'a> {
    /// What it holds.
    pub kind: EntryKind,
    /// Bytes after inflation: of the object, or of the delta.
    pub inflated_size: u64,
    /// The zlib stream, and with entries that come last in a mapping what follows it.
    pub deflated: &'a [u8],
}

/// A pack with its index. Both files are mapped when first needed and stay so: a pack that `git gc` removes meanwhile
/// can be read to the end.
pub struct Pack {
    index_path: PathBuf,
    inode: u64,
    len: u64,
    hash: gix_hash::Kind,
    index: OnceLock<gix_pack::index::File>,
    data: OnceLock<gix_pack::data::File>,
    reverse: OnceLock<Vec<(u64, u32)>>,
    /// Whether there was a file of bitmaps beside it when it was listed.
    has_bitmaps: bool,
    bitmaps: OnceLock<Option<PackBitmaps>>,
    /// When a file could not be used last.
    failed: RwLock<Option<Instant>>,
}

impl std::fmt::Debug for Pack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pack({})", self.index_path.display())
    }
}

impl Pack {
    pub(crate) fn new(index_path: PathBuf, pack: &Metadata, hash: gix_hash::Kind, has_bitmaps: bool) -> Pack {
        Pack {
            index_path,
            inode: pack.ino(),
            len: pack.len(),
            hash,
            index: OnceLock::new(),
            data: OnceLock::new(),
            reverse: OnceLock::new(),
            has_bitmaps,
            bitmaps: OnceLock::new(),
            failed: RwLock::new(None),
        }
    }

    pub(crate) fn index_path(&self) -> &Path {
        &self.index_path
    }

    /// Whether it is the pack file that `pack` tells of, with bitmaps beside it or without as it was listed.
    pub(crate) fn is_file(&self, pack: &Metadata, has_bitmaps: bool) -> bool {
        self.inode == pack.ino() && self.len == pack.len() && self.has_bitmaps == has_bitmaps
    }

    /// The reachability bitmaps that were made for it, read when first asked for; None if there are none that can be
    /// used.
    pub fn bitmaps(&self) -> Option<&PackBitmaps> {
        if !self.has_bitmaps {
            return None;
        }
        let index = self.index()?;
        let read = || {
            let path = self.index_path.with_extension("bitmap");
            PackBitmaps::read(&path, index).unwrap_or_else(|err| {
                tracing::warn!(path = %path.display(), %err, "bitmaps are not used");
                None
            })
        };
        self.bitmaps.get_or_init(read).as_ref()
    }

    /// The index, or `None` if it cannot be used; then its objects are not found here.
    pub fn index(&self) -> Option<&gix_pack::index::File> {
        self.opened(&self.index, &self.index_path, |path| {
            gix_pack::index::File::at(path, self.hash).map_err(|err| err.to_string())
        })
    }

    fn data(&self) -> Option<&gix_pack::data::File> {
        // Asked at every look-up, which is not to cost a path.
        if let Some(file) = self.data.get() {
            return Some(file);
        }
        self.opened(&self.data, &self.index_path.with_extension("pack"), |path| {
            gix_pack::data::File::at(path, self.hash).map_err(|err| err.to_string())
        })
    }

    fn opened<'a, T>(
        &self,
        slot: &'a OnceLock<T>,
        path: &Path,
        open: impl FnOnce(&Path) -> Result<T, String>,
    ) -> Option<&'a T> {
        if let Some(file) = slot.get() {
            return Some(file);
        }
        let failed = *self.failed.read().unwrap_or_else(PoisonError::into_inner);
        if failed.is_some_and(|at| at.elapsed() < RETRY_AFTER) {
            return None;
        }
        match open(path) {
            Ok(file) => Some(slot.get_or_init(|| file)),
            Err(what) => {
                *self.failed.write().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
                tracing::warn!(path = %path.display(), what, "a pack cannot be used");
                None
            }
        }
    }

    /// Looks `id` up; its data file is mapped before the answer, so that the answer stays good.
    pub(crate) fn find(&self, id: &gix_hash::oid) -> Option<u64> {
        let index = self.index()?;
        let offset = index.pack_offset_at_index(index.lookup(id)?);
        self.data()?;
        Some(offset)
    }

    pub(crate) fn is_readable(&self) -> bool {
        self.data().is_some()
    }

    /// Ends of entries and ids by offset: sorted offsets with each one's place in the index.
    fn reverse(&self) -> &[(u64, u32)] {
        let Some(index) = self.index() else {
            return &[];
        };
        self.reverse.get_or_init(|| {
            let mut table: Vec<(u64, u32)> = (0..index.num_objects())
                .map(|at| (index.pack_offset_at_index(at), at))
                .collect();
            table.sort_unstable();
            table
        })
    }

    /// The id of the object whose entry starts at `offset`.
    pub fn id_at(&self, offset: u64) -> Option<ObjectId> {
        let reverse = self.reverse();
        let at = reverse
            .binary_search_by_key(&offset, |&(offset, _)| offset)
            .ok()?;
        let &(_, place) = reverse.get(at)?;
        Some(self.index()?.oid_at_index(place).to_owned())
    }

    /// The place of `id` in the order of the pack.
    pub fn place_of(&self, id: &gix_hash::oid) -> Option<usize> {
        let index = self.index()?;
        let offset = index.pack_offset_at_index(index.lookup(id)?);
        self.reverse()
            .binary_search_by_key(&offset, |&(offset, _)| offset)
            .ok()
    }

    /// Where the entry at this place in the order of the pack starts, and the id of its object.
    pub fn at_place(&self, place: usize) -> Option<(u64, ObjectId)> {
        let &(offset, in_index) = self.reverse().get(place)?;
        Some((offset, self.index()?.oid_at_index(in_index).to_owned()))
    }

    /// The bytes of the pack from the first entry to the last, without header and checksum, if they are entries of
    /// version 2; and the checksum.
    pub fn all_entries(&self) -> Option<(&[u8], ObjectId)> {
        let data = self.data()?;
        let is_v2 = data.version() == gix_pack::data::Version::V2;
        let entries = data.entry_slice(12..data.pack_end() as u64).filter(|_| is_v2)?;
        Some((entries, data.checksum()))
    }

    /// Number of objects by the index.
    pub fn num_objects(&self) -> u32 {
        self.index().map_or(0, gix_pack::index::File::num_objects)
    }

    /// Where the entry at `offset` ends.
    fn end_of(&self, offset: u64) -> Option<u64> {
        let reverse = self.reverse();
        let at = reverse
            .binary_search_by_key(&offset, |&(offset, _)| offset)
            .ok()?;
        match reverse.get(at + 1) {
            Some(&(next, _)) => Some(next),
            None => Some(self.data()?.pack_end() as u64),
        }
    }

    /// The entry at `offset`. With `exact` its zlib stream is cut where the next entry starts, else it runs to the end
    /// of the pack, which spares building the reverse index.
    ///
    /// # Errors
    ///
    /// When the bytes there are no entry.
    pub fn entry(&self, offset: u64, exact: bool) -> Result<RawEntry<'_>, Error> {
        let corrupt = |what: &str| Error::corrupt(format!("{} at {offset}", self.index_path.display()), what);
        let data = self.data().ok_or_else(|| corrupt("the pack cannot be read"))?;
        if offset < 12 || offset >= data.pack_end() as u64 {
            return Err(corrupt("its entry lies outside the pack"));
        }
        let entry = data.entry(offset).map_err(|err| corrupt(&err.to_string()))?;
        let end = match exact {
            true => self
                .end_of(offset)
                .ok_or_else(|| corrupt("the index does not know its entry"))?,
            false => data.pack_end() as u64,
        };
        let deflated = data
            .entry_slice(entry.data_offset..end)
            .filter(|bytes| !bytes.is_empty())
            .ok_or_else(|| corrupt("its entry is cut off"))?;
        if entry.decompressed_size / INFLATE_RATIO_MAX > deflated.len() as u64 {
            return Err(corrupt("its entry claims more bytes than its data can make"));
        }
        let kind = match entry.header {
            Header::Commit => EntryKind::Whole(Kind::Commit),
            Header::Tree => EntryKind::Whole(Kind::Tree),
            Header::Blob => EntryKind::Whole(Kind::Blob),
            Header::Tag => EntryKind::Whole(Kind::Tag),
            Header::RefDelta { base_id } => EntryKind::RefDelta(base_id),
            Header::OfsDelta { base_distance } => {
                let base = Header::verified_base_pack_offset(offset, base_distance)
                    .ok_or_else(|| corrupt("its base lies before the pack"))?;
                EntryKind::OfsDelta(base)
            }
        };
        Ok(RawEntry {
            kind,
            inflated_size: entry.decompressed_size,
            deflated,
        })
    }

    /// Offsets of all objects with their ids, in the order of the pack.
    pub fn objects(&self) -> impl Iterator<Item = (u64, ObjectId)> + '_ {
        let index = self.index();
        self.reverse()
            .iter()
            .filter_map(move |&(offset, place)| Some((offset, index?.oid_at_index(place).to_owned())))
    }
}

/// Inflates one zlib stream that must make exactly `size` bytes, appending them to `out`.
pub(crate) fn inflate_exact(
    inflate: &mut Decompress,
    deflated: &[u8],
    size: u64,
    out: &mut Vec<u8>,
) -> Result<(), &'static str> {
    let size = usize::try_from(size).map_err(|_| "its size does not fit memory")?;
    out.try_reserve_exact(size)
        .map_err(|_| "its size does not fit memory")?;
    let start = out.len();
    out.resize(start + size, 0);
    inflate.reset(true);
    loop {
        let (consumed, made) = (inflate.total_in(), inflate.total_out());
        let input = usize::try_from(consumed)
            .ok()
            .and_then(|at| deflated.get(at..))
            .unwrap_or_default();
        let room = usize::try_from(made)
            .ok()
            .and_then(|at| out.get_mut(start + at..))
            .unwrap_or_default();
        match inflate.decompress(input, room, FlushDecompress::Finish) {
            Ok(Status::StreamEnd) if inflate.total_out() == size as u64 => return Ok(()),
            Ok(Status::StreamEnd) => return Err("its data makes fewer bytes than its header says"),
            Ok(_) if inflate.total_in() > consumed || inflate.total_out() > made => {}
            Ok(_) if made == size as u64 => return Err("its data makes more bytes than its header says"),
            Ok(_) => return Err("its data is cut off"),
            Err(_) => return Err("its data is no zlib stream"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_pack_that_could_not_be_opened_is_tried_again_later() {
        let dir = tempfile::tempdir().unwrap();
        let git = |script: &str| {
            let done = Command::new("sh")
                .args(["-c", script])
                .current_dir(dir.path())
                .status();
            assert!(done.unwrap().success(), "{script}");
        };
        git(
            "git init -q . && echo a | git hash-object -w --stdin | git pack-objects -q p && mv p-*.pack p.pack && mv p-*.idx idx",
        );
        let meta = std::fs::metadata(dir.path().join("p.pack")).unwrap();
        let pack = Pack::new(dir.path().join("p.idx"), &meta, gix_hash::Kind::Sha1, false);
        std::fs::create_dir(dir.path().join("p.idx")).unwrap();
        assert!(pack.index().is_none());
        assert_eq!(pack.objects().count(), 0);
        git("rmdir p.idx && mv idx p.idx");
        assert!(pack.index().is_none(), "not at every look-up");
        *pack.failed.write().unwrap() = Instant::now().checked_sub(RETRY_AFTER);
        assert!(pack.index().is_some());
        assert_eq!(pack.objects().count(), 1);
    }
}
