//! The multiplexing of a pack with progress and errors: pkt-lines whose first byte names the band.
//!
//! Knows nothing of what goes over a band. The format is in gitprotocol-pack(5), under "Packfile Data".

use crate::protocol::pkt_line::{DATA_BYTES_MAX, length_digits};

/// Which of the three streams a packet belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Band {
    /// The pack, or the report of a push.
    Pack = 1,
    /// Text that the client prints with `remote: ` before it.
    Progress = 2,
    /// Text after which the client gives up.
    Error = 3,
}

/// How pack bytes are framed for this client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Not at all: they follow as they are, and nothing else can be said.
    #[default]
    None,
    /// `side-band`: packets of at most 1,000 bytes.
    Small,
    /// `side-band-64k`: packets of at most 65,520 bytes. The only one in protocol 2.
    Large,
}

const PAYLOAD_BYTES_MAX_LARGE: usize = DATA_BYTES_MAX - 1;
const PAYLOAD_BYTES_MAX_SMALL: usize = 1000 - HEADER_BYTES;
const HEADER_BYTES: usize = 5;

impl Mode {
    /// Most payload bytes of one packet, 995 or 65,515; none without a sideband.
    pub fn payload_bytes_max(self) -> Option<usize> {
        match self {
            Mode::None => None,
            Mode::Small => Some(PAYLOAD_BYTES_MAX_SMALL),
            Mode::Large => Some(PAYLOAD_BYTES_MAX_LARGE),
        }
    }
}

/// The 5 bytes that come before `len` payload bytes on `band`.
///
/// For writers that have the payload elsewhere. `len` is at most what [`Mode::payload_bytes_max`] says; a longer
/// payload has no header, and what this returns for it announces 65,515 bytes.
pub fn header(band: Band, len: usize) -> [u8; HEADER_BYTES] {
    debug_assert!(
        len <= PAYLOAD_BYTES_MAX_LARGE,
        "a payload of {len} bytes does not fit in a packet"
    );
    let [a, b, c, d] = length_digits(len.min(PAYLOAD_BYTES_MAX_LARGE) + HEADER_BYTES);
    [a, b, c, d, band as u8]
}

/// Appends `payload`, split over as many packets as it needs; nothing if it is empty.
///
/// With [`Mode::None`] the pack is appended as it is, and progress and errors, which have no place then, are not.
pub fn encode(out: &mut Vec<u8>, mode: Mode, band: Band, payload: &[u8]) {
    match mode.payload_bytes_max() {
        Some(payload_bytes_max) => {
            for chunk in payload.chunks(payload_bytes_max) {
                out.extend_from_slice(&header(band, chunk.len()));
                out.extend_from_slice(chunk);
            }
        }
        None if band == Band::Pack => out.extend_from_slice(payload),
        None => {}
    }
}

/// Appends an empty packet on the pack's band, `0005\x01`, which keeps a connection from looking dead.
pub fn encode_keepalive(out: &mut Vec<u8>) {
    out.extend_from_slice(&header(Band::Pack, 0));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_split_at_the_size_of_the_mode() {
        for (mode, payload_bytes_max) in [(Mode::Small, 995), (Mode::Large, 65515)] {
            assert_eq!(mode.payload_bytes_max(), Some(payload_bytes_max));
            for (len, packets) in [(0, 0), (1, 1), (payload_bytes_max, 1), (payload_bytes_max + 1, 2)] {
                let mut out = Vec::new();
                encode(&mut out, mode, Band::Progress, &vec![b'x'; len]);
                assert_eq!(out.len(), len + 5 * packets, "{len} bytes in {mode:?}");
            }
        }
        let mut out = Vec::new();
        encode(&mut out, Mode::Large, Band::Pack, &vec![b'x'; 65516]);
        assert!(
            out.starts_with(b"fff0\x01x"),
            "the largest packet has 65,520 bytes"
        );
        assert!(out.ends_with(b"0006\x01x"));
        let mut out = Vec::new();
        encode(&mut out, Mode::Small, Band::Error, &[b'x'; 996]);
        assert!(
            out.starts_with(b"03e8\x03x"),
            "the largest small packet has 1,000 bytes"
        );
    }

    #[test]
    fn without_a_sideband_only_the_pack_is_sent() {
        let mut out = Vec::new();
        encode(&mut out, Mode::None, Band::Progress, b"Counting objects");
        encode(&mut out, Mode::None, Band::Error, b"no");
        encode(&mut out, Mode::None, Band::Pack, b"PACK");
        assert_eq!(out, b"PACK");
    }

    #[test]
    fn a_keepalive_is_an_empty_packet_of_the_pack() {
        let mut out = Vec::new();
        encode_keepalive(&mut out);
        assert_eq!(out, b"0005\x01");
    }
}
