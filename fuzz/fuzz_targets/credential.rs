//! Values of the Authorization header: parsed or refused, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let _ = patgate::auth::credential::parse(input);
});
