//! The report that answers a push.

use bstr::BStr;

use crate::protocol::pkt_line::{DATA_BYTES_MAX, encode_flush, encode_text};

/// What became of one command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandStatus {
    /// The ref moved.
    Ok,
    /// It did not, for this reason: a few words, as git's, which the client prints in parentheses.
    Ng(String),
}

/// Appends `unpack ok` or `unpack <error>`, then `ok <name>` or `ng <name> <reason>` for each command, then a
/// flush-pkt.
///
/// These are pkt-lines without a sideband: with `side-band-64k` the whole report goes through
/// [`sideband::encode`](crate::protocol::sideband::encode) and another flush-pkt follows. It is the same in both
/// versions of report-status, which differ only for a server that moves other refs than it was told.
///
/// Control characters in errors and reasons become spaces, and what makes a line longer than a packet is cut off.
pub fn encode_report(out: &mut Vec<u8>, unpack: Result<(), &str>, statuses: &[(&BStr, CommandStatus)]) {
    let mut line = b"unpack ".to_vec();
    push_clean(&mut line, unpack.err().unwrap_or("ok"));
    encode_text(out, &line);
    for (name, status) in statuses {
        line.clear();
        match status {
            CommandStatus::Ok => {
                line.extend_from_slice(b"ok ");
                line.extend_from_slice(name);
            }
            CommandStatus::Ng(reason) => {
                line.extend_from_slice(b"ng ");
                line.extend_from_slice(name);
                line.push(b' ');
                push_clean(&mut line, reason);
            }
        }
        encode_text(out, &line);
    }
    encode_flush(out);
}

/// Appends `text` as one line that fits in a packet.
fn push_clean(line: &mut Vec<u8>, text: &str) {
    let clean = text
        .bytes()
        .map(|byte| if byte.is_ascii_control() { b' ' } else { byte });
    line.extend(clean.take(DATA_BYTES_MAX));
}
