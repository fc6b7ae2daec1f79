//! Loose objects: one zlib file each, `<kind> <size>\0<bytes>` inside.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use bstr::ByteSlice;
use flate2::bufread::ZlibDecoder;
use gix_hash::ObjectId;
use gix_object::Kind;

use super::Error;

/// Longest header: `commit 18446744073709551615\0` and some room, as git reads it.
const HEADER_BYTES_MAX: usize = 32;

/// A loose object whose header was read; its bytes are read from it as a stream.
pub struct LooseReader {
    path: PathBuf,
    stream: ZlibDecoder<BufReader<File>>,
    kind: Kind,
    size: u64,
}

impl LooseReader {
    /// Opens the file of `id` in the object directory `dir`; `None` if there is none.
    pub(crate) fn open(dir: &Path, id: &gix_hash::oid) -> Result<Option<LooseReader>, Error> {
        let path = path_of(dir, id);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(err) => return Err(Error::io(&path)(err)),
        };
        let mut stream = ZlibDecoder::new(BufReader::with_capacity(16 << 10, file));
        let mut header = Vec::with_capacity(HEADER_BYTES_MAX);
        loop {
            let mut byte = [0u8];
            stream
                .read_exact(&mut byte)
                .map_err(|err| Error::corrupt(id, err))?;
            match byte {
                [0] => break,
                _ if header.len() >= HEADER_BYTES_MAX => {
                    return Err(Error::corrupt(id, "its header has no end"));
                }
                [byte] => header.push(byte),
            }
        }
        let (kind, size) =
            parse_header(&header).ok_or_else(|| Error::corrupt(id, "its header is malformed"))?;
        Ok(Some(LooseReader {
            path,
            stream,
            kind,
            size,
        }))
    }

    /// What the object is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Bytes of the object, as the header has it; the stream is held against it.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Gives the object's bytes piece by piece, in buffers of 64 KiB.
    ///
    /// # Errors
    ///
    /// When the file breaks off, holds more than its header says, or `sink` fails.
    pub fn copy_to(mut self, sink: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> Result<(), Error> {
        let mut left = self.size;
        let mut buffer = vec![0u8; 64 << 10];
        loop {
            let count = match self.stream.read(&mut buffer) {
                Ok(count) => count,
                Err(err) => return Err(Error::corrupt(self.path.display(), err)),
            };
            if count == 0 {
                break;
            }
            left = left.checked_sub(count as u64).ok_or_else(|| {
                Error::corrupt(self.path.display(), "it holds more bytes than its header says")
            })?;
            sink(buffer.get(..count).unwrap_or_default()).map_err(Error::io(&self.path))?;
        }
        if left == 0 {
            Ok(())
        } else {
            Err(Error::corrupt(self.path.display(), "it is cut off"))
        }
    }
}

/// Whether `dir` holds a loose object `id`.
pub(crate) fn exists(dir: &Path, id: &gix_hash::oid) -> bool {
    path_of(dir, id).is_file()
}

/// The ids of all files in `dir` whose names are those of loose objects.
pub(crate) fn list(dir: &Path, hash: gix_hash::Kind) -> Result<Vec<ObjectId>, Error> {
    let mut found = Vec::new();
    for fan in 0..=u8::MAX {
        let fan = format!("{fan:02x}");
        let path = dir.join(&fan);
        let entries = match std::fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(err) if err.kind() == io::ErrorKind::NotFound => continue,
            Err(err) => return Err(Error::io(&path)(err)),
        };
        for entry in entries {
            let name = entry.map_err(Error::io(&path))?.file_name();
            let hex = format!("{fan}{}", name.to_string_lossy());
            if hex.len() == hash.len_in_hex() {
                found.extend(ObjectId::from_hex(hex.as_bytes()).ok());
            }
        }
    }
    Ok(found)
}

fn path_of(dir: &Path, id: &gix_hash::oid) -> PathBuf {
    let mut buffer = gix_hash::Kind::hex_buf();
    let hex = id.hex_to_buf(&mut buffer);
    let (fan, rest) = hex.split_at_checked(2).unwrap_or((hex, ""));
    dir.join(fan).join(rest)
}

fn parse_header(header: &[u8]) -> Option<(Kind, u64)> {
    let (kind, size) = header.split_once_str(" ")?;
    let size = std::str::from_utf8(size).ok()?;
    if size.is_empty()
        || (size.len() > 1 && size.starts_with('0'))
        || !size.bytes().all(|b| b.is_ascii_digit())
    {
        return None;
    }
    Some((Kind::from_bytes(kind).ok()?, size.parse().ok()?))
}
