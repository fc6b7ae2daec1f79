//! Writing pack index files, version 2, as gitformat-pack(5) has them.
//!
//! Knows ids, offsets and checksums of the entries of one pack; does not know what the objects hold or where the
//! pack came from. Entries are given in pack order; all output is determined by them alone.

pub mod rev;

use std::io::{self, Write};

use gix_hash::{Kind, ObjectId};

/// `\377tOc`, which no version 1 index can begin with.
const SIGNATURE: [u8; 4] = [0xff, 0x74, 0x4f, 0x63];

/// Offsets from here on do not fit the 31 bits of the main offset table and go to the table of 64-bit offsets.
const LARGE_OFFSET: u64 = 1 << 31;

/// The entries of one pack in pack order, a column each; all columns have one length.
#[derive(Debug, Clone, Copy)]
pub struct Entries<'a> {
    /// Which hash names the objects.
    pub hash: Kind,
    /// Raw ids, one after another without gaps.
    pub ids: &'a [u8],
    /// CRC-32 of each entry as it lies in the pack, header included.
    pub crcs: &'a [u32],
    /// Where each entry begins, ascending.
    pub offsets: &'a [u64],
}

impl Entries<'_> {
    fn id(&self, entry: u32) -> &[u8] {
        id_at(self.ids, self.hash.len_in_bytes(), entry)
    }
}

fn id_at(ids: &[u8], len: usize, entry: u32) -> &[u8] {
    let from = entry as usize * len;
    ids.get(from..from + len).unwrap_or_default()
}

/// Returns the numbers of the entries in order of their ids; equal ids in pack order.
///
/// # Bounds
///
/// 4 bytes an entry, and passing a 256th of 16 bytes an entry.
pub fn sort(ids: &[u8], hash: Kind) -> Vec<u32> {
    let len = hash.len_in_bytes();
    let count = ids.len() / len;
    let mut starts = [0usize; 257];
    for id in ids.chunks_exact(len) {
        if let Some(start) = starts.get_mut(id.first().map_or(0, |byte| usize::from(*byte) + 1)) {
            *start += 1;
        }
    }
    for bucket in 0..256 {
        starts[bucket + 1] += starts[bucket];
    }
    let mut order = vec![0u32; count];
    let mut next = starts;
    for (entry, id) in ids.chunks_exact(len).enumerate() {
        let bucket = id.first().map_or(0, |byte| usize::from(*byte));
        order[next[bucket]] = entry as u32;
        next[bucket] += 1;
    }
    let mut keyed: Vec<(u64, u32)> = Vec::new();
    for bucket in 0..256 {
        let part = &mut order[starts[bucket]..starts[bucket + 1]];
        keyed.clear();
        keyed.extend(part.iter().map(|&entry| (prefix(id_at(ids, len, entry)), entry)));
        keyed.sort_unstable_by(|a, b| {
            a.0.cmp(&b.0)
                .then_with(|| id_at(ids, len, a.1).cmp(id_at(ids, len, b.1)))
                .then_with(|| a.1.cmp(&b.1))
        });
        for (slot, (_, entry)) in part.iter_mut().zip(&keyed) {
            *slot = *entry;
        }
    }
    order
}

fn prefix(id: &[u8]) -> u64 {
    id.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// Finds the places in `order`, as [`sort`] made it, that hold `id`; several when a pack has an object twice.
pub fn find(ids: &[u8], hash: Kind, order: &[u32], id: &gix_hash::oid) -> std::ops::Range<usize> {
    let len = hash.len_in_bytes();
    let from = order.partition_point(|&entry| id_at(ids, len, entry) < id.as_bytes());
    let same = order
        .iter()
        .skip(from)
        .take_while(|&&entry| id_at(ids, len, entry) == id.as_bytes())
        .count();
    from..from + same
}

/// Writes an index of `entries`, whose numbers are in `order` by id, for the pack that ends in `pack_checksum`.
///
/// # Errors
///
/// Those of `out`, and when the columns differ in length.
pub fn write(
    out: &mut dyn Write,
    entries: &Entries<'_>,
    order: &[u32],
    pack_checksum: &ObjectId,
) -> io::Result<ObjectId> {
    let mut out = Hashing::new(out, entries.hash);
    out.write_all(&SIGNATURE)?;
    out.write_all(&2u32.to_be_bytes())?;
    let mut fanout = [0u32; 256];
    for id in entries.ids.chunks_exact(entries.hash.len_in_bytes()) {
        fanout[id.first().map_or(0, |byte| usize::from(*byte))] += 1;
    }
    let mut total = 0u32;
    for count in fanout {
        total += count;
        out.write_all(&total.to_be_bytes())?;
    }
    for &entry in order {
        out.write_all(entries.id(entry))?;
    }
    for &entry in order {
        out.write_all(&column(entries.crcs, entry)?.to_be_bytes())?;
    }
    let mut large = Vec::new();
    for &entry in order {
        let offset = column(entries.offsets, entry)?;
        let short = match u32::try_from(offset) {
            Ok(short) if offset < LARGE_OFFSET => short,
            _ => {
                large.push(offset);
                LARGE_OFFSET as u32 | (large.len() - 1) as u32
            }
        };
        out.write_all(&short.to_be_bytes())?;
    }
    for offset in large {
        out.write_all(&offset.to_be_bytes())?;
    }
    out.write_all(pack_checksum.as_slice())?;
    out.finish()
}

fn column<T: Copy>(values: &[T], entry: u32) -> io::Result<T> {
    values
        .get(entry as usize)
        .copied()
        .ok_or_else(|| io::Error::other("pack records are incomplete"))
}

/// Writes through a buffer and hashes what passes; the digest goes last.
struct Hashing<'a> {
    out: &'a mut dyn Write,
    buffer: Vec<u8>,
    hasher: gix_hash::Hasher,
}

impl<'a> Hashing<'a> {
    const BUFFER_BYTES: usize = 64 << 10;

    fn new(out: &'a mut dyn Write, hash: Kind) -> Self {
        Hashing {
            out,
            buffer: Vec::with_capacity(Self::BUFFER_BYTES),
            hasher: gix_hash::hasher(hash),
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.buffer.len() + bytes.len() > Self::BUFFER_BYTES {
            self.flush()?;
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.hasher.update(&self.buffer);
        self.out.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }

    fn finish(mut self) -> io::Result<ObjectId> {
        self.flush()?;
        let digest = self.hasher.try_finalize().map_err(io::Error::other)?;
        self.out.write_all(digest.as_slice())?;
        self.out.flush()?;
        Ok(digest)
    }
}

#[cfg(test)]
mod tests;
