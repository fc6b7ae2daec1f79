//! What can only be checked when all objects of a pack are known.

use std::collections::HashSet;

use gix_hash::ObjectId;
use gix_object::Kind;

use super::inspect::Shared;
use super::records::{OFS_DELTA, Objects, REF_DELTA, Records};
use super::reread::Reader;
use super::{Bases, Error};
use crate::pack::fsck::{self, gitmodules};
use crate::pack::index;
use crate::repository::objects::delta;

/// A pack all of whose objects are known.
pub(super) struct Whole<'a> {
    pub shared: &'a Shared<'a>,
    pub records: &'a Records,
    pub objects: &'a Objects,
    /// The entries by id.
    pub order: &'a [u32],
}

impl Whole<'_> {
    /// Makes sure that no object is twice in the pack. No client makes such a pack, git refuses it where it checks
    /// objects (`index-pack --strict`), and of two entries with one id one could be a delta upon the other: a reader
    /// that looks its base up by id would go round for ever.
    pub fn check_duplicates(&self) -> Result<(), Error> {
        let id = |at: u32| self.objects.ids.get(at);
        let twice = self.order.windows(2).find_map(|pair| match pair {
            [a, b] if id(*a) == id(*b) => Some(*a),
            _ => None,
        });
        match twice {
            Some(entry) => {
                let null = || ObjectId::null(self.shared.options.object_hash);
                Err(Error::Duplicate {
                    id: self.objects.ids.object_id(entry).unwrap_or_else(null),
                })
            }
            None => Ok(()),
        }
    }

    /// Checks what trees of the pack call `.gitmodules`, in the pack or in the repository.
    pub fn check_gitmodules(
        &self,
        ids: &HashSet<ObjectId>,
        reader: &mut Reader<'_>,
        bases: &mut dyn Bases,
    ) -> Result<(), Error> {
        let Some(options) = self.shared.options.fsck.as_ref() else {
            return Ok(());
        };
        let hash = self.shared.options.object_hash;
        // In one order, so that one pack always has one finding.
        let mut ids: Vec<_> = ids.iter().copied().collect();
        ids.sort_unstable();
        let mut data = Vec::new();
        for id in ids {
            self.shared.check_stop()?;
            let places = index::find(&self.objects.ids.bytes, hash, self.order, &id);
            match self.order.get(places.start).filter(|_| !places.is_empty()) {
                Some(&entry) => self.read(entry, reader, &mut data)?,
                None => {
                    data.clear();
                    let found = bases
                        .find(&id, &mut data)
                        .map_err(|source| Error::Bases { id, source })?;
                    match found {
                        Some(Kind::Blob) => {}
                        // Whether everything is there, and of the right kind, is asked of all links alike.
                        _ => continue,
                    }
                }
            }
            let refuse = |finding| Error::Fsck { id, finding };
            if data.len() as u64 > gitmodules::BYTES_MAX {
                options.report(fsck::Message::GitmodulesLarge).map_err(refuse)?;
                continue;
            }
            gitmodules::check(&data, options).map_err(refuse)?;
        }
        Ok(())
    }

    /// Reads one object, whatever is between it and a whole one.
    fn read(&self, mut entry: u32, reader: &mut Reader<'_>, data: &mut Vec<u8>) -> Result<(), Error> {
        let hash = self.shared.options.object_hash;
        let mut chain = Vec::new();
        loop {
            let (offset, _) = self.records.range(entry);
            let stored = reader.header(self.records, entry, hash.len_in_bytes())?;
            chain.push((offset, stored));
            if chain.len() > self.order.len() {
                return Err(Error::Reread { offset });
            }
            let base = match self.records.types.get(entry as usize).copied() {
                Some(OFS_DELTA) => offset
                    .checked_sub(stored.distance)
                    .and_then(|base| self.records.at_offset(base)),
                Some(REF_DELTA) => {
                    let id = reader.base_id(&stored, hash)?;
                    let places = index::find(&self.objects.ids.bytes, hash, self.order, &id);
                    self.order
                        .get(places.start)
                        .filter(|_| !places.is_empty())
                        .copied()
                }
                _ => break,
            };
            entry = base.ok_or(Error::Reread { offset })?;
        }
        data.clear();
        let mut delta = Vec::new();
        let mut result = Vec::new();
        for (depth, (offset, stored)) in chain.iter().rev().enumerate() {
            if depth == 0 {
                self.shared.spend(stored.size)?;
                reader.inflate(stored, data)?;
                continue;
            }
            reader.inflate(stored, &mut delta)?;
            let malformed = |source| Error::Delta {
                offset: *offset,
                source,
            };
            self.shared
                .spend(delta::header(&delta).map_err(malformed)?.result_size)?;
            result.clear();
            delta::apply(data, &delta, &mut result).map_err(malformed)?;
            std::mem::swap(data, &mut result);
        }
        Ok(())
    }
}
