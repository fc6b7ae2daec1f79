//! The pack on its way out: framing, progress, and what is said when it breaks off.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use gix_hash::ObjectId;

use super::{Error, Outcome, View};
use crate::interrupt::Interrupt;
use crate::pack::enumerate::{Request, enumerate};
use crate::pack::write::{Options, write};
use crate::protocol::pkt_line::encode_flush;
use crate::protocol::sideband::{self, Band, Mode};
use crate::repository::objects::Objects;

/// How often progress is told. git updates its meters once a second.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// How long a client waits without a byte before it is told that the server is still there: `uploadpack.keepAlive`.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(5);

/// Calls between two looks at the clock.
const CALLS_PER_LOOK: usize = 1024;

/// What the client asked of the pack.
#[derive(Debug, Clone, Copy)]
pub(super) struct PackOptions<'a> {
    pub(super) sideband: Mode,
    pub(super) thin: bool,
    pub(super) ofs_delta: bool,
    pub(super) is_quiet: bool,
    pub(super) include_tag: bool,
    /// What the person behind the client is to hear, however quiet the client is.
    pub(super) notice: Option<&'a str>,
}

/// Lists and sends all that `wants` need beyond `haves`, framed, with the flush-pkt that ends it.
pub(super) fn send_pack(
    view: &View<'_>,
    objects: &mut Objects,
    wants: &[ObjectId],
    haves: &[ObjectId],
    options: PackOptions<'_>,
    out: &mut dyn Write,
    interrupt: &Interrupt,
    outcome: &mut Outcome,
) -> Result<(), Error> {
    let mut bands = Bands::new(out, options, interrupt);
    let sent = bands.send(view, objects, wants, haves, options);
    outcome.has_pack = true;
    (outcome.objects, outcome.pack_bytes) = (bands.objects, bands.pack_bytes);
    let reason = match (&sent, interrupt.reason()) {
        (Ok(_), _) => None,
        (Err(_), Some(reason)) => {
            outcome.refusal = Some(reason.to_owned());
            Some(reason)
        }
        (Err(Error::Pack(crate::pack::Error::Write(_) | crate::pack::Error::Interrupted)), None) => None,
        // What went wrong is for the server's log.
        (Err(_), None) => {
            Some("the server failed while it made the pack; try again, or tell its administrator")
        }
    };
    if let Some(reason) = reason {
        // The client gives up on this band and shows the text.
        bands.say(Band::Error, &format!("{reason}\n"))?;
    }
    sent
}

/// The taker of the pack and of progress.
struct Bands<'a> {
    out: &'a mut dyn Write,
    mode: Mode,
    is_quiet: bool,
    /// Pack bytes of the packet that is being filled.
    packet: Vec<u8>,
    packet_bytes_max: usize,
    objects: u64,
    /// Bytes of the pack that went out.
    pack_bytes: u64,
    last_byte: Instant,
    last_progress: Instant,
    calls: usize,
    interrupt: &'a Interrupt,
}

impl<'a> Bands<'a> {
    fn new(out: &'a mut dyn Write, options: PackOptions<'_>, interrupt: &'a Interrupt) -> Bands<'a> {
        let packet_bytes_max = options.sideband.payload_bytes_max().unwrap_or(super::BATCH_BYTES);
        let now = Instant::now();
        Bands {
            out,
            mode: options.sideband,
            is_quiet: options.is_quiet || options.sideband == Mode::None,
            packet: Vec::with_capacity(packet_bytes_max),
            packet_bytes_max,
            objects: 0,
            pack_bytes: 0,
            last_byte: now,
            last_progress: now,
            calls: 0,
            interrupt,
        }
    }

    fn send(
        &mut self,
        view: &View<'_>,
        objects: &mut Objects,
        wants: &[ObjectId],
        haves: &[ObjectId],
        options: PackOptions<'_>,
    ) -> Result<(), Error> {
        let interrupt = self.interrupt;
        let tags = if options.include_tag {
            annotated_tags(view)?
        } else {
            Vec::new()
        };
        let graph = view.repository.object_store().commit_graph();
        let request = Request {
            wants,
            haves,
            tags: &tags,
            strict: false,
            // Stored deltas name their bases by distance.
            names_whole_pack: options.ofs_delta,
        };
        let mut count = 0;
        let list = enumerate(
            objects,
            graph.as_deref(),
            &request,
            &mut |found| {
                count = found;
                // A failing taker shows at the next write; the walk itself has nobody to tell.
                if self.tick(&|| format!("Enumerating objects: {found}\r")).is_err() {
                    interrupt.trigger();
                }
            },
            interrupt,
        )?;
        let total = list.len();
        self.objects = total as u64;
        self.tell(&format!("Enumerating objects: {}, done.\n", count.max(total)))?;
        if total > 0 {
            self.tell(&format!("Counting objects: 100% ({total}/{total}), done.\n"))?;
        }
        let settings = view.repository.settings();
        let how = Options {
            thin: options.thin,
            ofs_delta: options.ofs_delta,
            compression: settings.compression,
        };
        let written = write(objects, &list, how, self, &mut |_| (), interrupt)?;
        self.flush_packet()?;
        self.tell(&format!(
            "Total {total} (delta {}), reused {} (delta {}), pack-reused 0 (from 0)\n",
            written.deltas, written.reused, written.reused_deltas
        ))?;
        if let Some(notice) = options.notice {
            self.say(Band::Progress, &format!("{notice}\n"))?;
        }
        if self.mode != Mode::None {
            let mut end = Vec::new();
            encode_flush(&mut end);
            self.out.write_all(&end)?;
        }
        Ok(())
    }

    /// Says `text` if it is time to, or that the server is still there.
    fn tick(&mut self, text: &dyn Fn() -> String) -> io::Result<()> {
        self.calls += 1;
        if self.calls < CALLS_PER_LOOK {
            return Ok(());
        }
        self.calls = 0;
        if !self.is_quiet && self.last_progress.elapsed() >= PROGRESS_EVERY {
            return self.tell(&text());
        }
        if self.mode != Mode::None && self.last_byte.elapsed() >= KEEPALIVE_EVERY {
            let mut keepalive = Vec::new();
            sideband::encode_keepalive(&mut keepalive);
            self.out.write_all(&keepalive)?;
            self.out.flush()?;
            self.last_byte = Instant::now();
        }
        Ok(())
    }

    /// Says `text` on band 2, unless the client does not want to hear it.
    fn tell(&mut self, text: &str) -> io::Result<()> {
        if self.is_quiet {
            return Ok(());
        }
        self.last_progress = Instant::now();
        self.say(Band::Progress, text)
    }

    fn say(&mut self, band: Band, text: &str) -> io::Result<()> {
        let mut framed = Vec::new();
        sideband::encode(&mut framed, self.mode, band, text.as_bytes());
        self.out.write_all(&framed)?;
        self.last_byte = Instant::now();
        self.out.flush()
    }

    fn flush_packet(&mut self) -> io::Result<()> {
        if self.packet.is_empty() {
            return Ok(());
        }
        // One object may be many packets long.
        if self.interrupt.is_triggered() {
            return Err(io::Error::other("interrupted"));
        }
        if self.mode != Mode::None {
            self.out
                .write_all(&sideband::header(Band::Pack, self.packet.len()))?;
        }
        self.out.write_all(&self.packet)?;
        self.pack_bytes += self.packet.len() as u64;
        self.packet.clear();
        self.last_byte = Instant::now();
        Ok(())
    }
}

impl Write for Bands<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = self.packet_bytes_max - self.packet.len();
        let (now, _) = bytes.split_at(room.min(bytes.len()));
        self.packet.extend_from_slice(now);
        if self.packet.len() == self.packet_bytes_max {
            self.flush_packet()?;
        }
        Ok(now.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Tags that are objects, with what they finally point at.
fn annotated_tags(view: &View<'_>) -> Result<Vec<(ObjectId, ObjectId)>, Error> {
    let mut tags = Vec::new();
    for entry in view.refs.iter_prefix("refs/tags/".into()) {
        if view.shows(entry.name)
            && let Some(target) = view.peel(&entry)?
        {
            tags.push((entry.id, target));
        }
    }
    Ok(tags)
}
