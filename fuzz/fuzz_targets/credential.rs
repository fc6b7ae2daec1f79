//! Values of the Authorization header: parsed or refused, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if let Ok(credential) = patgate::auth::credential::parse(input) {
        let secret = credential.secret().expose();
        assert!(!secret.is_empty() && secret.len() < input.len());
    }
});
