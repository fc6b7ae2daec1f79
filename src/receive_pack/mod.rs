//! One push: commands, the pack into quarantine, checks, migration, refs, report.
//!
//! Owns the order of these steps and what the client hears of them. Does not know users beyond a name for the reflog,
//! nor HTTP. Whatever can be said in the report or as `ERR` is said there and is no error here. Until the refs move
//! nothing that was sent is visible to anybody; once they move the push is finished whoever goes away. Right before that
//! the gate is asked once more: a token that is no good any more moves nothing, however early its push began.
//! Spec: gitprotocol-pack(5), "Pushing Data To a Server"; git-receive-pack(1).

mod commands;
pub mod direct;
#[cfg(test)]
mod gate_tests;
mod input;
mod report;
mod scan;
mod take_in;

use std::io::{Read, Write};
use std::sync::Arc;

use bstr::{BStr, BString};
use gix_hash::ObjectId;

use crate::auth::{Grant, Push, leak};
use crate::interrupt::Interrupt;
use crate::limits::PushLimits;
use crate::names::RefPattern;
use crate::protocol::receive::PushRequest;
use crate::protocol::sideband::{self, Band, Mode};
use crate::protocol::v0::{self, ReceivePackCapabilities, RefAdvertisement};
use crate::protocol::{Service, Version, pkt_line};
use crate::repository::hidden::is_hidden;
use crate::repository::quarantine::Migrated;
use crate::repository::refs::RefChangeError;
use crate::repository::{self, Repository, objects};
use crate::upload_pack::{AGENT, BATCH_BYTES, session_id};
use commands::Commands;
use input::Input;
use report::Reporter;
use scan::Secrets;

pub use scan::ALLOW_SECRET;

/// What a client hears of a disk that fails; the cause is for the server's log.
const CANNOT_WRITE: &str = "the server cannot write to the repository; tell its administrator";

/// git's word for a ref that does not move for a reason that is not the client's.
const FAILED_TO_UPDATE: &str = "failed to update ref";

/// Patterns of a token's limit that a refusal names.
const LIMITS_SHOWN_MAX: usize = 3;

/// What neither the report nor an `ERR` can say.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The object database failed.
    #[error("cannot read objects")]
    Objects(#[from] objects::Error),
    /// A line for the client would be longer than a packet.
    #[error("cannot encode the answer")]
    Encode(#[from] pkt_line::Error),
    /// The client went away, or another side of the server asked to stop, before a ref moved.
    #[error("the push was interrupted before any ref moved")]
    Interrupted,
    /// The checks failed on the repository's own side.
    #[error("cannot check the push")]
    Pack(#[from] crate::pack::Error),
    /// The request cannot be read to its end.
    #[error("cannot read the push")]
    Read(#[source] std::io::Error),
    /// The refs or another part of the repository cannot be read or written.
    #[error("cannot change the repository")]
    Repository(#[from] repository::Error),
    /// Nobody takes the answer any more.
    #[error("cannot send the answer")]
    Write(#[from] std::io::Error),
}

/// What a push did, for the log and the audit trail.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Commands that were sent.
    pub commands: usize,
    /// Those of them that were refused.
    pub refused: usize,
    /// Objects that were sent.
    pub objects: u64,
    /// Bytes of the pack that was sent.
    pub pack_bytes: u64,
    /// What became of the first refs that were named: at most [`REFS_KEPT_MAX`], and [`NAMES_KEPT_BYTES_MAX`] of names.
    pub refs: Vec<RefOutcome>,
    /// Why the whole request or its pack was refused.
    pub refusal: Option<String>,
    /// The transaction failed on the way: what counts as refused may have moved all the same.
    pub is_unsure: bool,
}

/// Refs of a push that its outcome tells of.
pub const REFS_KEPT_MAX: usize = 1000;

/// Bytes of names after which its outcome tells of no further refs.
pub const NAMES_KEPT_BYTES_MAX: usize = 256 << 10;

/// What became of one ref.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefOutcome {
    /// Its name, as the client sent it.
    pub name: BString,
    /// What it pointed at; None: it was not there. What the client believed, if the ref did not move.
    pub old: Option<ObjectId>,
    /// What it points at, or was to point at; None: it is gone, or was to go.
    pub new: Option<ObjectId>,
    /// Whether it moved.
    pub end: RefEnd,
}

/// Whether a ref moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefEnd {
    /// It did.
    Moved,
    /// It did not, for this reason.
    Refused(String),
    /// It did not, because the push ended before.
    Untouched,
}

/// Is told once of every push that was understood what became of it: before its client is, or with the error if the
/// client hears nothing. It may block, and its client waits then.
pub type Settle<'a> = &'a mut dyn FnMut(&Outcome, Option<&Error>);

/// Writes the body of `GET info/refs?service=git-receive-pack`.
///
/// # Errors
///
/// When refs cannot be read or `out` fails.
pub fn advertise(
    _grant: &Grant<Push>,
    repository: &Arc<Repository>,
    version: Version,
    out: &mut dyn Write,
) -> Result<(), Error> {
    let mut buffer = Vec::with_capacity(BATCH_BYTES);
    // There is no protocol 2 for pushes: a client that asks for it is answered in protocol 0, and as by git
    // http-backend without the line that names the service.
    if version != Version::V2 {
        v0::encode_service_header(&mut buffer, Service::ReceivePack);
    }
    if version == Version::V1 {
        v0::encode_version_1(&mut buffer);
    }
    let refs = repository.refs()?;
    let rules = &repository.settings().receive_hide_refs;
    let mut advertisement = RefAdvertisement::receive_pack(&ReceivePackCapabilities {
        push_options: repository.settings().advertise_push_options,
        agent: AGENT,
        object_format: repository.object_hash(),
        session_id: Some(session_id()),
    });
    for entry in refs.iter().filter(|entry| !is_hidden(rules, entry.name)) {
        advertisement.encode_ref(&mut buffer, &entry.id, entry.name, None)?;
        if buffer.len() >= BATCH_BYTES {
            out.write_all(&buffer)?;
            buffer.clear();
        }
    }
    advertisement.finish(&mut buffer)?;
    out.write_all(&buffer)?;
    Ok(())
}

/// Whom a push asks and tells on its way, besides the grant.
pub struct Asked<'a> {
    /// Whether tokens that the push brings live.
    pub guard: &'a leak::Guard,
    /// Once all is checked and before anything moves: whether the grant still holds, or in words for the client why not.
    pub standing: &'a dyn Fn() -> Result<(), String>,
    /// Hears what became of it when no ref will move any more and the client does not know yet.
    pub settle: Settle<'a>,
}

/// Answers one `POST git-receive-pack`: reads commands and then the pack from `request`, which is inflated already.
///
/// An interrupt that has a reason is reported to the client; the interrupt is sealed when the refs begin to move. The
/// report also has the grant's notice, on band 2.
///
/// # Errors
///
/// When the client goes away, or the repository fails before it comes to moving anything. Then no ref moved, unless it
/// was the report that nobody took.
pub fn serve(
    grant: &Grant<Push>,
    asked: Asked<'_>,
    repository: &Arc<Repository>,
    request: &mut dyn Read,
    limits: &PushLimits,
    out: &mut dyn Write,
    interrupt: &Interrupt,
) -> Result<(), Error> {
    let mut input = Input::new(request);
    let takes_options = repository.settings().advertise_push_options;
    let decoded = match input.read_commands(repository.object_hash(), limits, takes_options)? {
        // The probe that git sends before a push too large to send twice: only the status of the answer matters.
        Ok(None) => return Ok(()),
        Ok(Some(decoded)) => decoded,
        Err(refused) => {
            let mut buffer = Vec::new();
            let text = refused.error.to_string();
            if refused.has_sideband {
                sideband::encode(
                    &mut buffer,
                    Mode::Large,
                    Band::Error,
                    format!("{text}\n").as_bytes(),
                );
            } else {
                pkt_line::encode_error(&mut buffer, &text);
            }
            let outcome = Outcome {
                refusal: Some(text),
                ..Outcome::default()
            };
            (asked.settle)(&outcome, None);
            input.drain()?;
            out.write_all(&buffer)?;
            return Ok(());
        }
    };
    let push = Receiver {
        repository,
        limits,
        interrupt,
        allows: &|name| {
            if grant.allows_ref(name) {
                Ok(())
            } else {
                Err(limited_to(grant.refs()))
            }
        },
        standing: asked.standing,
        committer: committer(grant),
        secrets: Some(Secrets {
            guard: asked.guard,
            grant,
        }),
    };
    let mut reporter = Reporter::new(out, &decoded.capabilities)
        .with_notice(grant.notice())
        .settling(asked.settle);
    let Err(error) = push.run(&decoded, &mut input, &mut reporter) else {
        return Ok(());
    };
    let reason = interrupt.reason();
    reporter.settle_failed(&decoded.commands, &error, reason);
    let Some(reason) = reason else { return Err(error) };
    reporter.finish_cut(reason, &decoded.commands)?;
    Ok(())
}

/// Why a ref does not move that a token's limits leave out.
fn limited_to(patterns: &[RefPattern]) -> String {
    let (shown, rest) = patterns.split_at(patterns.len().min(LIMITS_SHOWN_MAX));
    let shown: Vec<String> = shown.iter().map(ToString::to_string).collect();
    let more = match rest.len() {
        0 => String::new(),
        count => format!(" and {count} more"),
    };
    format!("token limited to {}{more}", shown.join(", "))
}

/// How a push is named in reflogs.
fn committer(grant: &Grant<Push>) -> String {
    let name = grant.account().unwrap_or("anonymous");
    format!("{name} <{name}@patgate>")
}

/// What all steps of one push share.
struct Receiver<'a> {
    repository: &'a Arc<Repository>,
    limits: &'a PushLimits,
    interrupt: &'a Interrupt,
    /// Whether the token's limits let a ref be changed; if not, the status of its command.
    allows: &'a dyn Fn(&BStr) -> Result<(), String>,
    /// Whether the grant still holds; if not, the status of all commands.
    standing: &'a dyn Fn() -> Result<(), String>,
    committer: String,
    /// None: nothing is looked for.
    secrets: Option<Secrets<'a>>,
}

impl Receiver<'_> {
    fn run(
        &self,
        request: &PushRequest,
        input: &mut Input<'_>,
        reporter: &mut Reporter<'_>,
    ) -> Result<(), Error> {
        let is_atomic = request.capabilities.atomic;
        let refs = self.repository.refs()?;
        let mut commands = Commands::new(&request.commands, &refs, self.repository.settings());
        let mut is_limited = false;
        for (place, command) in request.commands.iter().enumerate() {
            if let Err(reason) = (self.allows)(command.name.as_ref()) {
                is_limited = true;
                commands.refuse(place, &reason);
            }
        }
        if is_limited && is_atomic {
            commands.refuse_all("atomic push failure");
        }
        if is_limited && !commands.any_open() {
            // What nobody may use is not taken in.
            input.drain()?;
            reporter.finish(Ok(()), &commands)?;
            return Ok(());
        }
        let scanner = self.secrets.as_ref().map(|secrets| scan::scanner(secrets.guard));
        let taken = if commands.bring_a_pack() {
            match self.take_in(input, scanner.as_ref(), reporter) {
                Ok(taken) => taken,
                Err(take_in::Error::Push(err)) => return Err(err),
                Err(take_in::Error::Unpack(reason)) => {
                    input.drain()?;
                    commands.refuse_all("unpacker error");
                    reporter.finish(Err(&reason), &commands)?;
                    return Ok(());
                }
            }
        } else {
            input.drain()?;
            take_in::Taken {
                quarantine: self.repository.quarantine()?,
                pack: None,
            }
        };
        if let Some(pack) = &taken.pack {
            reporter.took(u64::from(pack.objects_received), pack.bytes_received);
        }
        // As they are now: what a ref reached that went while the pack came, which may take hours, `git gc` may have
        // removed since.
        let vouching = self.repository.refs()?;
        let connected = self.check(&mut commands, &vouching, &taken, reporter)?;
        if let (Some(secrets), Some(scanner)) = (&self.secrets, scanner) {
            let finds = scanner.into_finds();
            self.check_secrets(secrets, request, &mut commands, &refs, (&taken, &finds), reporter)?;
        }
        if is_atomic && commands.refused_count() > 0 {
            commands.refuse_all("atomic push failure");
        }
        if commands.any_open()
            && let Err(reason) = (self.standing)()
        {
            // Gone before the client hears of it.
            drop(taken);
            commands.refuse_all(&reason);
            reporter.finish(Ok(()), &commands)?;
            return Ok(());
        }
        if self.interrupt.is_triggered() {
            return Err(Error::Interrupted);
        }
        if let Some(connected) = connected
            && commands.any_open()
        {
            match taken.quarantine.into_checked(&connected).migrate() {
                Ok(migrated) => self.move_refs(&migrated, &mut commands, is_atomic, reporter)?,
                Err(err) => {
                    tracing::error!(
                        err = &err as &dyn std::error::Error,
                        "a pack could not be moved into the repository"
                    );
                    commands.refuse_all("unable to migrate objects to permanent storage");
                    reporter.say(&format!("error: {CANNOT_WRITE}\n"))?;
                }
            }
        }
        reporter.finish(Ok(()), &commands)?;
        Ok(())
    }

    /// Moves what is open. Syncing a large pack and waiting for another transaction take time, so the gate is asked once
    /// more when nothing is left to wait for; from then on it is done to the end, and a client that goes away no longer
    /// matters.
    fn move_refs(
        &self,
        migrated: &Migrated,
        commands: &mut Commands<'_>,
        is_atomic: bool,
        reporter: &mut Reporter<'_>,
    ) -> Result<(), Error> {
        let (places, changes) = commands.changes();
        let mut refusal = None;
        let mut may_begin = || match (self.standing)() {
            Ok(()) => self.interrupt.seal(),
            Err(reason) => {
                refusal = Some(reason);
                false
            }
        };
        let moved = match self.repository.update_refs_if(
            migrated,
            &changes,
            is_atomic,
            &self.committer,
            &mut may_begin,
        ) {
            Ok(moved) => moved,
            Err(repository::Error::Withdrawn) => {
                let reason = refusal.ok_or(Error::Interrupted)?;
                commands.refuse_all(&reason);
                return Ok(());
            }
            Err(err) => {
                tracing::error!(err = &err as &dyn std::error::Error, "refs could not be moved");
                if !matches!(err, repository::Error::TransactionBusy) {
                    commands.unsure();
                }
                // Some may have moved, or will once the disk can be written again. That is no promise, so none is `ok`.
                commands.refuse_all(if is_atomic {
                    RefChangeError::Atomic.status()
                } else {
                    FAILED_TO_UPDATE
                });
                let told = match err {
                    repository::Error::TransactionBusy => err.to_string(),
                    _ => format!("{CANNOT_WRITE}; fetch to see which refs moved all the same"),
                };
                let _ = reporter.say(&format!("error: {told}\n"));
                return Ok(());
            }
        };
        for ((&place, change), result) in places.iter().zip(&changes).zip(moved) {
            match result {
                Ok(()) => commands.moved(place),
                Err(RefChangeError::Atomic) => commands.refuse(place, RefChangeError::Atomic.status()),
                Err(err) => {
                    let name: &BStr = change.name.as_ref();
                    tracing::info!(%name, %err, "a ref was not moved");
                    // git names no culprit in the report of an atomic push, only beside it.
                    let status = if is_atomic {
                        RefChangeError::Atomic.status()
                    } else {
                        err.status()
                    };
                    commands.refuse(place, status);
                    let _ = reporter.say(&format!("error: {err}\n"));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
