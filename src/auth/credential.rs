//! The value of an `Authorization` header, down to the text that may be a token, or to a name and a password.
//!
//! Basic (RFC 7617): the password, whatever the username is; or the username where the password is empty, as in
//! `https://TOKEN@host/`, or `x-oauth-basic`, which some clients put there. Bearer (RFC 6750): what follows. Pure and
//! bounded; what was decoded is wiped when dropped.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

use crate::secret::Secret;

/// Longest header value that is looked at, in bytes: room for a token and any sensible username.
pub const HEADER_BYTES_MAX: usize = 4096;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Why a header value holds no credential; the client is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The part after `Basic` is not base64.
    #[error("the Basic credential is not base64")]
    Base64,
    /// The decoded text has no colon between username and password.
    #[error("the Basic credential has no colon")]
    Colon,
    /// Neither the password nor the username holds anything.
    #[error("the credential is empty")]
    Empty,
    /// More than [`HEADER_BYTES_MAX`] bytes.
    #[error("the credential is longer than 4096 bytes")]
    TooLong,
    /// Neither Basic nor Bearer.
    #[error("the credential is neither Basic nor Bearer")]
    Scheme,
    /// The part that may be a token is not text.
    #[error("the credential is not UTF-8")]
    Utf8,
}

/// What a client gave to prove who it is.
#[derive(Debug)]
pub struct Credential {
    secret: Secret,
    /// A client may put a token here, so it is as secret.
    username: Option<Secret>,
}

impl Credential {
    /// The text that may be a token.
    pub fn secret(&self) -> &Secret {
        &self.secret
    }

    /// The username and the password of Basic, where both hold something. The password is [`Credential::secret`] then.
    pub fn name_and_password(&self) -> Option<(&str, &Secret)> {
        self.username
            .as_ref()
            .map(|username| (username.expose(), &self.secret))
    }
}

/// Takes the credential out of an `Authorization` header value. Schemes may be of any case.
///
/// # Errors
///
/// Says what is wrong with the value, and never repeats any of it.
pub fn parse(authorization: &[u8]) -> Result<Credential, Error> {
    if authorization.len() > HEADER_BYTES_MAX {
        return Err(Error::TooLong);
    }
    let value = authorization.trim_ascii();
    let end = value
        .iter()
        .position(u8::is_ascii_whitespace)
        .unwrap_or(value.len());
    let (scheme, rest) = value.split_at_checked(end).ok_or(Error::Scheme)?;
    let rest = rest.trim_ascii();
    if scheme.eq_ignore_ascii_case(b"Basic") {
        let decoded = Zeroizing::new(BASE64.decode(rest).map_err(|_| Error::Base64)?);
        let (secret, username) = basic(&decoded)?;
        credential(secret, username)
    } else if scheme.eq_ignore_ascii_case(b"Bearer") {
        credential(rest, None)
    } else {
        Err(Error::Scheme)
    }
}

/// Picks the part of `username:password` that is the token, and the username if that is another part, which may be
/// anything, even no UTF-8.
fn basic(decoded: &[u8]) -> Result<(&[u8], Option<&[u8]>), Error> {
    let colon = decoded
        .iter()
        .position(|&byte| byte == b':')
        .ok_or(Error::Colon)?;
    let (username, rest) = decoded.split_at_checked(colon).ok_or(Error::Colon)?;
    match rest.strip_prefix(b":") {
        None | Some(b"" | b"x-oauth-basic") => Ok((username, None)),
        Some(password) => Ok((password, Some(username))),
    }
}

fn credential(text: &[u8], username: Option<&[u8]>) -> Result<Credential, Error> {
    let text = str::from_utf8(text).map_err(|_| Error::Utf8)?;
    if text.is_empty() {
        return Err(Error::Empty);
    }
    let username = username
        .and_then(|username| str::from_utf8(username).ok())
        .filter(|username| !username.is_empty());
    Ok(Credential {
        secret: Secret::new(text.to_owned()),
        username: username.map(|username| Secret::new(username.to_owned())),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(pair: &[u8]) -> Vec<u8> {
        format!("Basic {}", base64::prelude::BASE64_STANDARD.encode(pair)).into_bytes()
    }

    fn token_of(value: &[u8]) -> Result<String, Error> {
        parse(value).map(|credential| credential.secret().expose().to_owned())
    }

    #[test]
    fn the_password_is_the_token_with_any_username() {
        for pair in [
            &b":tok"[..],
            b"bob:tok",
            b"OAuth:tok",
            b"x@y.org:tok",
            b"j\xfcrgen:tok",
            b"tok2:tok",
        ] {
            assert_eq!(token_of(&header(pair)).as_deref(), Ok("tok"), "{pair:?}");
        }
    }

    #[test]
    fn the_username_is_the_token_where_the_password_is_empty_or_says_so() {
        assert_eq!(token_of(&header(b"tok:")).as_deref(), Ok("tok"));
        assert_eq!(token_of(&header(b"tok:x-oauth-basic")).as_deref(), Ok("tok"));
    }

    #[test]
    fn a_password_may_hold_colons() {
        assert_eq!(token_of(&header(b"u:a:b")).as_deref(), Ok("a:b"));
    }

    #[test]
    fn schemes_are_of_any_case_and_padding_may_be_missing() {
        assert_eq!(token_of(b"bAsIc OnRvaw==").as_deref(), Ok("tok"));
        assert_eq!(token_of(b"BASIC  OnRvaw ").as_deref(), Ok("tok"));
        assert_eq!(token_of(b"Bearer tok").as_deref(), Ok("tok"));
        assert_eq!(token_of(b"bearer  tok").as_deref(), Ok("tok"));
    }

    #[test]
    fn what_is_no_credential_is_refused_by_its_fault() {
        assert_eq!(token_of(b""), Err(Error::Scheme));
        assert_eq!(token_of(b"Negotiate abc"), Err(Error::Scheme));
        assert_eq!(token_of(b"Basic !!!"), Err(Error::Base64));
        assert_eq!(token_of(b"Basic"), Err(Error::Colon));
        assert_eq!(token_of(&header(b"no colon")), Err(Error::Colon));
        assert_eq!(token_of(&header(b":")), Err(Error::Empty));
        assert_eq!(token_of(b"Bearer "), Err(Error::Empty));
        assert_eq!(token_of(&header(b"u:\xff")), Err(Error::Utf8));
        assert_eq!(token_of(&header(&[b'a'; HEADER_BYTES_MAX])), Err(Error::TooLong));
    }

    #[test]
    fn a_name_and_a_password_are_what_basic_has_of_both() {
        let pair = |value: &[u8]| {
            let credential = parse(value).unwrap();
            let pair = credential.name_and_password();
            pair.map(|(name, password)| (name.to_owned(), password.expose().to_owned()))
        };
        let expected = |name: &str, password: &str| Some((name.to_owned(), password.to_owned()));
        assert_eq!(pair(&header(b"bob:a:b")), expected("bob", "a:b"));
        assert_eq!(pair(&header("Änne:ü".as_bytes())), expected("Änne", "ü"));
        for header in [
            header(b":tok"),
            header(b"tok:"),
            header(b"tok:x-oauth-basic"),
            header(b"j\xfcrgen:tok"),
            b"Bearer bob:tok".to_vec(),
        ] {
            assert_eq!(pair(&header), None, "{}", String::from_utf8_lossy(&header));
        }
    }

    #[test]
    fn debug_shows_no_part_of_the_secret() {
        assert!(!format!("{:?}", parse(b"Bearer hunter2")).contains("hunter2"));
        let printed = format!("{:?}", parse(&header(b"hunter1:hunter2")));
        assert!(!printed.contains("hunter"), "{printed}");
    }

    #[test]
    fn inputs_of_the_fuzz_target_are_parsed_or_refused() {
        crate::fuzz_inputs::replay("credential", |input| match parse(input) {
            Ok(credential) => {
                assert!(!credential.secret().expose().is_empty());
                assert!(credential.secret().expose().len() < input.len());
                let username = credential
                    .name_and_password()
                    .map_or("None", |_| "Some(Secret(…))");
                assert_eq!(
                    format!("{credential:?}"),
                    format!("Credential {{ secret: Secret(…), username: {username} }}")
                );
            }
            Err(error) => assert!(!error.to_string().contains('\n')),
        });
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused(value in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&value);
            let _ = parse(&header(&value));
        }

        #[test]
        fn any_username_leaves_the_password_alone(username in "[^:]{0,60}", password in "[ -~]{1,60}") {
            prop_assume!(password != "x-oauth-basic");
            prop_assert_eq!(token_of(&header(format!("{username}:{password}").as_bytes())), Ok(password));
        }
    }
}
