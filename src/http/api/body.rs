//! JSON that clients send: bounded, of the right type, and whatever is wrong with it is named by its field.

use std::time::Duration;

use bytes::Bytes;
use hyper::HeaderMap;
use hyper::header::CONTENT_TYPE;
use serde::de::DeserializeOwned;

use crate::http::error::HttpError;
use crate::telemetry;

/// Bytes of a body, as sent and inflated.
pub(super) const BYTES_MAX: usize = 1 << 20;

/// How long a body may take to arrive, however steadily it comes: 1 MiB in 35 KiB a second.
pub(super) const TIME_MAX: Duration = Duration::from_secs(30);

/// Bytes of what the parser says about a body, which may repeat parts of it.
const REASON_BYTES_MAX: usize = 300;

/// What a body must be.
const JSON: &str = "application/json";

/// Checks that the body is said to be JSON, or nothing is said.
///
/// # Errors
///
/// When it is said to be something else.
pub(super) fn check_type(headers: &HeaderMap) -> Result<(), HttpError> {
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return Ok(());
    };
    let essence = value
        .to_str()
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default();
    if essence.trim().eq_ignore_ascii_case(JSON) {
        Ok(())
    } else {
        Err(HttpError::unsupported_media_type(JSON))
    }
}

/// Reads a value out of a body.
///
/// # Errors
///
/// Says where the body is something else than `T`, and what was expected there. Nesting ends at 128 levels.
pub(super) fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, HttpError> {
    if body.trim_ascii().is_empty() {
        return Err(HttpError::bad_request(
            "The request has no body, and needs one of JSON.",
        ));
    }
    let mut parser = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut parser).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        let reason = telemetry::printable(&inner.to_string(), REASON_BYTES_MAX);
        if inner.is_syntax() || inner.is_eof() {
            return HttpError::bad_request(format!("The request's body is not JSON: {reason}."));
        }
        let place = match path.as_str() {
            "." => "The request's body".to_owned(),
            path => format!(
                "The field '{}' of the request's body",
                telemetry::printable(path, 200)
            ),
        };
        HttpError::bad_request(format!("{place} cannot be taken: {reason}."))
    })?;
    parser.end().map_err(|_| {
        HttpError::bad_request("The request's body has something after its JSON value. Send one value.")
    })?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "camelCase")]
    struct Outer {
        name: String,
        inner_part: Inner,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        id: u32,
    }

    fn refused(body: &str) -> String {
        let error = read::<Outer>(&Bytes::copy_from_slice(body.as_bytes())).unwrap_err();
        assert_eq!(error.status(), 400);
        String::from_utf8(error.into_response("").into_body().to_vec()).unwrap()
    }

    #[test]
    fn a_body_of_the_right_form_is_read() {
        let body = Bytes::from_static(b" {\"name\": \"x\", \"innerPart\": {\"id\": 7}} \n");
        let outer = read::<Outer>(&body).unwrap();
        assert_eq!((outer.name.as_str(), outer.inner_part.id), ("x", 7));
    }

    #[test]
    fn what_is_wrong_is_named_by_its_field() {
        for (body, words) in [
            ("", &["no body"][..]),
            ("{", &["not JSON"]),
            ("nonsense", &["not JSON"]),
            ("\u{feff}{}", &["not JSON"]),
            ("[]", &["body"]),
            ("{\"name\": 5, \"innerPart\": {\"id\": 7}}", &["'name'", "string"]),
            (
                "{\"name\": \"x\", \"innerPart\": {\"id\": \"y\"}}",
                &["'innerPart.id'"],
            ),
            (
                "{\"name\": \"x\", \"innerPart\": {\"id\": -1}}",
                &["'innerPart.id'"],
            ),
            (
                "{\"name\": \"x\", \"innerPart\": {\"id\": 7, \"more\": 1}}",
                &["innerPart", "`more`"],
            ),
            ("{\"name\": \"x\"}", &["`innerPart`"]),
            (
                "{\"name\": \"x\", \"name\": \"y\", \"innerPart\": {\"id\": 7}}",
                &["`name`"],
            ),
            (
                "{\"name\": \"x\", \"innerPart\": {\"id\": 7}} {}",
                &["after its JSON"],
            ),
        ] {
            let text = refused(body);
            for word in words {
                assert!(text.contains(word), "{body}: {text}");
            }
        }
    }

    #[test]
    fn no_body_makes_a_long_or_unprintable_answer() {
        let deep = "[".repeat(BYTES_MAX / 2);
        assert!(refused(&deep).len() < 1000);
        let long = format!("{{\"{}\": 1}}", "\\u001b".repeat(10_000));
        let text = refused(&long);
        assert!(text.len() < 2000 && !text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn only_json_is_taken() {
        let check = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(value));
            check_type(&headers).map_err(|error| error.status().as_u16())
        };
        assert_eq!(check_type(&HeaderMap::new()).map_err(|_| ()), Ok(()));
        for value in [
            "application/json",
            "Application/JSON; charset=utf-8",
            "application/json;x=y",
        ] {
            assert_eq!(check(value), Ok(()), "{value}");
        }
        for value in [
            "",
            "text/json",
            "application/x-www-form-urlencoded",
            "application/jsonx",
        ] {
            assert_eq!(check(value), Err(415), "{value}");
        }
    }
}
