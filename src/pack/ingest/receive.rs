//! The first pass: reads entry after entry from the stream, hashes the whole objects and passes over the deltas.

use flate2::{Decompress, FlushDecompress, Status};
use gix_hash::ObjectId;
use gix_object::Kind;

use super::input::Input;
use super::inspect::{Inspector, Shared, object_hasher};
use super::records::{OFS_DELTA, REF_DELTA, Records, kind_of};
use super::{Error, Progress};
use crate::pack::scan::Scanner;

/// Inflated bytes that are held at once of an object that need not be whole.
const PIECE_BYTES: usize = 64 << 10;

/// Bytes of small objects that are handed to another thread at once; larger objects are not handed on.
const BATCH_BYTES: usize = 256 << 10;

/// Entries between two reports of progress.
const PROGRESS_ENTRIES: u32 = 256;

/// Small whole objects, one after another, for [`Batch::inspect`].
#[derive(Debug, Default)]
pub(super) struct Batch {
    data: Vec<u8>,
    items: Vec<Item>,
}

#[derive(Debug)]
struct Item {
    entry: u32,
    offset: u64,
    kind: Kind,
    len: usize,
}

impl Batch {
    /// Hashes and checks the objects.
    pub fn inspect(&self, inspector: &mut Inspector<'_>) -> Result<(), Error> {
        let mut rest = self.data.as_slice();
        for item in &self.items {
            let (data, tail) = rest.split_at_checked(item.len).unwrap_or_default();
            rest = tail;
            inspector.object(item.entry, item.offset, item.kind, data, None)?;
        }
        Ok(())
    }
}

/// What the header of an entry says.
struct Header {
    number: u8,
    size: u64,
    /// The base of an OFS_DELTA.
    base: Option<u32>,
}

/// The first pass over one pack.
pub(super) struct Receiver<'a, 's> {
    pub input: &'a mut Input<'s>,
    pub shared: &'a Shared<'a>,
    /// For objects that are too large for a batch.
    pub inspector: Inspector<'a>,
    /// Where batches go, and whether one is the last.
    pub submit: &'a mut dyn FnMut(Batch, bool) -> Result<(), Error>,
    pub progress: &'a mut dyn FnMut(Progress),
}

impl Receiver<'_, '_> {
    /// Reads the pack to its end and returns what was seen of its entries, and its checksum.
    pub fn run(&mut self) -> Result<(Records, ObjectId), Error> {
        let count = self.pack_header()?;
        let mut records = Records::new(self.shared.options.object_hash);
        let mut state = State {
            inflate: Decompress::new(true),
            piece: Vec::with_capacity(PIECE_BYTES),
            batch: Batch::default(),
        };
        for entry in 0..count {
            if entry % PROGRESS_ENTRIES == 0 {
                self.shared.check_stop()?;
                let bytes = self.input.offset();
                (self.progress)(Progress::Receiving {
                    objects: entry,
                    total: count,
                    bytes,
                });
            }
            self.entry(&mut records, &mut state)?;
        }
        if !state.batch.items.is_empty() {
            (self.submit)(state.batch, true)?;
        }
        self.inspector.flush()?;
        records.end = self.input.offset();
        let checksum = self.input.finish()?;
        (self.progress)(Progress::Receiving {
            objects: count,
            total: count,
            bytes: self.input.offset(),
        });
        Ok((records, checksum))
    }

    fn pack_header(&mut self) -> Result<u32, Error> {
        let mut word = [0u8; 4];
        self.input.exact(&mut word)?;
        if word != *b"PACK" {
            return Err(Error::Signature);
        }
        self.input.exact(&mut word)?;
        let version = u32::from_be_bytes(word);
        if version != 2 && version != 3 {
            return Err(Error::Version(version));
        }
        self.input.exact(&mut word)?;
        let count = u32::from_be_bytes(word);
        let max = self.shared.options.limits.objects_count_max;
        if count > max {
            return Err(Error::ObjectsCount {
                count: u64::from(count),
                max,
            });
        }
        self.shared
            .objects_count
            .store(count, std::sync::atomic::Ordering::Relaxed);
        self.input.take_crc();
        Ok(count)
    }

    fn entry(&mut self, records: &mut Records, state: &mut State) -> Result<(), Error> {
        let offset = self.input.offset();
        let header = self.entry_header(offset, records)?;
        let entry = records.push(offset, header.number);
        // A delta that makes an object within the limit has no need to be larger than that object.
        let kind = kind_of(header.number);
        self.shared
            .check_object_bytes(kind.unwrap_or(Kind::Blob), header.size, offset)?;
        self.shared.spend(header.size)?;
        match kind {
            Some(kind) => {
                self.whole(entry, offset, kind, header.size, state)?;
            }
            None => {
                records.deltas_count += 1;
                if let Some(base) = header.base {
                    records.link(base, entry);
                }
                let State { inflate, piece, .. } = state;
                inflate_entry(
                    self.input,
                    inflate,
                    offset,
                    header.size,
                    piece,
                    &mut |piece, _| {
                        piece.clear();
                        Ok(())
                    },
                )?;
            }
        }
        if let Some(crc) = records.crcs.last_mut() {
            *crc = self.input.take_crc();
        }
        Ok(())
    }

    fn entry_header(&mut self, offset: u64, records: &mut Records) -> Result<Header, Error> {
        let first = self.input.byte()?;
        let number = (first >> 4) & 7;
        let mut size = u64::from(first & 0x0f);
        let mut shift = 4u32;
        let mut byte = first;
        while byte & 0x80 != 0 {
            byte = self.input.byte()?;
            let part = u64::from(byte & 0x7f);
            if shift > 63 || (part << shift) >> shift != part {
                return Err(Error::Header { offset });
            }
            size |= part << shift;
            shift += 7;
        }
        let base = match number {
            1..=4 => None,
            OFS_DELTA => Some(self.base_entry(offset, records)?),
            REF_DELTA => {
                let mut id = [0u8; gix_hash::Kind::longest().len_in_bytes()];
                let len = self.shared.options.object_hash.len_in_bytes();
                let id = id.get_mut(..len).unwrap_or_default();
                self.input.exact(id)?;
                records.ref_deltas.push(id, records.len());
                None
            }
            kind => return Err(Error::Type { kind, offset }),
        };
        Ok(Header { number, size, base })
    }

    fn base_entry(&mut self, offset: u64, records: &Records) -> Result<u32, Error> {
        let mut byte = self.input.byte()?;
        let mut distance = u64::from(byte & 0x7f);
        while byte & 0x80 != 0 {
            byte = self.input.byte()?;
            distance = distance
                .checked_add(1)
                .filter(|distance| distance >> 57 == 0)
                .map(|distance| (distance << 7) | u64::from(byte & 0x7f))
                .ok_or(Error::Header { offset })?;
        }
        offset
            .checked_sub(distance)
            .filter(|_| distance > 0)
            .and_then(|base| records.at_offset(base))
            .ok_or(Error::BaseOffset { offset })
    }

    fn whole(
        &mut self,
        entry: u32,
        offset: u64,
        kind: Kind,
        size: u64,
        state: &mut State,
    ) -> Result<(), Error> {
        let hash = self.shared.options.object_hash;
        if size <= (BATCH_BYTES / 2) as u64 {
            let len = size as usize;
            if state.batch.data.len() + len > BATCH_BYTES {
                (self.submit)(std::mem::take(&mut state.batch), false)?;
            }
            let State { inflate, batch, .. } = state;
            batch
                .data
                .reserve(BATCH_BYTES + 1 - batch.data.len().min(BATCH_BYTES));
            inflate_entry(self.input, inflate, offset, size, &mut batch.data, &mut |_, _| {
                Ok(())
            })?;
            batch.items.push(Item {
                entry,
                offset,
                kind,
                len,
            });
        } else if kind == Kind::Blob {
            let mut hasher = object_hasher(hash, kind, size);
            let mut scan = self.shared.scanner.map(Scanner::pieces);
            let State { inflate, piece, .. } = state;
            inflate_entry(self.input, inflate, offset, size, piece, &mut |piece, from| {
                let news = piece.get(from..).unwrap_or_default();
                hasher.update(news);
                if let Some(scan) = &mut scan {
                    scan.feed(news);
                }
                piece.clear();
                Ok(())
            })?;
            let id = hasher.try_finalize().map_err(|_| Error::Collision { offset })?;
            if let Some(scan) = scan {
                scan.finish(&id, kind);
            }
            self.inspector.hashed(entry, id, kind)?;
        } else {
            let mut data = Vec::new();
            inflate_entry(
                self.input,
                &mut state.inflate,
                offset,
                size,
                &mut data,
                &mut |data, _| {
                    if data.capacity() - data.len() < PIECE_BYTES {
                        data.reserve(PIECE_BYTES);
                    }
                    Ok(())
                },
            )?;
            self.inspector.object(entry, offset, kind, &data, None)?;
        }
        Ok(())
    }
}

struct State {
    inflate: Decompress,
    piece: Vec<u8>,
    batch: Batch,
}

/// Inflates the zlib stream that `input` is at into the room that `out` has, calling `piece` with where its news begin
/// after every step; `piece` makes room again.
///
/// # Bounds
///
/// `out` never grows here.
fn inflate_entry(
    input: &mut Input<'_>,
    inflate: &mut Decompress,
    offset: u64,
    size: u64,
    out: &mut Vec<u8>,
    piece: &mut dyn FnMut(&mut Vec<u8>, usize) -> Result<(), Error>,
) -> Result<(), Error> {
    inflate.reset(true);
    if out.capacity() == out.len() {
        out.reserve(PIECE_BYTES);
    }
    loop {
        let bytes = input.fill()?;
        let (in_before, out_before, len_before) = (inflate.total_in(), inflate.total_out(), out.len());
        let status = inflate
            .decompress_vec(bytes, out, FlushDecompress::None)
            .map_err(|_| Error::Inflate { offset })?;
        let consumed = inflate.total_in() - in_before;
        input.consume(consumed as usize);
        if inflate.total_out() > size {
            return Err(Error::Size { offset });
        }
        piece(out, len_before)?;
        if status == Status::StreamEnd {
            break;
        }
        if consumed == 0 && inflate.total_out() == out_before {
            return Err(Error::Inflate { offset });
        }
    }
    if inflate.total_out() == size {
        Ok(())
    } else {
        Err(Error::Size { offset })
    }
}
