//! Command lists of pushes, with push options: the same wherever the stream is cut. The first byte says into what pieces.
#![no_main]

use gix_hash::Kind;
use libfuzzer_sys::fuzz_target;
use patgate::limits::PushLimits;
use patgate::protocol::receive::{CommandDecoder, Error, Progress, PushRequest};

fn decode(
    pieces: impl Iterator<Item: AsRef<[u8]>>,
    hash: Kind,
    takes_options: bool,
) -> Result<Option<(Option<PushRequest>, usize)>, Error> {
    let limits = PushLimits {
        commands_count_max: 8,
        commands_bytes_max: 4096,
        push_options_count_max: 4,
        push_options_bytes_max: 256,
        ..PushLimits::default()
    };
    let mut decoder = CommandDecoder::new(hash, &limits, takes_options);
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
    let both = [Kind::Sha1, Kind::Sha256];
    for (hash, takes_options) in both.into_iter().flat_map(|hash| [(hash, true), (hash, false)]) {
        let whole = decode(std::iter::once(input), hash, takes_options);
        let pieces = input.chunks(usize::from(piece).max(1));
        assert_eq!(decode(pieces, hash, takes_options), whole);
        match whole {
            Ok(Some((Some(request), end))) => {
                assert!((1..=8).contains(&request.commands.len()) && end <= input.len());
                assert!(request.commands.iter().all(|command| !command.name.is_empty()));
                let options = &request.push_options;
                assert!(options.is_empty() || takes_options && request.capabilities.push_options);
                assert!(options.len() <= 4 && options.iter().map(|option| option.len()).sum::<usize>() <= 256);
                assert!(!options.iter().any(|option| option.iter().any(u8::is_ascii_control)));
            }
            Ok(_) => {}
            Err(error) => assert!(!error.to_string().contains('\n')),
        }
    }
});
