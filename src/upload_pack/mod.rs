//! One fetch: advertisement, `ls-refs`, negotiation, and the pack.
//!
//! Owns what a client is told and sent. Does not know users, tokens, HTTP, or where the bytes go. What the protocol
//! answers itself (an unknown want, a feature that is not offered) is written as `ERR` and is no error here.
//! Spec: gitprotocol-v2(5), gitprotocol-pack(5), gitprotocol-http(5).

mod ls_refs;
mod negotiate;
mod send;
mod wants;

use std::io::Write;
use std::sync::{Arc, OnceLock};

use bstr::BStr;
use gix_hash::ObjectId;

use crate::auth::{Fetch, Grant};
use crate::interrupt::Interrupt;
use crate::limits::FetchLimits;
use crate::protocol::v0::{self, RefAdvertisement, UploadPackCapabilities};
use crate::protocol::{Service, Version, pkt_line, v2};
use crate::repository::hidden::is_hidden;
use crate::repository::refs::{Head, Peeled, RefEntry, RefSnapshot};
use crate::repository::{self, Repository};
use crate::{pack, repository::objects};

/// Bytes that are gathered before they are handed on.
pub(crate) const BATCH_BYTES: usize = 64 << 10;

/// How this server names itself to clients.
pub(crate) const AGENT: &str = concat!("patgate/", env!("CARGO_PKG_VERSION"));

/// What is left when the protocol has no answer of its own.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The object database failed.
    #[error("cannot read objects")]
    Objects(#[from] objects::Error),
    /// The pack could not be made or sent to its end.
    #[error("cannot send the pack")]
    Pack(#[from] pack::Error),
    /// A line for the client would be longer than a packet.
    #[error("cannot encode the answer")]
    Encode(#[from] pkt_line::Error),
    /// The refs or another part of the repository cannot be read.
    #[error("cannot read the repository")]
    Repository(#[from] repository::Error),
    /// Nobody takes the answer any more.
    #[error("cannot send the answer")]
    Write(#[from] std::io::Error),
}

/// What a fetch did, for the log and the audit trail: of one that failed, as far as it came.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// `ls-refs`, `fetch`, or empty for an empty request.
    pub command: &'static str,
    /// Objects that were wanted.
    pub wants: usize,
    /// Objects that the client said it has.
    pub haves: usize,
    /// Whether it came to the pack: negotiations take several requests, of which the last does.
    pub has_pack: bool,
    /// Objects in the pack.
    pub objects: u64,
    /// Bytes of the pack that were sent.
    pub pack_bytes: u64,
    /// Why the request was refused.
    pub refusal: Option<String>,
}

/// A name for this process, which clients put into their traces.
pub(crate) fn session_id() -> &'static str {
    static ID: OnceLock<String> = OnceLock::new();
    ID.get_or_init(|| format!("{:016x}-P{:08x}", rand::random::<u64>(), std::process::id()))
}

/// Writes the body of `GET info/refs?service=git-upload-pack`.
///
/// # Errors
///
/// When refs cannot be read or `out` fails.
pub fn advertise(
    _grant: &Grant<Fetch>,
    repository: &Arc<Repository>,
    version: Version,
    out: &mut dyn Write,
) -> Result<(), Error> {
    let mut buffer = Vec::with_capacity(BATCH_BYTES);
    let object_format = repository.object_hash();
    if version == Version::V2 {
        let advertisement = v2::Advertisement {
            agent: AGENT,
            object_format,
            session_id: Some(session_id()),
        };
        v2::encode_advertisement(&mut buffer, &advertisement);
        out.write_all(&buffer)?;
        return Ok(());
    }
    v0::encode_service_header(&mut buffer, Service::UploadPack);
    if version == Version::V1 {
        v0::encode_version_1(&mut buffer);
    }
    let view = View::new(repository)?;
    let settings = repository.settings();
    let (head_target, head_id) = view.head();
    let mut advertisement = RefAdvertisement::upload_pack(&UploadPackCapabilities {
        agent: AGENT,
        object_format,
        session_id: Some(session_id()),
        head_target,
        allow_tip_sha1_in_want: settings.allow_tip_sha1_in_want || settings.allow_any_sha1_in_want,
        allow_reachable_sha1_in_want: settings.allow_reachable_sha1_in_want
            || settings.allow_any_sha1_in_want,
    });
    if let Some(id) = head_id {
        let peeled = view.peel_id(id)?;
        advertisement.encode_ref(&mut buffer, &id, BStr::new("HEAD"), peeled.as_deref())?;
    }
    for entry in view.refs.iter().filter(|entry| view.shows(entry.name)) {
        let peeled = view.peel(&entry)?;
        advertisement.encode_ref(&mut buffer, &entry.id, entry.name, peeled.as_deref())?;
        if buffer.len() >= BATCH_BYTES {
            out.write_all(&buffer)?;
            buffer.clear();
        }
    }
    advertisement.finish(&mut buffer)?;
    out.write_all(&buffer)?;
    Ok(())
}

/// Answers one `POST git-upload-pack`; `request` is its whole body, inflated. `outcome` is filled on the way.
///
/// The answer that has the pack also has the grant's notice, on band 2. Where the interrupt has a reason, its last words
/// on band 3 are that.
///
/// # Errors
///
/// When the repository fails, `out` does, or the interrupt was triggered. Nothing that was written by then may be made
/// to look whole.
pub fn serve(
    grant: &Grant<Fetch>,
    repository: &Arc<Repository>,
    version: Version,
    request: &[u8],
    limits: &FetchLimits,
    out: &mut dyn Write,
    interrupt: &Interrupt,
    outcome: &mut Outcome,
) -> Result<(), Error> {
    let hash = repository.object_hash();
    if version == Version::V2 {
        return match v2::decode_request(request, hash, limits) {
            Ok(None) => Ok(()),
            Ok(Some(v2::Request {
                command: v2::Command::LsRefs(arguments),
                ..
            })) => {
                outcome.command = "ls-refs";
                ls_refs::serve(repository, &arguments, out)
            }
            Ok(Some(v2::Request {
                command: v2::Command::Fetch(arguments),
                ..
            })) => negotiate::serve_v2(repository, &arguments, grant.notice(), out, interrupt, outcome),
            Err(refused) => refuse(out, refused.to_string(), outcome),
        };
    }
    match v0::decode_upload_request(request, hash, limits) {
        Ok(None) => Ok(()),
        Ok(Some(request)) => {
            negotiate::serve_v0(repository, &request, grant.notice(), out, interrupt, outcome)
        }
        Err(refused) => refuse(out, refused.to_string(), outcome),
    }
}

/// Writes an `ERR` packet: git prints it behind `fatal: remote error:` and gives up.
fn refuse(out: &mut dyn Write, message: String, outcome: &mut Outcome) -> Result<(), Error> {
    let mut buffer = Vec::new();
    pkt_line::encode_error(&mut buffer, &message);
    outcome.refusal = Some(message);
    out.write_all(&buffer)?;
    Ok(())
}

/// The refs that a client may see, at one moment. One whose object is gone or damaged is among them, as with git since
/// version 2.34: were it left out, it would look deleted, and `git fetch --prune` would delete what the client has.
pub(crate) struct View<'a> {
    repository: &'a Repository,
    pub(crate) refs: Arc<RefSnapshot>,
}

impl<'a> View<'a> {
    pub(crate) fn new(repository: &'a Repository) -> Result<View<'a>, Error> {
        Ok(View {
            repository,
            refs: repository.refs()?,
        })
    }

    pub(crate) fn shows(&self, name: &BStr) -> bool {
        let rules = &self.repository.settings().upload_hide_refs;
        rules.is_empty() || !is_hidden(rules, name)
    }

    /// The branch that HEAD points at, and what it stands for; an unborn branch stands for nothing.
    pub(crate) fn head(&self) -> (Option<&BStr>, Option<ObjectId>) {
        match self.refs.head() {
            Head::Symbolic { target, .. } if !self.shows(target.as_ref()) => (None, None),
            Head::Symbolic { target, id: Some(id) } => (Some(target.as_ref()), Some(*id)),
            Head::Symbolic { id: None, .. } => (None, None),
            Head::Detached(id) => (None, Some(*id)),
        }
    }

    pub(crate) fn peel(&self, entry: &RefEntry<'_>) -> Result<Option<ObjectId>, Error> {
        match entry.peeled {
            Peeled::Known(peeled) => Ok(peeled),
            Peeled::Unknown => self.peel_id(entry.id),
        }
    }

    /// What the tag `id` finally points at; nothing too if it is damaged, which is to spoil no list of other refs.
    pub(crate) fn peel_id(&self, id: ObjectId) -> Result<Option<ObjectId>, Error> {
        match self.repository.peel(id) {
            Err(repository::Error::Objects(err @ objects::Error::Corrupt { .. })) => {
                tracing::warn!(%id, %err, "a ref points at a damaged object");
                Ok(None)
            }
            peeled => Ok(peeled?),
        }
    }
}
