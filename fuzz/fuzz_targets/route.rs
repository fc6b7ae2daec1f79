//! Paths and queries of requests: routed or refused, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &str| {
    let _ = patgate::http::router::parse(input);
});
