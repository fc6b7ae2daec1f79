//! Paths and queries of requests: routed or refused, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use patgate::http::router::{Route, parse};
use patgate::names;

fuzz_target!(|input: &str| {
    if let Ok(Route::Repository { candidates, .. }) = parse(input) {
        assert!((1..=5).contains(&candidates.len()));
        for path in candidates {
            assert!(path.to_string().split('/').all(|name| names::check(name).is_ok()));
        }
    }
});
