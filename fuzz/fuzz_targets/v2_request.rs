//! Requests of protocol 2: decoded within their bounds, or refused in one line.
#![no_main]

use gix_hash::Kind;
use libfuzzer_sys::fuzz_target;
use patgate::limits::FetchLimits;
use patgate::protocol::v2::{self, Command, PREFIXES_COUNT_MAX};

fuzz_target!(|input: &[u8]| {
    let limits = FetchLimits {
        wants_count_max: 8,
        haves_count_max: 8,
        ..FetchLimits::default()
    };
    for hash in [Kind::Sha1, Kind::Sha256] {
        match v2::decode_request(input, hash, &limits) {
            Ok(None) => {}
            Ok(Some(request)) => match request.command {
                Command::LsRefs(ls_refs) => assert!(ls_refs.prefixes.len() < PREFIXES_COUNT_MAX),
                Command::Fetch(fetch) => {
                    assert!(fetch.wants.len() <= 8 && fetch.haves.len() <= 8);
                    assert!(fetch.wants.iter().chain(&fetch.haves).all(|id| id.kind() == hash));
                }
            },
            Err(error) => assert!(!error.to_string().contains('\n')),
        }
    }
});
