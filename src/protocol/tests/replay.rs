//! Inputs of the fuzz targets, from `fuzz/seeds` and `fuzz/artifacts`: what each target claims holds for them.

use gix_hash::Kind;

use crate::fuzz_inputs::replay;
use crate::limits::{FetchLimits, PushLimits};
use crate::protocol::pkt_line::{self, Decoded};
use crate::protocol::receive::{CommandDecoder, Progress, PushRequest};
use crate::protocol::{receive, v0, v2};

const BOTH: [Kind; 2] = [Kind::Sha1, Kind::Sha256];

#[test]
fn inputs_of_pkt_line_are_decoded_or_refused() {
    replay("pkt_line", |input| {
        let mut rest = input;
        while let Ok(Decoded::Complete { consumed, .. }) = pkt_line::decode(rest) {
            rest = &rest[consumed..];
        }
        if let Ok(Decoded::Incomplete { needed }) = pkt_line::decode(rest) {
            assert!(needed > 0 && rest.len() + needed <= 65520);
        }
    });
}

#[test]
fn inputs_of_v2_request_are_decoded_or_refused() {
    replay("v2_request", |input| {
        for hash in BOTH {
            if let Err(error) = v2::decode_request(input, hash, &FetchLimits::default()) {
                assert!(!error.to_string().contains('\n'));
            }
        }
    });
}

#[test]
fn inputs_of_v0_request_are_decoded_or_refused() {
    replay("v0_request", |input| {
        for hash in BOTH {
            match v0::decode_upload_request(input, hash, &FetchLimits::default()) {
                Ok(request) => assert!(request.is_none_or(|request| !request.wants.is_empty())),
                Err(error) => assert!(!error.to_string().contains('\n')),
            }
        }
    });
}

type Outcome = Result<Option<(Option<PushRequest>, usize)>, receive::Error>;

fn decode_in_pieces(input: &[u8], hash: Kind, takes_options: bool, piece: usize) -> Outcome {
    let mut decoder = CommandDecoder::new(hash, &PushLimits::default(), takes_options);
    let mut before = 0;
    for piece in input.chunks(piece) {
        match decoder.push(piece)? {
            Progress::NeedMore => before += piece.len(),
            Progress::Done { request, consumed } => return Ok(Some((request, before + consumed))),
        }
    }
    Ok(None)
}

#[test]
fn inputs_of_receive_commands_give_the_same_in_pieces() {
    replay("receive_commands", |input| {
        // The target's choice of pieces.
        let Some((_, input)) = input.split_first() else {
            return;
        };
        for (hash, takes_options) in BOTH.into_iter().flat_map(|hash| [(hash, true), (hash, false)]) {
            let whole = decode_in_pieces(input, hash, takes_options, usize::MAX);
            for piece in [1, 3, 64] {
                assert_eq!(decode_in_pieces(input, hash, takes_options, piece), whole);
            }
        }
    });
}
