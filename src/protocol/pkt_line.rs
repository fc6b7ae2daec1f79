//! The framing of everything that git says: a length in four hex digits, then that many bytes less four.
//!
//! Knows nothing about what lines mean. No packet that it writes is longer than 65,520 bytes, and none that it reads
//! is taken for complete before all of it is there. The format is in gitprotocol-common(5).

use crate::protocol::line::quoted;

/// Most payload bytes of one packet: 65,520 less the four of the length.
pub const DATA_BYTES_MAX: usize = 65516;

const LENGTH_BYTES: usize = 4;

/// One packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PktLine<'a> {
    /// A payload of 0 to [`DATA_BYTES_MAX`] bytes, with the newline that most lines end in.
    Data(&'a [u8]),
    /// `0000`: the end of a list or a message.
    Flush,
    /// `0001`: the end of a section in protocol 2.
    Delim,
    /// `0002`: the end of a response in protocol 2 over transports without one of their own.
    ResponseEnd,
}

impl<'a> PktLine<'a> {
    /// The payload without the newline at its end; none for the packets that have no payload.
    pub fn text(self) -> Option<&'a [u8]> {
        match self {
            PktLine::Data(payload) => Some(text(payload)),
            PktLine::Flush | PktLine::Delim | PktLine::ResponseEnd => None,
        }
    }
}

/// Takes one newline off the end of `payload`, where there is one.
pub fn text(payload: &[u8]) -> &[u8] {
    payload.strip_suffix(b"\n").unwrap_or(payload)
}

/// What [`decode`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// A whole packet.
    Complete {
        /// The packet.
        line: PktLine<'a>,
        /// Bytes of the input that it took; the next packet starts after them.
        consumed: usize,
    },
    /// The input ends inside a packet.
    Incomplete {
        /// Bytes that are missing, at least 1: of the length, or of the packet once the length is known.
        needed: usize,
    },
}

/// Why bytes are not pkt-lines. The peer that sent them is at fault, except for [`Error::TooLong`].
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone)]
pub enum Error {
    /// The length is not four hex digits.
    #[error("protocol error: bad line length character: {}", quoted(.0))]
    LengthCharacter([u8; 4]),
    /// The length is 3, or beyond what a packet may have; holds the number that git prints.
    #[error("protocol error: bad line length {0}")]
    Length(usize),
    /// The input ends where a message does not.
    #[error("the remote end hung up unexpectedly")]
    HungUp,
    /// A line to be written has more than [`DATA_BYTES_MAX`] bytes.
    #[error("protocol error: impossibly long line")]
    TooLong,
}

/// Reads the packet at the start of `input`.
///
/// A data packet without payload, `0004`, must not be sent by the specification; it is read as git reads it.
///
/// # Errors
///
/// [`Error::LengthCharacter`] and [`Error::Length`], as soon as the four bytes of the length are there.
pub fn decode(input: &[u8]) -> Result<Decoded<'_>, Error> {
    let Some((&digits, rest)) = input.split_first_chunk::<LENGTH_BYTES>() else {
        return Ok(Decoded::Incomplete {
            needed: LENGTH_BYTES.saturating_sub(input.len()),
        });
    };
    let mut length = 0;
    for digit in digits {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            b'A'..=b'F' => digit - b'A' + 10,
            _ => return Err(Error::LengthCharacter(digits)),
        };
        length = length << 4 | usize::from(value);
    }
    let line = match length {
        0 => PktLine::Flush,
        1 => PktLine::Delim,
        2 => PktLine::ResponseEnd,
        3 => return Err(Error::Length(length)),
        _ => {
            let payload_bytes = length - LENGTH_BYTES;
            if payload_bytes > DATA_BYTES_MAX {
                return Err(Error::Length(payload_bytes));
            }
            let Some(payload) = rest.get(..payload_bytes) else {
                return Ok(Decoded::Incomplete {
                    needed: payload_bytes.saturating_sub(rest.len()),
                });
            };
            return Ok(Decoded::Complete {
                line: PktLine::Data(payload),
                consumed: length,
            });
        }
    };
    Ok(Decoded::Complete {
        line,
        consumed: LENGTH_BYTES,
    })
}

/// Walks over the packets of a message that is in memory as a whole.
#[derive(Debug, Clone)]
pub struct Packets<'a> {
    rest: &'a [u8],
}

impl<'a> Packets<'a> {
    /// Starts at the first packet of `input`.
    pub fn new(input: &'a [u8]) -> Self {
        Packets { rest: input }
    }

    /// Whether every byte was read.
    pub fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// Reads the next packet.
    ///
    /// # Errors
    ///
    /// Those of [`decode`], and [`Error::HungUp`] when the input ends before or inside the packet.
    pub fn read(&mut self) -> Result<PktLine<'a>, Error> {
        match decode(self.rest)? {
            Decoded::Complete { line, consumed } => {
                self.rest = self.rest.get(consumed..).unwrap_or_default();
                Ok(line)
            }
            Decoded::Incomplete { .. } => Err(Error::HungUp),
        }
    }
}

/// Appends `payload`, split over as many packets as it needs: for streams, where a packet's end means nothing.
///
/// An empty payload appends nothing. For a message of one line use [`encode_line`] or [`encode_text`].
pub fn encode_data(out: &mut Vec<u8>, payload: &[u8]) {
    for chunk in payload.chunks(DATA_BYTES_MAX) {
        out.extend_from_slice(&length_digits(chunk.len() + LENGTH_BYTES));
        out.extend_from_slice(chunk);
    }
}

/// Appends one packet whose payload is what `write` appends, without building it elsewhere first.
///
/// # Errors
///
/// [`Error::TooLong`] when that is more than [`DATA_BYTES_MAX`] bytes; `out` is then as it was before.
pub fn encode_line(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), Error> {
    let start = out.len();
    out.extend_from_slice(b"0000");
    write(out);
    let packet_bytes = out.len().saturating_sub(start);
    match out
        .get_mut(start..)
        .and_then(|packet| packet.first_chunk_mut::<LENGTH_BYTES>())
    {
        Some(length) if packet_bytes <= DATA_BYTES_MAX + LENGTH_BYTES => {
            *length = length_digits(packet_bytes);
            Ok(())
        }
        _ => {
            out.truncate(start);
            Err(Error::TooLong)
        }
    }
}

/// Appends one packet of `text` and a newline: for lines whose length the caller bounds, such as messages.
///
/// A `text` that does not fit is cut at [`DATA_BYTES_MAX`] less one bytes. Where a shorter text would say
/// something else, as with the name of a ref, use [`encode_line`].
pub fn encode_text(out: &mut Vec<u8>, text: &[u8]) {
    let text = text.get(..DATA_BYTES_MAX - 1).unwrap_or(text);
    out.extend_from_slice(&length_digits(text.len() + 1 + LENGTH_BYTES));
    out.extend_from_slice(text);
    out.push(b'\n');
}

/// Appends `ERR message`, after which a client prints `fatal: remote error: message` and gives up.
///
/// Control characters in `message` become spaces: it is one line. What does not fit in a packet is cut off.
pub fn encode_error(out: &mut Vec<u8>, message: &str) {
    let mut line = String::with_capacity(message.len().saturating_add(4));
    line.push_str("ERR ");
    line.extend(message.chars().map(|c| if c.is_control() { ' ' } else { c }));
    encode_text(out, line.as_bytes());
}

/// Appends `0000`.
pub fn encode_flush(out: &mut Vec<u8>) {
    out.extend_from_slice(b"0000");
}

/// Appends `0001`.
pub fn encode_delim(out: &mut Vec<u8>) {
    out.extend_from_slice(b"0001");
}

/// Appends `0002`.
pub fn encode_response_end(out: &mut Vec<u8>) {
    out.extend_from_slice(b"0002");
}

/// The four hex digits of `length`, of which only the low 16 bits count.
pub(in crate::protocol) fn length_digits(length: usize) -> [u8; LENGTH_BYTES] {
    [12, 8, 4, 0].map(|shift| {
        let nibble = (length >> shift & 0xf) as u8;
        if nibble < 10 {
            b'0' + nibble
        } else {
            b'a' + (nibble - 10)
        }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn data(payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encode_line(&mut out, |out| out.extend_from_slice(payload)).expect("it fits");
        out
    }

    #[test]
    fn special_and_data_packets_are_told_apart() {
        let table: [(&[u8], PktLine<'_>, usize); 9] = [
            (b"0000", PktLine::Flush, 4),
            (b"0001rest", PktLine::Delim, 4),
            (b"0002", PktLine::ResponseEnd, 4),
            (b"0004", PktLine::Data(b""), 4),
            (b"0005a", PktLine::Data(b"a"), 5),
            (b"0006a\n", PktLine::Data(b"a\n"), 6),
            (b"000bfoobar\n", PktLine::Data(b"foobar\n"), 11),
            (b"000Bfoobar\n0000", PktLine::Data(b"foobar\n"), 11),
            (b"0008\x00\x01\xff\n", PktLine::Data(b"\x00\x01\xff\n"), 8),
        ];
        for (input, line, consumed) in table {
            assert_eq!(
                decode(input),
                Ok(Decoded::Complete { line, consumed }),
                "{}",
                input.escape_ascii()
            );
        }
    }

    #[test]
    fn bad_lengths_are_refused_in_gits_words() {
        let table: [(&[u8], &str); 7] = [
            (b"0003", "protocol error: bad line length 3"),
            (b"fff1", "protocol error: bad line length 65517"),
            (b"ffff", "protocol error: bad line length 65531"),
            (b"PACK\0\0", "protocol error: bad line length character: PACK"),
            (b"00g0", "protocol error: bad line length character: 00g0"),
            (b" 004", "protocol error: bad line length character:  004"),
            (b"\x1b[2J", "protocol error: bad line length character: ?[2J"),
        ];
        for (input, message) in table {
            assert_eq!(decode(input).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn a_packet_cut_at_any_byte_asks_for_what_is_missing() {
        let packet = b"000bfoobar\n";
        for cut in 0..packet.len() {
            let needed = if cut < 4 { 4 - cut } else { packet.len() - cut };
            assert_eq!(
                decode(&packet[..cut]),
                Ok(Decoded::Incomplete { needed }),
                "cut at {cut}"
            );
        }
    }

    #[test]
    fn the_largest_packet_has_65520_bytes() {
        let largest = data(&vec![b'x'; DATA_BYTES_MAX]);
        assert_eq!(largest.len(), 65520);
        assert!(largest.starts_with(b"fff0"));
        assert!(matches!(
            decode(&largest),
            Ok(Decoded::Complete { consumed: 65520, .. })
        ));

        let mut out = b"kept".to_vec();
        let too_long = encode_line(&mut out, |out| out.resize(out.len() + DATA_BYTES_MAX + 1, b'x'));
        assert_eq!(too_long, Err(Error::TooLong));
        assert_eq!(out, b"kept", "nothing of a line that does not fit is written");
    }

    #[test]
    fn data_beyond_one_packet_is_split_and_none_is_nothing() {
        for (len, packets) in [
            (0, 0),
            (1, 1),
            (DATA_BYTES_MAX, 1),
            (DATA_BYTES_MAX + 1, 2),
            (200_000, 4),
        ] {
            let mut out = Vec::new();
            encode_data(&mut out, &vec![b'x'; len]);
            assert_eq!(out.len(), len + 4 * packets, "{len} bytes");
            let mut read = Packets::new(&out);
            let mut total = 0;
            while !read.is_at_end() {
                let PktLine::Data(payload) = read.read().unwrap() else {
                    panic!("only data was written")
                };
                total += payload.len();
            }
            assert_eq!(total, len);
        }
    }

    #[test]
    fn text_that_does_not_fit_is_cut_and_stays_a_line() {
        let mut out = Vec::new();
        encode_text(&mut out, &vec![b'x'; 70_000]);
        assert_eq!(out.len(), 65520);
        assert!(out.ends_with(b"x\n"));
        let mut out = Vec::new();
        encode_text(&mut out, b"NAK");
        assert_eq!(out, b"0008NAK\n");
    }

    #[test]
    fn an_error_is_one_line_whatever_its_text() {
        let mut out = Vec::new();
        encode_error(&mut out, "no such\nrepository\u{1b}[0m");
        assert_eq!(out, b"001fERR no such repository [0m\n");
        let mut out = Vec::new();
        encode_error(&mut out, &"é".repeat(70_000));
        assert_eq!(out.len(), 65520);
    }

    #[test]
    fn one_newline_is_taken_off() {
        assert_eq!(text(b"a\n"), b"a");
        assert_eq!(text(b"a\n\n"), b"a\n");
        assert_eq!(text(b"a"), b"a");
        assert_eq!(text(b""), b"");
        assert_eq!(PktLine::Data(b"a\n").text(), Some(&b"a"[..]));
        assert_eq!(PktLine::Flush.text(), None);
    }

    #[test]
    fn input_that_ends_early_is_a_hang_up() {
        for input in [&b""[..], b"00", b"0008a"] {
            assert_eq!(Packets::new(input).read(), Err(Error::HungUp));
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(payload in proptest::collection::vec(any::<u8>(), 0..2000), rest: Vec<u8>) {
            let mut out = data(&payload);
            let consumed = out.len();
            out.extend_from_slice(&rest);
            prop_assert_eq!(decode(&out), Ok(Decoded::Complete { line: PktLine::Data(&payload), consumed }));
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(input: Vec<u8>) {
            if let Ok(Decoded::Complete { consumed, .. }) = decode(&input) {
                prop_assert!((4..=input.len()).contains(&consumed));
            }
        }

        #[test]
        fn every_length_has_its_digits(length in 0_usize..65536) {
            prop_assert_eq!(length_digits(length).to_vec(), format!("{length:04x}").into_bytes());
        }
    }
}
