//! One task's view of an object database.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use flate2::Decompress;
use gix_hash::{ObjectId, oid};
use gix_object::Kind;

use super::cache::DeltaBaseCache;
use super::loose::{self, LooseReader};
use super::pack_file::{EntryKind, Pack, RawEntry, inflate_exact};
use super::pack_set::PackSet;
use super::{Error, OBJECT_BYTES_MAX, ObjectStore, delta};

/// Deltas from an object down to its base. git's own readers stop at 4,095.
const DELTA_DEPTH_MAX: usize = 4096;

/// Where an object lies. Good for the handle that gave it, as long as that lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Location {
    /// In a pack.
    Packed {
        /// Which one; see [`Objects::pack`].
        pack: u32,
        /// Where its entry starts.
        offset: u64,
    },
    /// In a file of its own.
    Loose {
        /// Which object directory.
        dir: u32,
    },
}

/// An object in memory.
#[derive(Debug, Clone)]
pub struct Object {
    /// What it is.
    pub kind: Kind,
    /// Its bytes, without the header that is hashed with them.
    pub data: Arc<Vec<u8>>,
}

/// Where in a handle's list the packs are that a look-up asks.
#[derive(Debug)]
struct Lookup {
    /// For each multi-pack-index the places of its packs, in its order.
    multi_indexes: Vec<Vec<u32>>,
    /// Packs that no multi-pack-index covers.
    others: Vec<u32>,
}

impl Lookup {
    fn new(set: &PackSet, packs: &[Arc<Pack>]) -> Lookup {
        let mut places: HashMap<*const Pack, u32> = (0u32..)
            .zip(packs)
            .map(|(at, pack)| (Arc::as_ptr(pack), at))
            .collect();
        let multi_indexes = set
            .multi_indexes
            .iter()
            .map(|midx| {
                midx.packs
                    .iter()
                    .map(|pack| places.get(&Arc::as_ptr(pack)).copied().unwrap_or(u32::MAX))
                    .collect()
            })
            .collect();
        for pack in set.multi_indexes.iter().flat_map(|midx| &midx.packs) {
            places.remove(&Arc::as_ptr(pack));
        }
        let mut others: Vec<u32> = places.into_values().collect();
        others.sort_unstable();
        Lookup {
            multi_indexes,
            others,
        }
    }
}

/// A handle for one task: what it has seen stays readable while it lives, what is pushed later is found when asked for.
#[derive(Debug)]
pub struct Objects {
    store: Arc<ObjectStore>,
    set: Arc<PackSet>,
    /// Only ever added to, so that a [`Location`] stays good.
    packs: Vec<Arc<Pack>>,
    lookup: Lookup,
    dirs: Vec<PathBuf>,
    /// The pack that answered last is asked first.
    last: usize,
    inflate: Decompress,
    cache: DeltaBaseCache,
}

impl Objects {
    pub(crate) fn new(store: Arc<ObjectStore>, set: Arc<PackSet>) -> Objects {
        let packs = set.packs.clone();
        let lookup = Lookup::new(&set, &packs);
        let dirs = set.object_dirs().map(ToOwned::to_owned).collect();
        let (inflate, cache) = (Decompress::new(true), DeltaBaseCache::new());
        Objects {
            store,
            set,
            packs,
            lookup,
            dirs,
            last: 0,
            inflate,
            cache,
        }
    }

    /// The hash that names objects here.
    pub fn object_hash(&self) -> gix_hash::Kind {
        self.store.object_hash()
    }

    /// The pack that a [`Location`] names.
    pub fn pack(&self, pack: u32) -> Option<&Arc<Pack>> {
        self.packs.get(pack as usize)
    }

    /// The packs that this handle sees.
    pub fn packs(&self) -> &[Arc<Pack>] {
        &self.packs
    }

    /// Finds where `id` lies; looks once more at the disk before it says that there is no such object.
    ///
    /// # Errors
    ///
    /// When the packs changed and cannot be listed anew.
    pub fn locate(&mut self, id: &oid) -> Result<Option<Location>, Error> {
        if let Some(found) = self.locate_known(id) {
            return Ok(Some(found));
        }
        if self.refresh()? {
            return Ok(self.locate_known(id));
        }
        Ok(None)
    }

    /// Finds where `id` lies without looking at the pack directories again: for probes that mostly miss.
    pub fn locate_known(&mut self, id: &oid) -> Option<Location> {
        if id.kind() != self.object_hash() {
            return None;
        }
        if let Some(offset) = self.packs.get(self.last).and_then(|pack| pack.find(id)) {
            return Some(Location::Packed {
                pack: self.last as u32,
                offset,
            });
        }
        for (midx, places) in self.set.multi_indexes.iter().zip(&self.lookup.multi_indexes) {
            let Some(at) = midx.file.lookup(id) else { continue };
            let Ok((member, offset)) = midx.file.pack_id_and_pack_offset_at_index(at) else {
                continue;
            };
            let Some(&pack) = places.get(member as usize) else {
                continue;
            };
            // Its own index too, while it is there: whoever copies the entry needs to know where the next one begins.
            if self
                .pack(pack)
                .is_some_and(|pack| pack.index().is_some() && pack.is_readable())
            {
                return Some(Location::Packed { pack, offset });
            }
        }
        for &place in &self.lookup.others {
            if let Some(offset) = self.packs.get(place as usize).and_then(|pack| pack.find(id)) {
                self.last = place as usize;
                return Some(Location::Packed { pack: place, offset });
            }
        }
        let dir = self.dirs.iter().position(|dir| loose::exists(dir, id))?;
        Some(Location::Loose { dir: dir as u32 })
    }

    /// Takes in packs that appeared since; true if there are any.
    fn refresh(&mut self) -> Result<bool, Error> {
        let fresh = self.store.current()?;
        if Arc::ptr_eq(&fresh, &self.set) {
            return Ok(false);
        }
        for pack in &fresh.packs {
            if !self.packs.iter().any(|known| Arc::ptr_eq(known, pack)) {
                self.packs.push(Arc::clone(pack));
            }
        }
        for dir in fresh.object_dirs() {
            if !self.dirs.iter().any(|known| known == dir) {
                self.dirs.push(dir.to_owned());
            }
        }
        self.lookup = Lookup::new(&fresh, &self.packs);
        self.set = fresh;
        Ok(true)
    }

    /// Whether there is such an object.
    ///
    /// # Errors
    ///
    /// As [`Objects::locate`].
    pub fn contains(&mut self, id: &oid) -> Result<bool, Error> {
        Ok(self.locate(id)?.is_some())
    }

    /// Reads an object; `None` if there is no such object.
    ///
    /// # Errors
    ///
    /// When it is corrupt, unreadable or over [`OBJECT_BYTES_MAX`].
    pub fn read(&mut self, id: &oid) -> Result<Option<Object>, Error> {
        match self.locate(id)? {
            Some(location) => self.read_at(id, location).map(Some),
            None => Ok(None),
        }
    }

    /// Reads the object `id` that [`Objects::locate`] found at `location`.
    ///
    /// # Errors
    ///
    /// When it is corrupt, unreadable or over [`OBJECT_BYTES_MAX`].
    pub fn read_at(&mut self, id: &oid, location: Location) -> Result<Object, Error> {
        match location {
            Location::Packed { pack, offset } => self.read_packed(id, pack, offset, 0),
            Location::Loose { .. } => {
                let Some(reader) = self.try_open_loose(id, location)? else {
                    let (pack, offset) = self.packed_meanwhile(id)?;
                    return self.read_packed(id, pack, offset, 0);
                };
                let (kind, size) = (reader.kind(), reader.size());
                if size > OBJECT_BYTES_MAX {
                    return Err(Error::TooLarge {
                        id: id.to_string(),
                        size,
                    });
                }
                // The header is a claim: memory grows with what is there.
                let mut data = Vec::with_capacity(usize::try_from(size).unwrap_or(0).min(1 << 20));
                reader.copy_to(&mut |piece| {
                    data.extend_from_slice(piece);
                    Ok(())
                })?;
                Ok(Object {
                    kind,
                    data: Arc::new(data),
                })
            }
        }
    }

    /// Opens a loose object as a stream.
    ///
    /// # Errors
    ///
    /// When it is gone or its header is malformed.
    pub fn open_loose(&self, id: &oid, location: Location) -> Result<LooseReader, Error> {
        self.try_open_loose(id, location)?
            .ok_or_else(|| Error::corrupt(id, "its file is gone"))
    }

    /// Opens a loose object; `None` if it is not loose any more.
    fn try_open_loose(&self, id: &oid, location: Location) -> Result<Option<LooseReader>, Error> {
        let Location::Loose { dir } = location else {
            return Err(Error::corrupt(id, "it is not loose"));
        };
        let reader = self
            .dirs
            .get(dir as usize)
            .map(|dir| LooseReader::open(dir, id))
            .transpose()?;
        Ok(reader.flatten())
    }

    /// Where an object is that was loose and is gone: `git gc` packs loose objects and then removes them.
    fn packed_meanwhile(&mut self, id: &oid) -> Result<(u32, u64), Error> {
        match self.locate(id)? {
            Some(Location::Packed { pack, offset }) => Ok((pack, offset)),
            _ => Err(Error::corrupt(id, "its file is gone")),
        }
    }

    /// The loose objects of all object directories.
    ///
    /// # Errors
    ///
    /// When a directory cannot be read.
    pub fn loose(&self) -> Result<Vec<(ObjectId, Location)>, Error> {
        let mut found = Vec::new();
        for (place, dir) in (0u32..).zip(&self.dirs) {
            for id in loose::list(dir, self.object_hash())? {
                found.push((id, Location::Loose { dir: place }));
            }
        }
        Ok(found)
    }

    /// The object directory of a loose object.
    pub fn dir_of(&self, location: Location) -> Option<&std::path::Path> {
        match location {
            Location::Loose { dir } => self.dirs.get(dir as usize).map(PathBuf::as_path),
            Location::Packed { .. } => None,
        }
    }

    /// The entry at a packed location, cut exactly.
    ///
    /// # Errors
    ///
    /// When the bytes there are no entry.
    pub fn raw_entry(&self, pack: u32, offset: u64) -> Result<RawEntry<'_>, Error> {
        match self.pack(pack) {
            Some(pack) => pack.entry(offset, true),
            None => Err(Error::corrupt(offset, "its pack is not known")),
        }
    }

    fn read_packed(&mut self, id: &oid, pack_no: u32, offset: u64, nested: usize) -> Result<Object, Error> {
        let corrupt = |what: &str| Error::corrupt(id, what);
        let pack = self
            .pack(pack_no)
            .cloned()
            .ok_or_else(|| corrupt("its pack is not known"))?;
        let mut chain: Vec<(u64, u64, &[u8])> = Vec::new();
        let mut at = offset;
        let mut base = loop {
            if let Some((kind, data)) = self.cache.find(pack_no, at) {
                break Object { kind, data };
            }
            if chain.len() + nested > DELTA_DEPTH_MAX {
                return Err(corrupt("its chain of deltas has no end"));
            }
            let entry = pack.entry(at, false)?;
            if entry.inflated_size > OBJECT_BYTES_MAX {
                return Err(Error::TooLarge {
                    id: id.to_string(),
                    size: entry.inflated_size,
                });
            }
            match entry.kind {
                EntryKind::Whole(kind) => {
                    let mut data = Vec::new();
                    inflate_exact(&mut self.inflate, entry.deflated, entry.inflated_size, &mut data)
                        .map_err(corrupt)?;
                    let object = Object {
                        kind,
                        data: Arc::new(data),
                    };
                    // Trees are read again to be compared with those of the next commit.
                    if !chain.is_empty() || kind == Kind::Tree {
                        self.cache.insert(pack_no, at, kind, &object.data);
                    }
                    break object;
                }
                EntryKind::OfsDelta(base_offset) => {
                    chain.push((at, entry.inflated_size, entry.deflated));
                    at = base_offset;
                }
                EntryKind::RefDelta(base_id) => {
                    chain.push((at, entry.inflated_size, entry.deflated));
                    match pack.find(&base_id) {
                        Some(base_offset) => at = base_offset,
                        // A thin pack that was never completed: git reads these too.
                        None => {
                            let nested = nested + chain.len();
                            break match self.locate(&base_id)? {
                                Some(Location::Packed { pack, offset }) => {
                                    self.read_packed(&base_id, pack, offset, nested)?
                                }
                                Some(loose) => self.read_at(&base_id, loose)?,
                                None => return Err(corrupt("the base of its delta is missing")),
                            };
                        }
                    }
                }
            }
        };
        let mut instructions = Vec::new();
        while let Some((at, size, deflated)) = chain.pop() {
            instructions.clear();
            inflate_exact(&mut self.inflate, deflated, size, &mut instructions).map_err(corrupt)?;
            let header = delta::header(&instructions).map_err(|err| Error::corrupt(id, err))?;
            if header.result_size > OBJECT_BYTES_MAX {
                return Err(Error::TooLarge {
                    id: id.to_string(),
                    size: header.result_size,
                });
            }
            let mut result = Vec::new();
            delta::apply(&base.data, &instructions, &mut result).map_err(|err| Error::corrupt(id, err))?;
            base = Object {
                kind: base.kind,
                data: Arc::new(result),
            };
            self.cache.insert(pack_no, at, base.kind, &base.data);
        }
        Ok(base)
    }

    /// What an object is, found without making its bytes.
    ///
    /// # Errors
    ///
    /// When its entry or header is malformed.
    pub fn kind(&mut self, id: &oid) -> Result<Option<Kind>, Error> {
        match self.locate(id)? {
            Some(location) => self.kind_at(id, location).map(Some),
            None => Ok(None),
        }
    }

    /// What the object at `location` is.
    ///
    /// # Errors
    ///
    /// When its entry or header is malformed.
    pub fn kind_at(&mut self, id: &oid, location: Location) -> Result<Kind, Error> {
        let (pack_no, mut at) = match location {
            Location::Packed { pack, offset } => (pack, offset),
            Location::Loose { .. } => match self.try_open_loose(id, location)? {
                Some(reader) => return Ok(reader.kind()),
                None => self.packed_meanwhile(id)?,
            },
        };
        let mut pack = self
            .pack(pack_no)
            .cloned()
            .ok_or_else(|| Error::corrupt(id, "its pack is not known"))?;
        for _ in 0..DELTA_DEPTH_MAX {
            match pack.entry(at, false)?.kind {
                EntryKind::Whole(kind) => return Ok(kind),
                EntryKind::OfsDelta(base) => at = base,
                EntryKind::RefDelta(base_id) => match pack.find(&base_id) {
                    Some(base) => at = base,
                    None => match self.locate(&base_id)? {
                        Some(Location::Packed { pack: other, offset }) => {
                            pack = self
                                .pack(other)
                                .cloned()
                                .ok_or_else(|| Error::corrupt(id, "its pack is gone"))?;
                            at = offset;
                        }
                        Some(loose) => return Ok(self.open_loose(&base_id, loose)?.kind()),
                        None => return Err(Error::corrupt(id, "the base of its delta is missing")),
                    },
                },
            }
        }
        Err(Error::corrupt(id, "its chain of deltas has no end"))
    }

    /// What a tag finally points at, tags of tags followed; `None` if `id` is no tag or leads nowhere.
    ///
    /// # Errors
    ///
    /// When an object on the way is corrupt.
    pub fn peel(&mut self, id: ObjectId) -> Result<Option<ObjectId>, Error> {
        let mut at = id;
        // Each step reads an object that names the next by its hash, so there is no circle; the bound is for a chain
        // that somebody made long.
        for _ in 0..1000 {
            match self.kind(&at)? {
                Some(Kind::Tag) => {}
                Some(_) => return Ok((at != id).then_some(at)),
                None => return Ok(None),
            }
            let Some(object) = self.read(&at)? else {
                return Ok(None);
            };
            match gix_object::TagRefIter::from_bytes(&object.data, self.object_hash()).target_id() {
                Ok(target) => at = target,
                Err(err) => return Err(Error::corrupt(at, err)),
            }
        }
        Ok(None)
    }
}
