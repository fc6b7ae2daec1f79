//! Makes packs that no git would make.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use gix_hash::{Kind as HashKind, ObjectId};
use gix_object::Kind;

pub(super) fn id_of(kind: Kind, data: &[u8]) -> ObjectId {
    gix_object::compute_hash(HashKind::Sha1, kind, data).unwrap()
}

pub(super) fn deflated(data: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::new(6));
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn size_bytes(mut size: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let byte = (size & 0x7f) as u8;
        size >>= 7;
        bytes.push(if size == 0 { byte } else { byte | 0x80 });
        if size == 0 {
            return bytes;
        }
    }
}

/// A delta that copies `copies` of the base and then adds `insert`.
pub(super) fn delta(base_len: u64, copies: &[(u32, u32)], insert: &[u8]) -> Vec<u8> {
    let copied: u64 = copies.iter().map(|(_, len)| u64::from(*len)).sum();
    let mut delta = size_bytes(base_len);
    delta.extend(size_bytes(copied + insert.len() as u64));
    for (offset, len) in copies {
        delta.push(0xff);
        delta.extend_from_slice(&offset.to_le_bytes());
        delta.extend_from_slice(&len.to_le_bytes()[..3]);
    }
    for part in insert.chunks(0x7f) {
        delta.push(part.len() as u8);
        delta.extend_from_slice(part);
    }
    delta
}

/// A pack that grows entry by entry.
pub(super) struct Packer {
    bytes: Vec<u8>,
    count: u32,
}

impl Packer {
    pub(super) fn new() -> Self {
        Packer {
            bytes: b"PACK\0\0\0\x02\0\0\0\0".to_vec(),
            count: 0,
        }
    }

    pub(super) fn header(&mut self, number: u8, size: u64) -> u64 {
        let offset = self.bytes.len() as u64;
        self.count += 1;
        let first = (number << 4) | (size & 0x0f) as u8;
        if size >> 4 == 0 {
            self.bytes.push(first);
        } else {
            self.bytes.push(first | 0x80);
            self.bytes.extend(size_bytes(size >> 4));
        }
        offset
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(super) fn whole(&mut self, kind: Kind, data: &[u8]) -> u64 {
        let offset = self.header(super::records::number_of(kind), data.len() as u64);
        self.raw(&deflated(data));
        offset
    }

    pub(super) fn ofs_delta(&mut self, base: u64, delta: &[u8]) -> u64 {
        let offset = self.header(6, delta.len() as u64);
        self.distance(offset - base);
        self.raw(&deflated(delta));
        offset
    }

    pub(super) fn distance(&mut self, mut distance: u64) {
        let mut bytes = vec![(distance & 0x7f) as u8];
        distance >>= 7;
        while distance != 0 {
            distance -= 1;
            bytes.push((distance & 0x7f) as u8 | 0x80);
            distance >>= 7;
        }
        bytes.reverse();
        self.raw(&bytes);
    }

    pub(super) fn ref_delta(&mut self, base: &ObjectId, delta: &[u8]) -> u64 {
        let offset = self.header(7, delta.len() as u64);
        self.raw(base.as_slice());
        self.raw(&deflated(delta));
        offset
    }

    pub(super) fn finish(self) -> Vec<u8> {
        let count = self.count;
        self.finish_claiming(count)
    }

    pub(super) fn finish_claiming(mut self, count: u32) -> Vec<u8> {
        self.bytes[8..12].copy_from_slice(&count.to_be_bytes());
        sealed(self.bytes)
    }
}

/// Appends the right checksum.
pub(super) fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let mut hasher = gix_hash::hasher(HashKind::Sha1);
    hasher.update(&bytes);
    bytes.extend_from_slice(hasher.try_finalize().unwrap().as_slice());
    bytes
}
