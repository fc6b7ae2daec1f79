//! Copying objects into a new pack: one thread writes it and another takes it in as if it had been pushed, joined by a
//! pipe, so that no second copy of it lies on disk.

use std::io::{self, BufWriter, Write as _};
use std::path::Path;

use gix_hash::oid;
use gix_object::Kind;

use super::enumerate::ObjectList;
use super::ingest::{self, Bases, Ingested, Progress};
use super::write::{Options, write};
use crate::interrupt::Interrupt;
use crate::repository::objects::{self, Objects};

/// Bytes that are gathered before they go into the pipe.
const BUFFER_BYTES: usize = 64 << 10;

/// Why there is no new pack.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The pack was refused.
    #[error(transparent)]
    Ingest(#[from] ingest::Error),
    /// The system has no pipe left.
    #[error("cannot make a pipe")]
    Pipe(#[source] io::Error),
    /// The objects cannot be read.
    #[error(transparent)]
    Write(#[from] super::Error),
}

/// Puts a pack of exactly the objects of `list`, read through `objects`, into `dir`.
///
/// # Errors
///
/// When an object cannot be read or is refused; then no file is left behind.
pub(super) fn copy(
    objects: &mut Objects,
    list: &ObjectList,
    dir: &Path,
    options: &ingest::Options,
    progress: &mut dyn FnMut(Progress),
    interrupt: &Interrupt,
) -> Result<Ingested, Error> {
    let (mut reader, writer) = io::pipe().map_err(Error::Pipe)?;
    let how = Options {
        thin: false,
        ofs_delta: true,
        compression: options.compression,
    };
    std::thread::scope(|scope| {
        let sender = scope.spawn(move || {
            let mut out = BufWriter::with_capacity(BUFFER_BYTES, writer);
            write(objects, list, how, &mut out, &mut |_| (), interrupt)?;
            out.flush().map_err(super::Error::Write)
        });
        let taken = ingest::ingest(&mut reader, dir, &mut NoBases, options, progress, interrupt);
        drop(reader);
        match (sender.join(), taken) {
            // What broke the sending is the cause; that the pack then ended early follows from it.
            (Ok(Err(err)), _) if !matches!(err, super::Error::Write(_)) => Err(err.into()),
            (_, taken) => Ok(taken?),
        }
    })
}

/// For packs that hold all their bases.
pub(super) struct NoBases;

impl Bases for NoBases {
    fn find(&mut self, _id: &oid, _out: &mut Vec<u8>) -> Result<Option<Kind>, objects::Error> {
        Ok(None)
    }
}
