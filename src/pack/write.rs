//! Writing a pack while it is made: entries as they are stored wherever that is right, nothing held but one entry.
//!
//! An entry that is a delta is copied as it is when its base goes along (then as OFS_DELTA, the distance rewritten, or
//! as REF_DELTA for a client without ofs-delta) or when the client has the base and takes thin packs (REF_DELTA).
//! Every other object is deflated whole. Spec: gitformat-pack(5).

use std::io::Write;
use std::sync::Arc;

use flate2::{Compress, Compression, FlushCompress, Status};
use gix_hash::ObjectId;
use gix_object::Kind;

use super::Error;
use super::enumerate::{ListedObject, ObjectList};
use crate::interrupt::Interrupt;
use crate::repository::objects::{EntryKind, Location, Objects};

/// Pieces in which large objects are deflated.
const PIECE_BYTES: usize = 64 << 10;

/// Pieces in which a whole pack is copied, between two looks at the interrupt.
const COPIED_PIECE_BYTES: usize = 1 << 20;

/// How a pack is to be made.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Deltas may be against objects that the other side has.
    pub thin: bool,
    /// Deltas may name their base by distance.
    pub ofs_delta: bool,
    /// zlib's level, 0 to 9; below 0 its default.
    pub compression: i32,
}

/// What was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// Objects.
    pub objects: u64,
    /// Those of them that went as deltas; not counted where a pack was copied as a whole.
    pub deltas: u64,
    /// Those that were copied as stored.
    pub reused: u64,
    /// Those of the copied ones that are deltas.
    pub reused_deltas: u64,
    /// Bytes, trailer included.
    pub bytes: u64,
}

/// Writes a pack of everything in `list` to `out`.
///
/// `progress` is told how many objects were written, at each one.
///
/// # Bounds
///
/// Nine bytes of memory for an object, and one object at a time where it cannot be copied or streamed.
///
/// # Errors
///
/// When an object turns out corrupt, `out` fails, or the interrupt was triggered. What was written till then is a pack
/// without its end: the caller must not make it look whole.
pub fn write(
    objects: &mut Objects,
    list: &ObjectList,
    options: Options,
    out: &mut dyn Write,
    progress: &mut dyn FnMut(u64),
    interrupt: &Interrupt,
) -> Result<Written, Error> {
    let level = u32::try_from(options.compression).map_or(Compression::default(), Compression::new);
    let mut writer = Writer {
        hash: objects.object_hash(),
        objects,
        list,
        options,
        out: HashedOut {
            hasher: gix_hash::hasher(gix_hash::Kind::Sha1),
            inner: out,
            bytes: 0,
        },
        offsets: vec![0; list.objects().len()],
        deflate: Compress::new(level, true),
        buffer: vec![0; PIECE_BYTES],
        written: Written::default(),
    };
    writer.out.hasher = gix_hash::hasher(writer.hash);
    writer.run(progress, interrupt)
}

/// Bytes going out, hashed and counted.
struct HashedOut<'a> {
    hasher: gix_hash::Hasher,
    inner: &'a mut dyn Write,
    bytes: u64,
}

impl HashedOut<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        self.inner.write_all(bytes).map_err(Error::Write)
    }
}

struct Writer<'a> {
    hash: gix_hash::Kind,
    objects: &'a mut Objects,
    list: &'a ObjectList,
    options: Options,
    out: HashedOut<'a>,
    /// Where each object's entry starts; 0 for those not written yet, [`IN_PROGRESS`] for those whose base is.
    offsets: Vec<u64>,
    deflate: Compress,
    buffer: Vec<u8>,
    written: Written,
}

/// Marks an object that waits for its base, so that a circle of bases is noticed: duplicates in several packs may be
/// deltas of each other.
const IN_PROGRESS: u64 = u64::MAX;

/// How one object goes out.
enum Plan {
    /// The stored zlib stream behind a new header.
    CopyWhole(Kind),
    /// The stored delta; its base is listed, at this place.
    CopyDelta(usize),
    /// The stored delta; the client has its base.
    CopyThinDelta(ObjectId),
    /// Made anew.
    Deflate,
}

impl Writer<'_> {
    /// Sends a whole pack as it is stored.
    fn copy_pack(mut self, pack: u32, interrupt: &Interrupt) -> Result<Written, Error> {
        let pack = self.objects.pack(pack).map(Arc::clone);
        let stored = pack.as_ref().and_then(|pack| pack.all_entries());
        let (entries, checksum) = stored.ok_or_else(|| {
            crate::repository::objects::Error::corrupt("a pack", "it cannot be read any more")
        })?;
        let count = u32::try_from(self.list.len()).map_err(|_| too_many())?;
        let out = &mut *self.out.inner;
        out.write_all(b"PACK\0\0\0\x02").map_err(Error::Write)?;
        out.write_all(&count.to_be_bytes()).map_err(Error::Write)?;
        for piece in entries.chunks(COPIED_PIECE_BYTES) {
            if interrupt.is_triggered() {
                return Err(Error::Interrupted);
            }
            out.write_all(piece).map_err(Error::Write)?;
        }
        out.write_all(checksum.as_slice()).map_err(Error::Write)?;
        self.written.objects = u64::from(count);
        self.written.reused = u64::from(count);
        self.written.bytes = (12 + entries.len() + checksum.as_slice().len()) as u64;
        Ok(self.written)
    }

    fn run(mut self, progress: &mut dyn FnMut(u64), interrupt: &Interrupt) -> Result<Written, Error> {
        if let Some(pack) = self.list.whole_pack() {
            return self.copy_pack(pack, interrupt);
        }
        let count = u32::try_from(self.list.len()).map_err(|_| too_many())?;
        self.out.put(b"PACK\0\0\0\x02")?;
        self.out.put(&count.to_be_bytes())?;
        let mut waiting: Vec<usize> = Vec::new();
        for place in 0..self.list.len() {
            waiting.push(place);
            while let Some(&place) = waiting.last() {
                if interrupt.is_triggered() {
                    return Err(Error::Interrupted);
                }
                let state = self.offsets.get(place).copied().unwrap_or(IN_PROGRESS);
                let Some(&object) = self.list.objects().get(place) else {
                    break;
                };
                if state != 0 && state != IN_PROGRESS {
                    waiting.pop();
                    continue;
                }
                let mut plan = self.plan(object)?;
                if let Plan::CopyDelta(base) = plan {
                    match self.offsets.get(base).copied() {
                        Some(0) => {
                            self.set_offset(place, IN_PROGRESS);
                            waiting.push(base);
                            continue;
                        }
                        Some(IN_PROGRESS) | None => plan = Plan::Deflate,
                        Some(_) => {}
                    }
                }
                self.set_offset(place, self.out.bytes);
                self.write_one(object, plan)?;
                waiting.pop();
                self.written.objects += 1;
                progress(self.written.objects);
            }
        }
        let trailer = self
            .out
            .hasher
            .clone()
            .try_finalize()
            .map_err(|err| Error::Write(std::io::Error::other(err.to_string())))?;
        self.out
            .inner
            .write_all(trailer.as_slice())
            .map_err(Error::Write)?;
        self.written.bytes = self.out.bytes + trailer.as_slice().len() as u64;
        Ok(self.written)
    }

    fn set_offset(&mut self, place: usize, offset: u64) {
        if let Some(slot) = self.offsets.get_mut(place) {
            *slot = offset;
        }
    }

    fn plan(&self, object: ListedObject) -> Result<Plan, Error> {
        let Location::Packed { pack, offset } = object.location else {
            return Ok(Plan::Deflate);
        };
        let base_id = match self.objects.raw_entry(pack, offset)?.kind {
            EntryKind::Whole(kind) => return Ok(Plan::CopyWhole(kind)),
            EntryKind::RefDelta(base_id) => base_id,
            EntryKind::OfsDelta(base) => match self.objects.pack(pack).and_then(|pack| pack.id_at(base)) {
                Some(base_id) => base_id,
                None => return Ok(Plan::Deflate),
            },
        };
        Ok(match self.list.place(&base_id) {
            Some(place) => Plan::CopyDelta(place),
            None if self.options.thin && self.list.client_has.contains(&base_id) => {
                Plan::CopyThinDelta(base_id)
            }
            None => Plan::Deflate,
        })
    }

    fn write_one(&mut self, object: ListedObject, plan: Plan) -> Result<(), Error> {
        let at = self.out.bytes;
        match (plan, object.location) {
            (Plan::CopyWhole(kind), Location::Packed { pack, offset }) => {
                let entry = self.objects.raw_entry(pack, offset)?;
                put_header(&mut self.out, type_id(kind), entry.inflated_size)?;
                self.out.put(entry.deflated)?;
                self.written.reused += 1;
            }
            (Plan::CopyDelta(base), Location::Packed { pack, offset }) => {
                let entry = self.objects.raw_entry(pack, offset)?;
                let base_at = self.offsets.get(base).copied().unwrap_or(0);
                if self.options.ofs_delta {
                    put_header(&mut self.out, 6, entry.inflated_size)?;
                    put_distance(&mut self.out, at - base_at)?;
                } else {
                    put_header(&mut self.out, 7, entry.inflated_size)?;
                    let base_id = self.list.objects().get(base).map(|object| object.id);
                    self.out
                        .put(base_id.as_ref().map(|id| id.as_slice()).unwrap_or_default())?;
                }
                self.out.put(entry.deflated)?;
                self.count_delta();
            }
            (Plan::CopyThinDelta(base_id), Location::Packed { pack, offset }) => {
                let entry = self.objects.raw_entry(pack, offset)?;
                put_header(&mut self.out, 7, entry.inflated_size)?;
                self.out.put(base_id.as_slice())?;
                self.out.put(entry.deflated)?;
                self.count_delta();
            }
            (_, Location::Loose { .. }) => {
                let reader = match self.objects.open_loose(&object.id, object.location) {
                    Ok(reader) => reader,
                    // `git gc` packed it meanwhile.
                    Err(_) => return self.deflate_object(object),
                };
                put_header(&mut self.out, type_id(reader.kind()), reader.size())?;
                self.deflate.reset();
                let (deflate, buffer, out) = (&mut self.deflate, &mut self.buffer, &mut self.out);
                let mut failed = None;
                let copied = reader.copy_to(&mut |piece| {
                    put_deflated(deflate, buffer, out, piece, FlushCompress::None).map_err(|err| {
                        failed = Some(err);
                        std::io::Error::other("cannot write")
                    })
                });
                if let Some(err) = failed {
                    return Err(err);
                }
                copied?;
                put_deflated(
                    &mut self.deflate,
                    &mut self.buffer,
                    &mut self.out,
                    &[],
                    FlushCompress::Finish,
                )?;
            }
            (Plan::Deflate, Location::Packed { .. }) => self.deflate_object(object)?,
        }
        Ok(())
    }

    fn count_delta(&mut self) {
        self.written.deltas += 1;
        self.written.reused += 1;
        self.written.reused_deltas += 1;
    }

    fn deflate_object(&mut self, object: ListedObject) -> Result<(), Error> {
        let found = match object.location {
            Location::Packed { .. } => self.objects.read_at(&object.id, object.location)?,
            Location::Loose { .. } => self.objects.read(&object.id)?.ok_or(Error::Missing(object.id))?,
        };
        put_header(&mut self.out, type_id(found.kind), found.data.len() as u64)?;
        self.deflate.reset();
        put_deflated(
            &mut self.deflate,
            &mut self.buffer,
            &mut self.out,
            &found.data,
            FlushCompress::Finish,
        )
    }
}

fn too_many() -> Error {
    Error::Write(std::io::Error::other(
        "a pack cannot hold more than 4294967295 objects",
    ))
}

fn type_id(kind: Kind) -> u8 {
    match kind {
        Kind::Commit => 1,
        Kind::Tree => 2,
        Kind::Blob => 3,
        Kind::Tag => 4,
    }
}

fn put_header(out: &mut HashedOut<'_>, type_id: u8, size: u64) -> Result<(), Error> {
    let mut bytes = [0u8; 10];
    let mut len = 0;
    let mut byte = (type_id << 4) | (size & 0x0f) as u8;
    let mut rest = size >> 4;
    for slot in &mut bytes {
        len += 1;
        *slot = if rest == 0 { byte } else { byte | 0x80 };
        if rest == 0 {
            break;
        }
        byte = (rest & 0x7f) as u8;
        rest >>= 7;
    }
    out.put(bytes.get(..len).unwrap_or_default())
}

/// The distance of an OFS_DELTA: big-endian groups of 7 bits, each but the last counted from one.
fn put_distance(out: &mut HashedOut<'_>, distance: u64) -> Result<(), Error> {
    let mut bytes = [0u8; 10];
    let mut at = bytes.len() - 1;
    let mut rest = distance;
    if let Some(last) = bytes.last_mut() {
        *last = (rest & 0x7f) as u8;
    }
    rest >>= 7;
    while rest != 0 {
        rest -= 1;
        at -= 1;
        if let Some(slot) = bytes.get_mut(at) {
            *slot = 0x80 | (rest & 0x7f) as u8;
        }
        rest >>= 7;
    }
    out.put(bytes.get(at..).unwrap_or_default())
}

fn put_deflated(
    deflate: &mut Compress,
    buffer: &mut [u8],
    out: &mut HashedOut<'_>,
    mut input: &[u8],
    flush: FlushCompress,
) -> Result<(), Error> {
    loop {
        let (consumed, made) = (deflate.total_in(), deflate.total_out());
        let status = deflate
            .compress(input, buffer, flush)
            .map_err(|err| Error::Write(std::io::Error::other(err.to_string())))?;
        let produced = usize::try_from(deflate.total_out() - made).unwrap_or(0);
        input = usize::try_from(deflate.total_in() - consumed)
            .ok()
            .and_then(|at| input.get(at..))
            .unwrap_or_default();
        out.put(buffer.get(..produced).unwrap_or_default())?;
        let is_done = match flush {
            FlushCompress::Finish => status == Status::StreamEnd,
            _ => input.is_empty() && produced < buffer.len(),
        };
        if is_done {
            return Ok(());
        }
    }
}
