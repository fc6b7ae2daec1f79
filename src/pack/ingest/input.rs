//! The stream of a pack: read once, hashed, checksummed and written to a file as it passes.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use gix_hash::ObjectId;

use super::Error;
use crate::interrupt::Interrupt;
use crate::limits::PushLimits;

/// Bytes that are read and written at once, at most.
const BUFFER_BYTES: usize = 128 << 10;

/// Room in the buffer that is worth a read.
const READ_BYTES_MIN: usize = BUFFER_BYTES / 4;

/// Bytes between two looks at how much disk is left.
const DISK_CHECK_BYTES: u64 = 16 << 20;

/// A file and its name for errors.
#[derive(Debug, Clone, Copy)]
pub(super) struct Output<'a> {
    pub file: &'a File,
    pub path: &'a Path,
}

impl Output<'_> {
    pub fn error(&self, source: io::Error) -> Error {
        Error::Write {
            path: self.path.to_owned(),
            source,
        }
    }

    /// Checks that `bytes` more leave free what must stay free.
    pub fn check_disk(&self, bytes: u64, reserve_bytes: u64) -> Result<(), Error> {
        let stat = rustix::fs::fstatvfs(self.file).map_err(|error| self.error(error.into()))?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        if free < reserve_bytes.saturating_add(bytes) {
            Err(Error::DiskReserve)
        } else {
            Ok(())
        }
    }
}

/// Reads a pack and keeps a copy of what was read.
pub(super) struct Input<'a> {
    source: &'a mut dyn Read,
    output: Output<'a>,
    interrupt: &'a Interrupt,
    bytes_max: u64,
    disk_reserve_bytes: u64,
    next_disk_check: u64,
    buffer: Box<[u8]>,
    /// The first byte of the buffer that is not consumed.
    start: usize,
    /// One past the last byte of the buffer that was read.
    end: usize,
    /// Where `start` is in the pack.
    offset: u64,
    /// `None` once the checksum is reached, which is not part of itself.
    hasher: Option<gix_hash::Hasher>,
    crc: crc32fast::Hasher,
}

impl<'a> Input<'a> {
    pub fn new(
        source: &'a mut dyn Read,
        output: Output<'a>,
        hash: gix_hash::Kind,
        limits: &PushLimits,
        interrupt: &'a Interrupt,
    ) -> Self {
        Input {
            source,
            output,
            interrupt,
            bytes_max: limits.pack_bytes_max,
            disk_reserve_bytes: limits.disk_reserve_bytes,
            next_disk_check: 0,
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            start: 0,
            end: 0,
            offset: 0,
            hasher: Some(gix_hash::hasher(hash)),
            crc: crc32fast::Hasher::new(),
        }
    }

    /// Returns where in the pack the next byte is.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns what is there of the pack, at least one byte.
    pub fn fill(&mut self) -> Result<&[u8], Error> {
        if self.start == self.end {
            // Writes in large pieces, but never reads in small ones.
            if self.buffer.len() - self.end < READ_BYTES_MIN {
                self.flush()?;
            }
            if self.read()? == 0 {
                return Err(Error::Truncated { offset: self.offset });
            }
        }
        Ok(self.buffer.get(self.start..self.end).unwrap_or_default())
    }

    /// Passes over `count` bytes of what [`Self::fill`] returned.
    pub fn consume(&mut self, count: usize) {
        let count = count.min(self.end - self.start);
        if let Some(bytes) = self.buffer.get(self.start..self.start + count) {
            self.crc.update(bytes);
        }
        self.start += count;
        self.offset += count as u64;
    }

    pub fn byte(&mut self) -> Result<u8, Error> {
        let byte = self.fill()?.first().copied().unwrap_or_default();
        self.consume(1);
        Ok(byte)
    }

    pub fn exact(&mut self, out: &mut [u8]) -> Result<(), Error> {
        for slot in out {
            *slot = self.byte()?;
        }
        Ok(())
    }

    /// Begins a new checksum with the next byte, and returns that of the bytes since the last call.
    pub fn take_crc(&mut self) -> u32 {
        std::mem::take(&mut self.crc).finalize()
    }

    /// Reads the checksum that ends the pack and makes sure that it is right and the last.
    pub fn finish(&mut self) -> Result<ObjectId, Error> {
        self.flush()?;
        let hasher = self.hasher.take().ok_or(Error::TrailingGarbage)?;
        let digest = hasher
            .try_finalize()
            .map_err(|_| Error::Collision { offset: 0 })?;
        let mut trailer = [0u8; gix_hash::Kind::longest().len_in_bytes()];
        let len = digest.as_slice().len();
        let trailer = trailer.get_mut(..len).unwrap_or_default();
        self.exact(trailer)?;
        if *trailer != *digest.as_slice() {
            return Err(Error::Checksum);
        }
        if self.start != self.end || self.read()? != 0 {
            return Err(Error::TrailingGarbage);
        }
        self.flush()?;
        Ok(digest)
    }

    /// Hashes and writes what was consumed, and makes room.
    fn flush(&mut self) -> Result<(), Error> {
        let bytes = self.buffer.get(..self.start).unwrap_or_default();
        if let Some(hasher) = self.hasher.as_mut() {
            hasher.update(bytes);
        }
        let mut file = self.output.file;
        file.write_all(bytes)
            .map_err(|source| self.output.error(source))?;
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        Ok(())
    }

    fn read(&mut self) -> Result<usize, Error> {
        if self.offset >= self.next_disk_check {
            self.output
                .check_disk(DISK_CHECK_BYTES, self.disk_reserve_bytes)?;
            self.next_disk_check = self.offset + DISK_CHECK_BYTES;
        }
        let room = self.buffer.get_mut(self.end..).unwrap_or_default();
        let count = loop {
            if self.interrupt.is_triggered() {
                return Err(Error::Interrupted);
            }
            match self.source.read(room) {
                Ok(count) => break count.min(room.len()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::Read(error)),
            }
        };
        self.end += count;
        if self.offset + (self.end - self.start) as u64 > self.bytes_max {
            return Err(Error::PackBytes { max: self.bytes_max });
        }
        Ok(count)
    }
}
