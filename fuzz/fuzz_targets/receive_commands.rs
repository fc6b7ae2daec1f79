//! Command lists of pushes: the same wherever the stream is cut. The first byte says into what pieces.
#![no_main]

use gix_hash::Kind;
use libfuzzer_sys::fuzz_target;
use patgate::limits::PushLimits;
use patgate::protocol::receive::{CommandDecoder, Error, Progress, PushRequest};

fn decode(
    pieces: impl Iterator<Item: AsRef<[u8]>>,
    hash: Kind,
) -> Result<Option<(Option<PushRequest>, usize)>, Error> {
    let limits = PushLimits {
        commands_count_max: 8,
        commands_bytes_max: 4096,
        ..PushLimits::default()
    };
    let mut decoder = CommandDecoder::new(hash, &limits);
    let mut before = 0;
    for piece in pieces {
        let piece = piece.as_ref();
        match decoder.push(piece)? {
            Progress::NeedMore => before += piece.len(),
            Progress::Done { request, consumed } => {
                assert!(consumed <= piece.len());
                return Ok(Some((request, before + consumed)));
            }
        }
    }
    Ok(None)
}

fuzz_target!(|input: &[u8]| {
    let Some((&piece, input)) = input.split_first() else {
        return;
    };
    for hash in [Kind::Sha1, Kind::Sha256] {
        let whole = decode(std::iter::once(input), hash);
        assert_eq!(decode(input.chunks(usize::from(piece).max(1)), hash), whole);
        match whole {
            Ok(Some((Some(request), end))) => {
                assert!((1..=8).contains(&request.commands.len()) && end <= input.len());
                assert!(request.commands.iter().all(|command| !command.name.is_empty()));
            }
            Ok(_) => {}
            Err(error) => assert!(!error.to_string().contains('\n')),
        }
    }
});
