//! Writing reverse index files, version 1, as gitformat-pack(5), "pack-*.rev files", has them.

use std::io::{self, Write};

use gix_hash::{Kind, ObjectId};

use super::Hashing;

/// Writes the reverse index that belongs to an index in `order`, made by [`super::sort`]: for each entry in pack
/// order its place in the index.
///
/// # Errors
///
/// Those of `out`, and when `order` is not a permutation of `0..order.len()`.
pub fn write(
    out: &mut dyn Write,
    hash: Kind,
    order: &[u32],
    pack_checksum: &ObjectId,
) -> io::Result<ObjectId> {
    let mut out = Hashing::new(out, hash);
    out.write_all(b"RIDX")?;
    out.write_all(&1u32.to_be_bytes())?;
    let hash_id: u32 = match hash {
        Kind::Sha1 => 1,
        Kind::Sha256 => 2,
        _ => return Err(io::Error::other("no number is assigned to this object hash")),
    };
    out.write_all(&hash_id.to_be_bytes())?;
    let mut places = vec![0u32; order.len()];
    for (place, &entry) in order.iter().enumerate() {
        let slot = places
            .get_mut(entry as usize)
            .ok_or_else(|| io::Error::other("not a permutation"))?;
        *slot = place as u32;
    }
    for place in places {
        out.write_all(&place.to_be_bytes())?;
    }
    out.write_all(pack_checksum.as_slice())?;
    out.finish()
}
