//! Protocol 0 and 1: fetches as stateless HTTP requests, the listing of refs, and acknowledgments.
//!
//! Owns the grammar of a `git-upload-pack` request and the encoders of both services' ref advertisement; the
//! negotiation itself is for `upload_pack`. Protocol 1 is protocol 0 with one line before the advertisement.
//! Follows gitprotocol-pack(5), gitprotocol-http(5) and git's upload-pack.c and receive-pack.c.

mod acknowledgment;
mod advertisement;

#[cfg(test)]
mod tests;

use std::collections::HashSet;

use gix_hash::{Kind, ObjectId};

use crate::limits::FetchLimits;
use crate::protocol::Unsupported;
use crate::protocol::line::{capabilities, client_text, leading_object_id, object_format, object_id, quoted};
use crate::protocol::pkt_line::{self, Packets, PktLine};
use crate::protocol::sideband::Mode;

pub use acknowledgment::{AckStatus, encode_ack, encode_nak};
pub use advertisement::{
    ReceivePackCapabilities, RefAdvertisement, UploadPackCapabilities, encode_service_header,
    encode_version_1,
};

/// How the server acknowledges haves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MultiAck {
    /// Only the first common object.
    #[default]
    None,
    /// `multi_ack`: every common object, as `ACK <oid> continue`.
    Simple,
    /// `multi_ack_detailed`: every common object, as `ACK <oid> common`, or `ready` when no more are needed.
    Detailed,
}

/// What a client asked for behind its wants. Capabilities that are not here are passed over, as git does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// How haves are acknowledged.
    pub multi_ack: MultiAck,
    /// The pack may follow `ready` without a `done`.
    pub no_done: bool,
    /// Deltas may have a base that is not in the pack.
    pub thin_pack: bool,
    /// How the pack is framed.
    pub sideband: Mode,
    /// Deltas may name their base by its offset in the pack.
    pub ofs_delta: bool,
    /// No progress on band 2.
    pub no_progress: bool,
    /// Annotated tags that point at objects in the pack are to be sent along.
    pub include_tag: bool,
    /// The client's name and version for the log: at most 256 printable ASCII characters.
    pub agent: Option<String>,
    /// The client's own name for its process for the log: at most 256 printable ASCII characters.
    pub session_id: Option<String>,
}

/// One stateless request of protocol 0 or 1.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UploadRequest {
    /// Objects that the client asks for, each once, in the order of the request; at least one.
    pub wants: Vec<ObjectId>,
    /// What the client asked for on its want lines.
    pub capabilities: Capabilities,
    /// Objects that the client says it has, each once, in the order of the request, over all groups.
    pub haves: Vec<ObjectId>,
    /// The negotiation is over: the pack is to be sent.
    pub done: bool,
    /// How many flush-pkts ended groups of haves, the one after the wants not counted. Without `done`, 0 means that
    /// the request ends after the wants.
    pub flushes: usize,
}

/// Why a request is refused. The client is at fault in every case; the text goes into an `ERR` pkt-line as it is.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone)]
pub enum Error {
    /// The body does not consist of pkt-lines, or ends too early.
    #[error(transparent)]
    PktLine(#[from] pkt_line::Error),
    /// A feature that is not offered.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// Something else than a `want` with an object id before the first flush-pkt.
    #[error("git upload-pack: protocol error, expected to get object ID, not '{0}'")]
    BadWant(String),
    /// A `have` without an object id.
    #[error("git upload-pack: expected SHA1 object, got '{0}'")]
    BadHave(String),
    /// Something else than a `have` or `done` after the wants.
    #[error("git upload-pack: expected SHA1 list, got '{0}'")]
    UnexpectedLine(String),
    /// A delim-pkt or response-end-pkt, which this protocol does not have.
    #[error("git upload-pack: protocol error, unexpected special packet")]
    SpecialPacket,
    /// A hash function that this server does not know.
    #[error("unknown object format '{0}'")]
    UnknownObjectFormat(String),
    /// Another hash function than the repository's.
    #[error("mismatched object format: server {server}; client {client}")]
    MismatchedObjectFormat {
        /// The repository's.
        server: Kind,
        /// The client's.
        client: Kind,
    },
    /// Something else than flush-pkts after `done`, or after a flush-pkt without wants.
    #[error("unexpected data after the end of the request")]
    TrailingData,
    /// More bytes than [`FetchLimits::request_bytes_max`].
    #[error("the request has more than {0} bytes")]
    TooLarge(usize),
    /// More than [`FetchLimits::wants_count_max`].
    #[error("the request has more than {0} wants; fetch fewer refs at a time")]
    TooManyWants(usize),
    /// More than [`FetchLimits::haves_count_max`].
    #[error("the request has more than {0} haves")]
    TooManyHaves(usize),
}

/// Reads the whole, inflated body of one `git-upload-pack` request of protocol 0 or 1 for a repository that uses
/// `hash`: wants, flush-pkt, haves in groups that each end in a flush-pkt, `done`.
///
/// None: the body is empty or only a flush-pkt; the client wants nothing, and the answer is empty.
///
/// # Errors
///
/// The first thing in the body that breaks the protocol, is not offered, or passes a bound of `limits`.
pub fn decode_upload_request(
    body: &[u8],
    hash: Kind,
    limits: &FetchLimits,
) -> Result<Option<UploadRequest>, Error> {
    if body.len() > limits.request_bytes_max {
        return Err(Error::TooLarge(limits.request_bytes_max));
    }
    if body.is_empty() {
        return Ok(None);
    }
    let mut packets = Packets::new(body);
    let mut request = UploadRequest::default();
    read_wants(&mut packets, hash, limits, &mut request)?;
    if request.wants.is_empty() {
        expect_end(&mut packets)?;
        return Ok(None);
    }
    // A request may end here: git's clients send such a one to learn the shallow boundary.
    if !packets.is_at_end() {
        read_haves(&mut packets, hash, limits, &mut request)?;
    }
    Ok(Some(request))
}

fn read_wants(
    packets: &mut Packets<'_>,
    hash: Kind,
    limits: &FetchLimits,
    request: &mut UploadRequest,
) -> Result<(), Error> {
    let mut seen = HashSet::new();
    while let Some(line) = next_line(packets)? {
        let Some(rest) = line.strip_prefix(b"want ") else {
            return Err(match Unsupported::in_fetch_line(line) {
                Some(feature) => feature.into(),
                None => Error::BadWant(quoted(line)),
            });
        };
        let want = leading_object_id(rest, hash);
        let Some((id, list)) = want.filter(|(_, list)| matches!(list.first(), None | Some(b' ' | b'\t')))
        else {
            return Err(wrong_width(rest, hash).unwrap_or_else(|| Error::BadWant(quoted(line))));
        };
        request.capabilities.add(list, hash)?;
        if seen.insert(id) {
            if request.wants.len() >= limits.wants_count_max {
                return Err(Error::TooManyWants(limits.wants_count_max));
            }
            request.wants.push(id);
        }
    }
    Ok(())
}

fn read_haves(
    packets: &mut Packets<'_>,
    hash: Kind,
    limits: &FetchLimits,
    request: &mut UploadRequest,
) -> Result<(), Error> {
    let mut seen = HashSet::new();
    let mut group_is_open = true;
    loop {
        // The last group is whole only with its flush-pkt: a body cut before it is not to be answered.
        if packets.is_at_end() && !group_is_open {
            return Ok(());
        }
        let Some(line) = next_line(packets)? else {
            request.flushes = request.flushes.saturating_add(1);
            group_is_open = false;
            continue;
        };
        group_is_open = true;
        if let Some(hex) = line.strip_prefix(b"have ") {
            let id = object_id(hex, hash).ok_or_else(|| Error::BadHave(quoted(line)))?;
            if seen.insert(id) {
                if request.haves.len() >= limits.haves_count_max {
                    return Err(Error::TooManyHaves(limits.haves_count_max));
                }
                request.haves.push(id);
            }
        } else if line == b"done" {
            request.done = true;
            return expect_end(packets);
        } else {
            return Err(Error::UnexpectedLine(quoted(line)));
        }
    }
}

/// The next line; none at a flush-pkt.
fn next_line<'a>(packets: &mut Packets<'a>) -> Result<Option<&'a [u8]>, Error> {
    match packets.read()? {
        PktLine::Flush => Ok(None),
        line => line.text().map(Some).ok_or(Error::SpecialPacket),
    }
}

/// Accepts nothing but more flush-pkts, which git leaves unread.
fn expect_end(packets: &mut Packets<'_>) -> Result<(), Error> {
    while !packets.is_at_end() {
        if packets.read() != Ok(PktLine::Flush) {
            return Err(Error::TrailingData);
        }
    }
    Ok(())
}

/// The clearer error for a want whose id has the width of another hash function than `hash`.
fn wrong_width(rest: &[u8], hash: Kind) -> Option<Error> {
    let word = rest.split(|byte| matches!(byte, b' ' | b'\t')).next()?;
    let client = Kind::all()
        .iter()
        .copied()
        .find(|&kind| kind != hash && object_id(word, kind).is_some())?;
    Some(Error::MismatchedObjectFormat { server: hash, client })
}

impl Capabilities {
    /// Adds those of one want line; git reads them on every line, and they never take one back.
    fn add(&mut self, list: &[u8], hash: Kind) -> Result<(), Error> {
        for (name, value) in capabilities(list) {
            match name {
                b"multi_ack_detailed" => self.multi_ack = MultiAck::Detailed,
                b"multi_ack" if self.multi_ack == MultiAck::None => self.multi_ack = MultiAck::Simple,
                b"no-done" => self.no_done = true,
                b"thin-pack" => self.thin_pack = true,
                b"side-band-64k" => self.sideband = Mode::Large,
                b"side-band" if self.sideband == Mode::None => self.sideband = Mode::Small,
                b"ofs-delta" => self.ofs_delta = true,
                b"no-progress" => self.no_progress = true,
                b"include-tag" => self.include_tag = true,
                b"agent" => self.agent = value.map(client_text),
                b"session-id" => self.session_id = value.map(client_text),
                b"object-format" => {
                    let name = value.unwrap_or_default();
                    let client =
                        object_format(name).ok_or_else(|| Error::UnknownObjectFormat(quoted(name)))?;
                    if client != hash {
                        return Err(Error::MismatchedObjectFormat { server: hash, client });
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}
