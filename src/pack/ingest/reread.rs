//! Reading entries back from the pack file.

use std::os::unix::fs::FileExt;

use flate2::{Decompress, FlushDecompress, Status};

use super::Error;
use super::input::Output;
use super::records::{OFS_DELTA, REF_DELTA, Records};

/// Bytes that are read at once. Deltas of one family tend to lie side by side.
const WINDOW_BYTES: usize = 16 << 10;

/// Bytes that a header takes at most: 10 of size, and an id.
const HEADER_BYTES_MAX: usize = 10 + gix_hash::Kind::longest().len_in_bytes();

/// What an entry's header says when it is read back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stored {
    /// Bytes of the object or delta after inflation.
    pub size: u64,
    /// How far back the base of an OFS_DELTA is.
    pub distance: u64,
    offset: u64,
    /// Where the zlib stream begins and the entry ends.
    data: u64,
    end: u64,
}

/// Reads entries of a pack that [`super::receive()`] has found sound.
pub(super) struct Reader<'a> {
    window: Window<'a>,
    inflate: Decompress,
}

/// A piece of the file.
struct Window<'a> {
    output: Output<'a>,
    bytes: Vec<u8>,
    offset: u64,
}

impl Window<'_> {
    /// Returns bytes of the file from `offset` on, not past `end`: `count` or more if there are so many.
    fn at(&mut self, offset: u64, end: u64, count: usize) -> Result<&[u8], Error> {
        let left = usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX);
        let count = count.min(left).min(WINDOW_BYTES);
        let held = offset
            .checked_sub(self.offset)
            .and_then(|at| usize::try_from(at).ok());
        if held.is_none_or(|at| at.saturating_add(count) > self.bytes.len()) {
            self.read(offset, count)?;
        }
        let at = usize::try_from(offset - self.offset).unwrap_or(usize::MAX);
        let to = self.bytes.len().min(at.saturating_add(left));
        self.bytes.get(at..to).ok_or(Error::Reread { offset })
    }

    fn read(&mut self, offset: u64, count: usize) -> Result<(), Error> {
        self.bytes.resize(WINDOW_BYTES, 0);
        let mut len = 0;
        while len < count {
            let room = self.bytes.get_mut(len..).unwrap_or_default();
            match self.output.file.read_at(room, offset + len as u64) {
                Ok(0) => return Err(Error::Reread { offset }),
                Ok(read) => len += read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.output.error(error)),
            }
        }
        self.bytes.truncate(len);
        self.offset = offset;
        Ok(())
    }
}

impl<'a> Reader<'a> {
    pub fn new(output: Output<'a>) -> Self {
        Reader {
            window: Window {
                output,
                bytes: Vec::new(),
                offset: 0,
            },
            inflate: Decompress::new(true),
        }
    }

    /// Forgets what it holds, because the file was changed.
    pub fn reset(&mut self) {
        self.window.bytes.clear();
    }

    /// Reads the header of an entry.
    pub fn header(&mut self, records: &Records, entry: u32, id_len: usize) -> Result<Stored, Error> {
        let (offset, end) = records.range(entry);
        let number = records.types.get(entry as usize).copied().unwrap_or_default();
        let changed = Error::Reread { offset };
        let mut bytes = self.window.at(offset, end, HEADER_BYTES_MAX)?.iter().copied();
        let mut next = || bytes.next();
        let mut parse = || -> Option<(u64, u64, usize)> {
            let mut byte = next()?;
            let mut len = 1;
            let mut size = u64::from(byte & 0x0f);
            let mut shift = 4u32;
            while byte & 0x80 != 0 {
                byte = next()?;
                len += 1;
                size |= u64::from(byte & 0x7f).checked_shl(shift)?;
                shift += 7;
            }
            let mut distance = 0u64;
            if number == OFS_DELTA {
                byte = next()?;
                len += 1;
                distance = u64::from(byte & 0x7f);
                while byte & 0x80 != 0 {
                    byte = next()?;
                    len += 1;
                    distance = distance.checked_add(1)?.checked_mul(128)? | u64::from(byte & 0x7f);
                }
            } else if number == REF_DELTA {
                len += id_len;
            }
            Some((size, distance, len))
        };
        let (size, distance, len) = parse().ok_or(changed)?;
        Ok(Stored {
            size,
            distance,
            offset,
            data: offset + len as u64,
            end,
        })
    }

    /// Reads the id that a REF_DELTA has for its base.
    pub fn base_id(&mut self, stored: &Stored, hash: gix_hash::Kind) -> Result<gix_hash::ObjectId, Error> {
        let len = hash.len_in_bytes();
        let changed = || Error::Reread {
            offset: stored.offset,
        };
        let at = stored.data.checked_sub(len as u64).ok_or_else(changed)?;
        let bytes = self.window.at(at, stored.data, len)?;
        gix_hash::oid::try_from_bytes(bytes)
            .map(ToOwned::to_owned)
            .map_err(|_| changed())
    }

    /// Inflates an entry. The caller has held its size against the limits.
    pub fn inflate(&mut self, stored: &Stored, out: &mut Vec<u8>) -> Result<(), Error> {
        let changed = || Error::Reread {
            offset: stored.offset,
        };
        let size = usize::try_from(stored.size).map_err(|_| changed())?;
        out.clear();
        out.reserve_exact(size.max(1));
        let Reader { window, inflate } = self;
        inflate.reset(true);
        let mut at = stored.data;
        loop {
            let bytes = window.at(at, stored.end, WINDOW_BYTES)?;
            let is_last = at + bytes.len() as u64 >= stored.end;
            // With all input at hand the inflater need not keep a copy of what it has put out.
            let flush = if is_last {
                FlushDecompress::Finish
            } else {
                FlushDecompress::None
            };
            let (in_before, out_before) = (inflate.total_in(), inflate.total_out());
            let status = inflate.decompress_vec(bytes, out, flush).map_err(|_| changed())?;
            let consumed = inflate.total_in() - in_before;
            at += consumed;
            if status == Status::StreamEnd {
                break;
            }
            if consumed == 0 && inflate.total_out() == out_before {
                return Err(changed());
            }
        }
        if out.len() == size { Ok(()) } else { Err(changed()) }
    }
}
