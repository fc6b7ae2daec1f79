//! The parts of protocol 2's answers: capability advertisement, listed refs, acknowledgments, section headers.
//!
//! Each encoder appends to a buffer of the caller's and allocates nothing else, so that a hundred thousand refs cost
//! what copying them costs.

use bstr::BStr;
use gix_hash::{Kind, oid};

use crate::protocol::line::push_hex;
use crate::protocol::pkt_line::{self, encode_line, encode_text};
use crate::protocol::v0::{AckStatus, encode_ack};

/// What differs between one capability advertisement and another.
#[derive(Debug, Clone, Copy)]
pub struct Advertisement<'a> {
    /// The server's name and version: printable ASCII without spaces.
    pub agent: &'a str,
    /// The repository's hash function.
    pub object_format: Kind,
    /// A name for this session, for the logs of both sides; none: session ids are not advertised.
    pub session_id: Option<&'a str>,
}

/// Appends the capability advertisement, from `version 2` to the flush-pkt.
///
/// It is the whole body of `info/refs`: in protocol 2 no `# service` line comes before it.
pub fn encode_advertisement(out: &mut Vec<u8>, advertisement: &Advertisement<'_>) {
    encode_text(out, b"version 2");
    encode_text(out, format!("agent={}", advertisement.agent).as_bytes());
    encode_text(out, b"ls-refs=unborn");
    encode_text(out, b"fetch=wait-for-done");
    encode_text(out, b"server-option");
    encode_text(
        out,
        format!("object-format={}", advertisement.object_format).as_bytes(),
    );
    if let Some(session_id) = advertisement.session_id {
        encode_text(out, format!("session-id={session_id}").as_bytes());
    }
    pkt_line::encode_flush(out);
}

/// One ref as `ls-refs` lists it.
#[derive(Debug, Clone, Copy)]
pub struct ListedRef<'a> {
    /// The full name.
    pub name: &'a BStr,
    /// What it points at; none: the unborn `HEAD`.
    pub id: Option<&'a oid>,
    /// For a symbolic ref, if the client asked for it: the full name of its target.
    pub symref_target: Option<&'a BStr>,
    /// For a tag object, if the client asked for it: what the tag points at in the end.
    pub peeled: Option<&'a oid>,
}

/// Appends the line of one ref: `<oid> <name>[ symref-target:<name>][ peeled:<oid>]`, or `unborn` for the id.
///
/// A flush-pkt ends the list.
///
/// # Errors
///
/// [`pkt_line::Error::TooLong`] when the names do not fit in a packet; nothing is appended then.
pub fn encode_listed_ref(out: &mut Vec<u8>, listed: &ListedRef<'_>) -> Result<(), pkt_line::Error> {
    encode_line(out, |out| {
        match listed.id {
            Some(id) => push_hex(out, id),
            None => out.extend_from_slice(b"unborn"),
        }
        out.push(b' ');
        out.extend_from_slice(listed.name);
        if let Some(target) = listed.symref_target {
            out.extend_from_slice(b" symref-target:");
            out.extend_from_slice(target);
        }
        if let Some(peeled) = listed.peeled {
            out.extend_from_slice(b" peeled:");
            push_hex(out, peeled);
        }
        out.push(b'\n');
    })
}

/// The `acknowledgments` section of an answer to `fetch`, written line by line.
///
/// Every way to end it is here, because which packet follows tells the client whether a pack comes.
#[derive(Debug)]
#[must_use = "a section that is not ended leaves the client waiting"]
pub struct AckSection {
    any: bool,
}

impl AckSection {
    /// Appends the section's header.
    pub fn start(out: &mut Vec<u8>) -> Self {
        encode_text(out, b"acknowledgments");
        AckSection { any: false }
    }

    /// Appends `ACK <oid>`: the server has this object too.
    pub fn ack(&mut self, out: &mut Vec<u8>, id: &oid) {
        self.any = true;
        encode_ack(out, id, AckStatus::Final);
    }

    /// Ends the section and the answer: the client is to send more haves.
    pub fn end(self, out: &mut Vec<u8>) {
        self.nak_if_none(out);
        pkt_line::encode_flush(out);
    }

    /// Ends the section with `ready`: the next section is the pack.
    pub fn end_ready(self, out: &mut Vec<u8>) {
        self.nak_if_none(out);
        encode_text(out, b"ready");
        pkt_line::encode_delim(out);
    }

    fn nak_if_none(&self, out: &mut Vec<u8>) {
        if !self.any {
            encode_text(out, b"NAK");
        }
    }
}

/// Appends the header of the pack's section, which goes to a flush-pkt.
///
/// The pack is framed by [`sideband`](crate::protocol::sideband) with its large packets.
pub fn encode_packfile_header(out: &mut Vec<u8>) {
    encode_text(out, b"packfile");
}
