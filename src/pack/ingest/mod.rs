//! Taking in a pack from a stream: what `git index-pack --stdin --strict` does, in this process and with bounds.
//!
//! Owns the way from untrusted bytes to a pack file with its index, every object of which is hashed and, if wanted,
//! checked, and the list of what those objects need besides. Does not know who sends them, what they are for, or
//! whether what they need is there.
//!
//! The first pass reads the stream once: whole objects are hashed as they pass and deltas are only passed over. The
//! second makes objects of the deltas, reading back from the file. Nothing is held in memory because it is large in
//! the stream; the bounds are at [`PushLimits`] and at the constants of the modules below.
//!
//! Follows gitformat-pack(5).

mod complete;
mod error;
mod input;
mod inspect;
mod links;
mod nesting;
mod receive;
mod records;
mod reread;
mod resolve;
mod verify;

use std::fs::{File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use gix_hash::ObjectId;
use tempfile::NamedTempFile;

pub use error::{Error, Fault};
pub use links::Link;

use crate::interrupt::Interrupt;
use crate::limits::PushLimits;
use crate::pack::scan::Scanner;
use crate::pack::trees::DEPTH_MAX;
use crate::pack::{fsck, index};
use crate::repository::objects;
use input::{Input, Output};
use inspect::{Inspector, Shared};
use links::Links;
use receive::{Batch, Receiver};
use records::Records;
use reread::Reader;
use resolve::Resolve;
use verify::Whole;

/// Objects from which on a reverse index is written. Below, sorting the offsets of the index anew takes less than a
/// millisecond, about what opening one more file costs.
pub const REV_OBJECTS_MIN: u32 = 10_000;

/// Batches of small objects on their way between two threads.
const BATCHES_COUNT_MAX: usize = 2;

/// How a pack is taken in.
#[derive(Debug, Clone)]
pub struct Options {
    /// Which hash names the objects.
    pub object_hash: gix_hash::Kind,
    /// The bounds.
    pub limits: PushLimits,
    /// Which findings refuse an object; `None` checks only what links need.
    pub fsck: Option<fsck::Options>,
    /// Whether deltas may have bases that only the repository has. They are appended to the pack.
    pub thin: bool,
    /// The zlib level of what is appended, 0 to 9; anything else is 6.
    pub compression: i32,
}

/// A pack that was taken in.
#[derive(Debug, Clone)]
pub struct Ingested {
    /// The checksum that ends the pack file and names it.
    pub checksum: ObjectId,
    /// `pack-<checksum>.pack`.
    pub pack: PathBuf,
    /// `pack-<checksum>.idx`, version 2.
    pub index: PathBuf,
    /// `pack-<checksum>.rev`, with [`REV_OBJECTS_MIN`] objects or more.
    pub rev: Option<PathBuf>,
    /// Objects that were sent.
    pub objects_received: u32,
    /// Objects in the pack, with the bases that were appended.
    pub objects_count: u32,
    /// Bytes that were sent.
    pub bytes_received: u64,
    /// Bytes of the pack file.
    pub bytes_written: u64,
    /// What objects of the pack refer to and the pack does not have, sorted.
    pub outside: Vec<Link>,
    /// Whether the links between its trees show that none of them lies too deep. If they do not, only a walk can tell;
    /// nor do they tell of trees outside the pack.
    pub is_depth_bounded: bool,
}

/// How far an [`ingest`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The stream is being read.
    Receiving {
        /// Objects read so far.
        objects: u32,
        /// Objects that the pack says it has.
        total: u32,
        /// Bytes read so far.
        bytes: u64,
    },
    /// Deltas are being resolved.
    Resolving {
        /// Deltas resolved so far.
        deltas: u32,
        /// Deltas in the pack.
        total: u32,
    },
}

/// Objects that the repository already has.
pub trait Bases {
    /// Appends the content of an object to `out` and returns its kind; `None` if the repository has no such object.
    ///
    /// # Errors
    ///
    /// When the repository cannot tell, or the object is larger than it will hold in memory.
    fn find(
        &mut self,
        id: &gix_hash::oid,
        out: &mut Vec<u8>,
    ) -> Result<Option<gix_object::Kind>, objects::Error>;
}

/// Reads one pack from `input` up to its end and puts it, with its index, into `dir`.
///
/// The files are complete but not synced. While they are made they have names beginning with `tmp_`.
///
/// # Errors
///
/// See [`Error`]; then no file is left behind.
pub fn ingest(
    input: &mut dyn Read,
    dir: &Path,
    bases: &mut dyn Bases,
    options: &Options,
    progress: &mut dyn FnMut(Progress),
    interrupt: &Interrupt,
) -> Result<Ingested, Error> {
    ingest_scanned(input, dir, bases, options, None, progress, interrupt)
}

/// As [`ingest`], and shows every object that was sent to `scanner`. Bases that complete a thin pack were not sent, and
/// are not shown.
///
/// # Errors
///
/// See [`Error`]; then no file is left behind.
pub fn ingest_scanned(
    input: &mut dyn Read,
    dir: &Path,
    bases: &mut dyn Bases,
    options: &Options,
    scanner: Option<&Scanner<'_>>,
    progress: &mut dyn FnMut(Progress),
    interrupt: &Interrupt,
) -> Result<Ingested, Error> {
    let pack = temporary(dir, "tmp_pack_")?;
    let output = Output {
        file: pack.as_file(),
        path: pack.path(),
    };
    let shared = Shared::new(options, scanner, interrupt);
    let (mut records, mut checksum) = receive(input, output, &shared, progress)?;
    let objects_received = records.len();
    let trailer_bytes = options.object_hash.len_in_bytes() as u64;
    let bytes_received = records.end + trailer_bytes;

    records.order_children();
    records.ref_deltas.sort();
    inspect::lock(&shared.objects).grow(records.offsets.len());
    let resolve = Resolve::new(&shared, output);
    resolve.run(&records, progress)?;
    if options.thin && resolve.resolved_count() < records.deltas_count {
        checksum = complete::run(&resolve, &mut records, bases, checksum)?;
    }
    check_resolved(&records, resolve.resolved_count())?;

    let objects = inspect::lock(&shared.objects);
    let order = index::sort(&objects.ids.bytes, options.object_hash);
    let whole = Whole {
        shared: &shared,
        records: &records,
        objects: &objects,
        order: &order,
    };
    whole.check_duplicates()?;
    let mut links = std::mem::replace(
        &mut *inspect::lock(&shared.links),
        Links::new(options.object_hash),
    );
    let is_depth_bounded = std::mem::take(&mut links.nesting).is_within(DEPTH_MAX as u16);
    let outside = links.outside(options.object_hash, &objects, &order, objects_received)?;
    let gitmodules = std::mem::take(&mut *inspect::lock(&shared.gitmodules));
    whole.check_gitmodules(&gitmodules, &mut Reader::new(output), bases)?;
    shared.check_stop()?;

    let entries = index::Entries {
        hash: options.object_hash,
        ids: &objects.ids.bytes,
        crcs: &records.crcs,
        offsets: &records.offsets,
    };
    let files = write_files(dir, pack, &entries, &order, &checksum)?;
    Ok(Ingested {
        checksum,
        pack: files.pack,
        index: files.index,
        rev: files.rev,
        objects_received,
        objects_count: records.len(),
        bytes_received,
        bytes_written: records.end + trailer_bytes,
        outside,
        is_depth_bounded,
    })
}

/// The first pass, with a second thread for hashing if there may be one and the pack is large enough.
fn receive(
    input: &mut dyn Read,
    output: Output<'_>,
    shared: &Shared<'_>,
    progress: &mut dyn FnMut(Progress),
) -> Result<(Records, ObjectId), Error> {
    let options = shared.options;
    let mut input = Input::new(
        input,
        output,
        options.object_hash,
        &options.limits,
        shared.interrupt,
    );
    std::thread::scope(|scope| {
        let mut helper = None;
        let mut own = Inspector::new(shared);
        let mut submit = |batch: Batch, is_last: bool| -> Result<(), Error> {
            if helper.is_none() && (is_last || options.limits.threads < 2) {
                batch.inspect(&mut own)?;
                return if is_last { own.flush() } else { Ok(()) };
            }
            let (sender, _) = helper.get_or_insert_with(|| {
                let (sender, batches) = mpsc::sync_channel::<Batch>(BATCHES_COUNT_MAX);
                let thread = scope.spawn(move || {
                    let mut inspector = Inspector::new(shared);
                    let inspected = batches.iter().try_for_each(|batch| batch.inspect(&mut inspector));
                    inspected.and_then(|()| inspector.flush())
                });
                (sender, thread)
            });
            // It hangs up when it has found something wrong, which it then says.
            sender.send(batch).map_err(|_| Error::Interrupted)
        };
        let received = Receiver {
            input: &mut input,
            shared,
            inspector: Inspector::new(shared),
            submit: &mut submit,
            progress,
        }
        .run();
        let inspected = match helper {
            Some((sender, thread)) => {
                drop(sender);
                thread.join().unwrap_or(Err(Error::Thread))
            }
            None => Ok(()),
        };
        match (received, inspected) {
            (Err(Error::Interrupted) | Ok(_), Err(error)) => Err(error),
            (received, _) => received,
        }
    })
}

fn check_resolved(records: &Records, resolved_count: u32) -> Result<(), Error> {
    if resolved_count == records.deltas_count {
        return Ok(());
    }
    let deltas = &records.ref_deltas;
    let missing = (0..deltas.entries.len() as u32).find(|&at| !deltas.is_claimed(at));
    Err(Error::Unresolved {
        count: u64::from(records.deltas_count.saturating_sub(resolved_count)),
        base_id: missing.and_then(|at| deltas.base_ids.object_id(at)),
    })
}

struct Files {
    pack: PathBuf,
    index: PathBuf,
    rev: Option<PathBuf>,
}

/// Writes the index files and gives all files their names, the index last: with it the pack is there for readers.
fn write_files(
    dir: &Path,
    pack: NamedTempFile,
    entries: &index::Entries<'_>,
    order: &[u32],
    checksum: &ObjectId,
) -> Result<Files, Error> {
    let index_file = temporary(dir, "tmp_idx_")?;
    let output = Output {
        file: index_file.as_file(),
        path: index_file.path(),
    };
    index::write(&mut index_file.as_file(), entries, order, checksum).map_err(|error| output.error(error))?;
    let rev_file = match order.len() >= REV_OBJECTS_MIN as usize {
        true => {
            let file = temporary(dir, "tmp_rev_")?;
            let output = Output {
                file: file.as_file(),
                path: file.path(),
            };
            index::rev::write(&mut file.as_file(), entries.hash, order, checksum)
                .map_err(|error| output.error(error))?;
            Some(file)
        }
        false => None,
    };
    let name = |extension: &str| dir.join(format!("pack-{checksum}.{extension}"));
    let named = (|| {
        let pack = persist(pack, name("pack"))?;
        let rev = rev_file.map(|file| persist(file, name("rev"))).transpose()?;
        let index = persist(index_file, name("idx"))?;
        Ok(Files { pack, index, rev })
    })();
    if named.is_err() {
        for extension in ["idx", "rev", "pack"] {
            // What is not there need not be removed, and the error that is told is the first.
            let _ = std::fs::remove_file(name(extension));
        }
    }
    named
}

fn temporary(dir: &Path, prefix: &str) -> Result<NamedTempFile, Error> {
    let made = tempfile::Builder::new().prefix(prefix).tempfile_in(dir);
    made.map_err(|source| Error::Write {
        path: dir.to_owned(),
        source,
    })
}

/// Makes a file read-only for everyone, as packs are, and gives it its name.
fn persist(file: NamedTempFile, path: PathBuf) -> Result<PathBuf, Error> {
    let named = set_mode(file.as_file()).and_then(|()| file.persist(&path).map_err(|error| error.error));
    match named {
        Ok(_) => Ok(path),
        Err(source) => Err(Error::Write { path, source }),
    }
}

fn set_mode(file: &File) -> io::Result<()> {
    file.set_permissions(Permissions::from_mode(0o444))
}

#[cfg(test)]
mod tests;
