//! The listing of refs with which protocol 0 and 1 start, for both services.

use bstr::BStr;
use gix_hash::{Kind, oid};

use crate::protocol::Service;
use crate::protocol::line::push_hex;
use crate::protocol::pkt_line::{self, encode_flush, encode_line, encode_text};

/// What the server offers for fetches.
#[derive(Debug, Clone, Copy)]
pub struct UploadPackCapabilities<'a> {
    /// The server's name and version: printable ASCII without spaces.
    pub agent: &'a str,
    /// The repository's hash function.
    pub object_format: Kind,
    /// A name for this session, for the logs of both sides; none: session ids are not advertised.
    pub session_id: Option<&'a str>,
    /// The branch that `HEAD` points at, if it exists.
    pub head_target: Option<&'a BStr>,
    /// Hidden refs may be wanted by their id.
    pub allow_tip_sha1_in_want: bool,
    /// Anything that is reachable may be wanted by its id.
    pub allow_reachable_sha1_in_want: bool,
}

impl UploadPackCapabilities<'_> {
    /// The list as it goes behind the first ref, in git's order.
    fn encode(&self) -> Vec<u8> {
        let mut list = b"multi_ack thin-pack side-band side-band-64k ofs-delta no-progress include-tag \
                         multi_ack_detailed"
            .to_vec();
        if self.allow_tip_sha1_in_want {
            list.extend_from_slice(b" allow-tip-sha1-in-want");
        }
        if self.allow_reachable_sha1_in_want {
            list.extend_from_slice(b" allow-reachable-sha1-in-want");
        }
        list.extend_from_slice(b" no-done");
        if let Some(target) = self.head_target {
            list.extend_from_slice(b" symref=HEAD:");
            list.extend_from_slice(target);
        }
        push_identity(&mut list, self.session_id, self.object_format, self.agent);
        list
    }
}

/// What the server offers for pushes.
#[derive(Debug, Clone, Copy)]
pub struct ReceivePackCapabilities<'a> {
    /// Push options are taken.
    pub push_options: bool,
    /// The server's name and version: printable ASCII without spaces.
    pub agent: &'a str,
    /// The repository's hash function.
    pub object_format: Kind,
    /// A name for this session, for the logs of both sides; none: session ids are not advertised.
    pub session_id: Option<&'a str>,
}

impl ReceivePackCapabilities<'_> {
    /// The list as it goes behind the first ref, in git's order.
    fn encode(&self) -> Vec<u8> {
        let mut list =
            b"report-status report-status-v2 delete-refs side-band-64k quiet atomic ofs-delta".to_vec();
        if self.push_options {
            list.extend_from_slice(b" push-options");
        }
        push_identity(&mut list, self.session_id, self.object_format, self.agent);
        list
    }
}

fn push_identity(list: &mut Vec<u8>, session_id: Option<&str>, object_format: Kind, agent: &str) {
    if let Some(session_id) = session_id {
        list.extend_from_slice(b" session-id=");
        list.extend_from_slice(session_id.as_bytes());
    }
    list.extend_from_slice(format!(" object-format={object_format} agent={agent}").as_bytes());
}

/// Appends what comes first in an answer to `info/refs`: `# service=git-…` and a flush-pkt.
///
/// It comes before [`encode_version_1`]. As in git http-backend, an answer to a request for protocol 2 has none,
/// for pushes neither, though what follows is protocol 0 there.
pub fn encode_service_header(out: &mut Vec<u8>, service: Service) {
    encode_text(out, format!("# service={}", service.name()).as_bytes());
    encode_flush(out);
}

/// Appends `version 1`, which is all that protocol 1 adds; the refs come after it.
pub fn encode_version_1(out: &mut Vec<u8>) {
    encode_text(out, b"version 1");
}

/// The list of refs, written ref by ref; the capabilities go with the first, whichever it is.
///
/// Each call appends to the caller's buffer and allocates nothing else.
#[derive(Debug)]
#[must_use = "a list that is not finished leaves the client waiting"]
pub struct RefAdvertisement {
    hash: Kind,
    /// Taken by the first ref.
    capabilities: Option<Vec<u8>>,
}

impl RefAdvertisement {
    /// Starts a list for fetches.
    pub fn upload_pack(capabilities: &UploadPackCapabilities<'_>) -> Self {
        RefAdvertisement {
            hash: capabilities.object_format,
            capabilities: Some(capabilities.encode()),
        }
    }

    /// Starts a list for pushes.
    pub fn receive_pack(capabilities: &ReceivePackCapabilities<'_>) -> Self {
        RefAdvertisement {
            hash: capabilities.object_format,
            capabilities: Some(capabilities.encode()),
        }
    }

    /// Appends `<oid> <name>`, and `<oid> <name>^{}` when `peeled` has what a tag points at in the end; git lists
    /// that for fetches only.
    ///
    /// The order is the caller's: git's is `HEAD` first for fetches, then names in byte order.
    ///
    /// # Errors
    ///
    /// [`pkt_line::Error::TooLong`] when the name does not fit in a packet; nothing is appended then, and the next
    /// call goes on as if there had been none.
    pub fn encode_ref(
        &mut self,
        out: &mut Vec<u8>,
        id: &oid,
        name: &BStr,
        peeled: Option<&oid>,
    ) -> Result<(), pkt_line::Error> {
        let start = out.len();
        let listed = self.encode_ref_and_peeled(out, id, name, peeled);
        match listed {
            Ok(()) => self.capabilities = None,
            Err(_) => out.truncate(start),
        }
        listed
    }

    fn encode_ref_and_peeled(
        &self,
        out: &mut Vec<u8>,
        id: &oid,
        name: &BStr,
        peeled: Option<&oid>,
    ) -> Result<(), pkt_line::Error> {
        encode_line(out, |out| {
            push_hex(out, id);
            out.push(b' ');
            out.extend_from_slice(name);
            if let Some(capabilities) = &self.capabilities {
                out.push(0);
                out.extend_from_slice(capabilities);
            }
            out.push(b'\n');
        })?;
        let Some(peeled) = peeled else {
            return Ok(());
        };
        encode_line(out, |out| {
            push_hex(out, peeled);
            out.push(b' ');
            out.extend_from_slice(name);
            out.extend_from_slice(b"^{}\n");
        })
    }

    /// Appends the end: where there was no ref, `capabilities^{}` with the null id, then a flush-pkt.
    ///
    /// # Errors
    ///
    /// [`pkt_line::Error::TooLong`] when the capabilities alone do not fit in a packet.
    pub fn finish(mut self, out: &mut Vec<u8>) -> Result<(), pkt_line::Error> {
        if self.capabilities.is_some() {
            let null = self.hash.null();
            self.encode_ref(out, &null, BStr::new("capabilities^{}"), None)?;
        }
        encode_flush(out);
        Ok(())
    }
}
