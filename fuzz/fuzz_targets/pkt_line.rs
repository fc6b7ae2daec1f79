//! Packets: every length fits its input, and what was read is written the same again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use patgate::protocol::pkt_line::{self, Decoded, PktLine};

fuzz_target!(|input: &[u8]| {
    let mut rest = input;
    loop {
        match pkt_line::decode(rest) {
            Ok(Decoded::Complete { line, consumed }) => {
                let (packet, after) = rest.split_at(consumed);
                let mut again = Vec::new();
                match line {
                    PktLine::Data(payload) if payload.is_empty() => again.extend_from_slice(b"0004"),
                    PktLine::Data(payload) => pkt_line::encode_data(&mut again, payload),
                    PktLine::Flush => pkt_line::encode_flush(&mut again),
                    PktLine::Delim => pkt_line::encode_delim(&mut again),
                    PktLine::ResponseEnd => pkt_line::encode_response_end(&mut again),
                }
                assert!(again.eq_ignore_ascii_case(packet));
                rest = after;
            }
            Ok(Decoded::Incomplete { needed }) => {
                assert!(needed > 0 && rest.len() + needed <= 65520);
                return;
            }
            Err(error) => {
                assert!(!error.to_string().contains('\n'));
                return;
            }
        }
    }
});
