//! Requests of protocol 0: decoded within their bounds, or refused in one line.
#![no_main]

use gix_hash::Kind;
use libfuzzer_sys::fuzz_target;
use patgate::limits::FetchLimits;
use patgate::protocol::v0;

fuzz_target!(|input: &[u8]| {
    let limits = FetchLimits {
        wants_count_max: 8,
        haves_count_max: 8,
        ..FetchLimits::default()
    };
    for hash in [Kind::Sha1, Kind::Sha256] {
        match v0::decode_upload_request(input, hash, &limits) {
            Ok(None) => {}
            Ok(Some(request)) => {
                assert!((1..=8).contains(&request.wants.len()) && request.haves.len() <= 8);
                assert!(
                    request
                        .wants
                        .iter()
                        .chain(&request.haves)
                        .all(|id| id.kind() == hash)
                );
            }
            Err(error) => assert!(!error.to_string().contains('\n')),
        }
    }
});
