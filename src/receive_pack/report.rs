//! What the client hears: progress and warnings on band 2, the report at the end; and, before it, the server's own
//! record of the push.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use bstr::BStr;

use super::commands::{Commands, ended_early};
use super::{Error, Outcome, Settle};
use crate::pack::ingest::Progress;
use crate::protocol::pkt_line::encode_flush;
use crate::protocol::receive::{Capabilities, CommandStatus, RefCommand, encode_report};
use crate::protocol::sideband::{self, Band, Mode};

/// How often progress is told.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// How long a client waits without a byte while the server works: `receive.keepAlive`.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(5);

/// Is told whether anything moved, or may have.
type WhenSettled = Box<dyn FnOnce(bool)>;

/// The way back to the client.
pub(super) struct Reporter<'a> {
    out: &'a mut dyn Write,
    has_sideband: bool,
    wants_report: bool,
    is_quiet: bool,
    notice: Option<&'a str>,
    settle: Option<Settle<'a>>,
    /// Are told whether anything moved, before `settle`.
    when_settled: Vec<WhenSettled>,
    objects: u64,
    pack_bytes: u64,
    last_progress: Instant,
    last_byte: Instant,
}

impl<'a> Reporter<'a> {
    pub(super) fn new(out: &'a mut dyn Write, capabilities: &Capabilities) -> Reporter<'a> {
        let now = Instant::now();
        Reporter {
            out,
            has_sideband: capabilities.side_band_64k,
            wants_report: capabilities.report_status || capabilities.report_status_v2,
            is_quiet: capabilities.quiet,
            notice: None,
            settle: None,
            when_settled: Vec::new(),
            objects: 0,
            pack_bytes: 0,
            last_progress: now,
            last_byte: now,
        }
    }

    /// Keeps a line for the person behind the client, however quiet the client is: it goes with the report.
    pub(super) fn with_notice(self, notice: Option<&'a str>) -> Reporter<'a> {
        Reporter { notice, ..self }
    }

    /// Tells `settle` what became of the push before the client hears it.
    pub(super) fn settling(self, settle: Settle<'a>) -> Reporter<'a> {
        Reporter {
            settle: Some(settle),
            ..self
        }
    }

    /// Has `told` called when it is known whether anything moved, and before the client knows.
    pub(super) fn when_settled(&mut self, told: impl FnOnce(bool) + 'static) {
        self.when_settled.push(Box::new(told));
    }

    /// Notes what the pack had.
    pub(super) fn took(&mut self, objects: u64, pack_bytes: u64) {
        (self.objects, self.pack_bytes) = (objects, pack_bytes);
    }

    /// Settles a push that ends without having come to moving anything, with the gate's reason if it was that; nothing,
    /// if it was settled before.
    pub(super) fn settle_failed(&mut self, commands: &[RefCommand], error: &Error, reason: Option<&str>) {
        self.settle(ended_early(commands, reason), Some(error));
    }

    fn settle(&mut self, outcome: Outcome, error: Option<&Error>) {
        let has_moved = error.is_none() && (outcome.refused < outcome.commands || outcome.is_unsure);
        for told in self.when_settled.drain(..) {
            told(has_moved);
        }
        if let Some(settle) = self.settle.take() {
            let outcome = Outcome {
                objects: self.objects,
                pack_bytes: self.pack_bytes,
                ..outcome
            };
            settle(&outcome, error);
        }
    }

    /// Says `text` on band 2, where there is one.
    pub(super) fn say(&mut self, text: &str) -> io::Result<()> {
        if !self.has_sideband {
            return Ok(());
        }
        let mut framed = Vec::new();
        sideband::encode(&mut framed, Mode::Large, Band::Progress, text.as_bytes());
        self.out.write_all(&framed)?;
        self.last_byte = Instant::now();
        self.out.flush()
    }

    /// Tells how far the pack is. Nothing is said while it is read: not every client listens while it talks.
    pub(super) fn progress(&mut self, progress: Progress) -> io::Result<()> {
        let Progress::Resolving { deltas, total } = progress else {
            return Ok(());
        };
        let is_last = deltas == total && total > 0;
        if !self.is_quiet && (is_last || self.last_progress.elapsed() >= PROGRESS_EVERY) {
            self.last_progress = Instant::now();
            let percent = u64::from(deltas) * 100 / u64::from(total).max(1);
            let end = if is_last { ", done.\n" } else { "\r" };
            return self.say(&format!("Resolving deltas: {percent:3}% ({deltas}/{total}){end}"));
        }
        self.keep_alive()
    }

    /// Sends an empty packet if the client has not heard anything for long.
    pub(super) fn keep_alive(&mut self) -> io::Result<()> {
        if !self.has_sideband || self.last_byte.elapsed() < KEEPALIVE_EVERY {
            return Ok(());
        }
        let mut framed = Vec::new();
        sideband::encode_keepalive(&mut framed);
        self.out.write_all(&framed)?;
        self.last_byte = Instant::now();
        self.out.flush()
    }

    /// Settles the push and ends the answer.
    pub(super) fn finish(&mut self, unpack: Result<(), &str>, commands: &Commands<'_>) -> io::Result<()> {
        let outcome = Outcome {
            refusal: unpack.err().map(str::to_owned),
            ..commands.outcome()
        };
        self.settle(outcome, None);
        if let Some(notice) = self.notice.take() {
            self.say(&format!("{notice}\n"))?;
        }
        self.report(unpack, &commands.statuses())
    }

    /// Ends the answer to a push of which nothing came, and says why for each of its commands.
    pub(super) fn finish_cut(&mut self, reason: &str, commands: &[RefCommand]) -> io::Result<()> {
        if self.has_sideband && !self.wants_report {
            let mut framed = Vec::new();
            let text = format!("{reason}\n");
            sideband::encode(&mut framed, Mode::Large, Band::Error, text.as_bytes());
            return self.out.write_all(&framed);
        }
        let refused = CommandStatus::Ng(reason.to_owned());
        let statuses: Vec<_> = commands
            .iter()
            .map(|command| (command.name.as_ref(), refused.clone()))
            .collect();
        self.report(Err(reason), &statuses)
    }

    fn report(&mut self, unpack: Result<(), &str>, statuses: &[(&BStr, CommandStatus)]) -> io::Result<()> {
        let mut report = Vec::new();
        if self.wants_report {
            encode_report(&mut report, unpack, statuses);
        }
        if !self.has_sideband {
            return self.out.write_all(&report);
        }
        let mut framed = Vec::new();
        sideband::encode(&mut framed, Mode::Large, Band::Pack, &report);
        encode_flush(&mut framed);
        self.out.write_all(&framed)
    }
}
