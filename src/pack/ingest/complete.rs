//! Completing a thin pack: the bases that it lacks are appended, as `git index-pack --fix-thin` does.

use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use gix_hash::ObjectId;
use gix_object::Kind;

use super::inspect::{lock, object_hasher};
use super::records::{Records, number_of};
use super::resolve::{Resolve, Worker};
use super::{Bases, Error};

/// Bytes that are hashed at once when the checksum is made again.
const PIECE_BYTES: usize = 128 << 10;

/// Appends the bases that REF_DELTAs lack, in the order of those deltas, each resolved before the next is looked at:
/// a base of one is often made by another. Returns the pack's new checksum, or `checksum` when nothing was appended.
pub(super) fn run(
    resolve: &Resolve<'_>,
    records: &mut Records,
    bases: &mut dyn Bases,
    checksum: ObjectId,
) -> Result<ObjectId, Error> {
    let mut order: Vec<u32> = (0..records.ref_deltas.entries.len() as u32).collect();
    order.sort_unstable_by_key(|&at| records.ref_deltas.entries.get(at as usize).copied());
    let received_count = records.len();
    let mut worker = Worker::new(resolve);
    let mut data = Vec::new();
    for at in order {
        if records.ref_deltas.is_claimed(at) {
            continue;
        }
        let Some(id) = records.ref_deltas.base_ids.object_id(at) else {
            continue;
        };
        resolve.shared.check_stop()?;
        data.clear();
        let found = bases
            .find(&id, &mut data)
            .map_err(|source| Error::Bases { id, source })?;
        let Some(kind) = found else { continue };
        let entry = append(resolve, records, &id, kind, &data)?;
        worker.family(records, entry, kind, Some(std::mem::take(&mut data)), &mut |_| {})?;
        worker.flush()?;
    }
    if records.len() == received_count {
        return Ok(checksum);
    }
    close(resolve, records)
}

/// Writes a whole object at the end of the entries.
fn append(
    resolve: &Resolve<'_>,
    records: &mut Records,
    id: &ObjectId,
    kind: Kind,
    data: &[u8],
) -> Result<u32, Error> {
    let (options, output) = (resolve.shared.options, resolve.output);
    let size = data.len() as u64;
    let offset = records.end;
    let count = u64::from(records.len()) + 1;
    if count > u64::from(options.limits.objects_count_max) {
        return Err(Error::ObjectsCount {
            count,
            max: options.limits.objects_count_max,
        });
    }
    resolve.shared.check_object_bytes(kind, size, offset)?;
    resolve.shared.spend(size)?;
    let mut hasher = object_hasher(options.object_hash, kind, size);
    hasher.update(data);
    if hasher.try_finalize().map_err(|_| Error::Collision { offset })? != *id {
        return Err(Error::CorruptBase { id: *id });
    }
    output.check_disk(size, options.limits.disk_reserve_bytes)?;
    let mut appender = Appender {
        output,
        crc: crc32fast::Hasher::new(),
        len: 0,
    };
    let written = (|| {
        let mut file = output.file;
        file.seek(SeekFrom::Start(offset))?;
        appender.write_all(&entry_header(number_of(kind), size))?;
        let level = Compression::new(u32::try_from(options.compression).unwrap_or(6).min(9));
        let mut encoder = ZlibEncoder::new(&mut appender, level);
        encoder.write_all(data)?;
        encoder.finish().map(|_| ())
    })();
    written.map_err(|error| output.error(error))?;
    records.end = offset + appender.len;
    let trailer_bytes = options.object_hash.len_in_bytes() as u64;
    if records.end + trailer_bytes > options.limits.pack_bytes_max {
        return Err(Error::PackBytes {
            max: options.limits.pack_bytes_max,
        });
    }
    let entry = records.push(offset, number_of(kind));
    if let Some(crc) = records.crcs.last_mut() {
        *crc = appender.crc.finalize();
    }
    lock(&resolve.shared.objects).set(entry, id, kind);
    Ok(entry)
}

/// Writes the header with the new number of objects, and the checksum.
fn close(resolve: &Resolve<'_>, records: &Records) -> Result<ObjectId, Error> {
    let output = resolve.output;
    let mut hasher = gix_hash::hasher(resolve.shared.options.object_hash);
    let hashed = (|| -> io::Result<()> {
        output.file.write_all_at(&records.len().to_be_bytes(), 8)?;
        let mut piece = vec![0u8; PIECE_BYTES];
        let mut offset = 0u64;
        while offset < records.end {
            let len = usize::try_from(records.end - offset).map_or(PIECE_BYTES, |left| left.min(PIECE_BYTES));
            let piece = piece.get_mut(..len).unwrap_or_default();
            output.file.read_exact_at(piece, offset)?;
            hasher.update(piece);
            offset += len as u64;
        }
        Ok(())
    })();
    hashed.map_err(|error| output.error(error))?;
    let checksum = hasher
        .try_finalize()
        .map_err(|_| Error::Collision { offset: 0 })?;
    let written = output.file.write_all_at(checksum.as_slice(), records.end);
    written.map_err(|error| output.error(error))?;
    Ok(checksum)
}

/// Encodes the header of an entry that is no delta.
fn entry_header(number: u8, size: u64) -> Vec<u8> {
    let mut header = Vec::with_capacity(10);
    let mut byte = (number << 4) | (size & 0x0f) as u8;
    let mut rest = size >> 4;
    while rest != 0 {
        header.push(byte | 0x80);
        byte = (rest & 0x7f) as u8;
        rest >>= 7;
    }
    header.push(byte);
    header
}

/// Writes to the pack, with a checksum of what is written.
struct Appender<'a> {
    output: super::input::Output<'a>,
    crc: crc32fast::Hasher,
    len: u64,
}

impl Write for Appender<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut file = self.output.file;
        let count = file.write(bytes)?;
        self.crc.update(bytes.get(..count).unwrap_or_default());
        self.len += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
