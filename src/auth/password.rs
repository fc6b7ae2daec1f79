//! Passwords of accounts: hashed with Argon2id (RFC 9106), compared in constant time.
//!
//! Git never sees them; they are for signing in where tokens are managed.

use std::sync::LazyLock;

use argon2::password_hash::phc;
use argon2::{Algorithm, Argon2, Params, PasswordHasher as _, PasswordVerifier as _, Version};

use super::token;
use crate::secret::Secret;
use crate::store::PasswordHash;

/// Shortest password, in characters (NIST SP 800-63B, 5.1.1.2).
pub const PASSWORD_CHARS_MIN: usize = 8;

/// Longest password, in bytes; hashing more would only cost time.
pub const PASSWORD_BYTES_MAX: usize = 1024;

/// Why a password was not hashed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The password hash function failed: no memory or no random bytes.
    #[error("hash the password: {0}")]
    Hash(String),
    /// More than [`PASSWORD_BYTES_MAX`] bytes.
    #[error("the password is longer than 1024 bytes")]
    TooLong,
    /// Fewer than [`PASSWORD_CHARS_MIN`] characters.
    #[error("the password is shorter than 8 characters")]
    TooShort,
}

/// The OWASP recommendation for Argon2id: 19 MiB of memory, two passes, one lane.
fn argon2() -> Argon2<'static> {
    Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::DEFAULT)
}

/// Verified against where an account has no password, so that this takes the same time as a wrong one.
static DUMMY: LazyLock<Option<PasswordHash>> =
    LazyLock::new(|| hash(&Secret::new("no account has this one".to_owned())).ok());

/// Hashes a password with a new salt. Takes some tens of milliseconds and 19 MiB.
///
/// # Errors
///
/// When the password is too short or too long, or the system has no memory or no random bytes.
pub fn hash(password: &Secret) -> Result<PasswordHash, Error> {
    if password.expose().chars().count() < PASSWORD_CHARS_MIN {
        return Err(Error::TooShort);
    }
    if password.expose().len() > PASSWORD_BYTES_MAX {
        return Err(Error::TooLong);
    }
    let hash: phc::PasswordHash = argon2()
        .hash_password(password.expose().as_bytes())
        .map_err(|error| Error::Hash(error.to_string()))?;
    Ok(PasswordHash::new(hash.to_string()))
}

/// Tells whether `password` is the one that `hash` was made of. With no hash, as for an account that does not exist,
/// the answer is no and takes as long.
pub fn verify(password: &Secret, hash: Option<&PasswordHash>) -> bool {
    if password.expose().len() > PASSWORD_BYTES_MAX {
        return false;
    }
    let Some(against) = hash.or(DUMMY.as_ref()) else {
        return false;
    };
    let matches = argon2()
        .verify_password(password.expose().as_bytes(), against.expose())
        .is_ok();
    matches && hash.is_some()
}

/// Makes a random password of 24 letters and digits, over 140 bits.
///
/// # Errors
///
/// When the system gives no random bytes.
pub fn generate() -> Result<Secret, token::Error> {
    const CHARS_COUNT: usize = 24;
    let mut text = String::with_capacity(CHARS_COUNT);
    token::push_random(&mut text, CHARS_COUNT)?;
    Ok(Secret::new(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text.to_owned())
    }

    #[test]
    fn only_the_right_password_is_accepted() {
        let hash = hash(&secret("correct horse")).unwrap();
        assert!(
            hash.expose().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{}",
            hash.expose()
        );
        assert!(verify(&secret("correct horse"), Some(&hash)));
        assert!(!verify(&secret("correct hors"), Some(&hash)));
        assert!(!verify(&secret(""), Some(&hash)));
    }

    #[test]
    fn an_account_without_password_accepts_none() {
        assert!(!verify(&secret("no account has this one"), None));
        assert!(DUMMY.is_some());
    }

    #[test]
    fn a_hash_that_is_no_hash_matches_nothing() {
        assert!(!verify(
            &secret("correct horse"),
            Some(&PasswordHash::new("nonsense".to_owned()))
        ));
    }

    #[test]
    fn passwords_out_of_bounds_are_refused() {
        assert_eq!(hash(&secret("seven77")).unwrap_err(), Error::TooShort);
        assert_eq!(hash(&secret(&"x".repeat(1025))).unwrap_err(), Error::TooLong);
    }

    #[test]
    fn generated_passwords_differ_and_are_long() {
        let (one, two) = (generate().unwrap(), generate().unwrap());
        assert_eq!(one.expose().len(), 24);
        assert_ne!(one.expose(), two.expose());
    }
}
