//! The answers to haves in protocol 0 and 1, before the pack.

use gix_hash::oid;

use crate::protocol::line::push_hex;
use crate::protocol::pkt_line::{encode_text, length_digits};

/// What an acknowledgment says besides that an object is common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AckStatus {
    /// Nothing: the last acknowledgment, or the only one without `multi_ack`.
    Final,
    /// `common`, with `multi_ack_detailed`.
    Common,
    /// `ready`, with `multi_ack_detailed`: no more haves are needed.
    Ready,
    /// `continue`, with `multi_ack`.
    Continue,
}

/// Appends `ACK <oid>` with its status.
pub fn encode_ack(out: &mut Vec<u8>, id: &oid, status: AckStatus) {
    let status: &[u8] = match status {
        AckStatus::Final => b"\n",
        AckStatus::Common => b" common\n",
        AckStatus::Ready => b" ready\n",
        AckStatus::Continue => b" continue\n",
    };
    out.extend_from_slice(&length_digits(
        b"0000ACK ".len() + id.kind().len_in_hex() + status.len(),
    ));
    out.extend_from_slice(b"ACK ");
    push_hex(out, id);
    out.extend_from_slice(status);
}

/// Appends `NAK`: nothing is common so far.
pub fn encode_nak(out: &mut Vec<u8>) {
    encode_text(out, b"NAK");
}
