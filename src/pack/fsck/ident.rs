//! The headers of commits and tags.

use bstr::ByteSlice;
use gix_hash::{Kind as HashKind, ObjectId};

use super::{Finding, Message, Options, report};

/// Checks that the header of a commit or tag ends in a newline and holds no NUL, and returns it with that newline.
pub(super) fn header<'a>(data: &'a [u8], options: Option<&Options>) -> Result<&'a [u8], Finding> {
    let header = match data.find(b"\n\n") {
        Some(end) => data.get(..=end).unwrap_or(data),
        None if data.ends_with(b"\n") => data,
        None if data.contains(&0) => return Err(Finding::new(Message::NulInHeader)),
        None => return Err(Finding::new(Message::UnterminatedHeader)),
    };
    if header.contains(&0) {
        report(options, Message::NulInHeader)?;
    }
    Ok(header)
}

/// Takes the next line off `rest` if it begins with `key`, and returns what follows the key.
pub(super) fn line<'a>(rest: &mut &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    let after = rest.strip_prefix(key)?;
    let end = after.find_byte(b'\n')?;
    *rest = after.get(end + 1..).unwrap_or_default();
    after.get(..end)
}

/// Reads an id in lower-case hexadecimal digits that fills `value`.
pub(super) fn id(value: &[u8], hash: HashKind) -> Option<ObjectId> {
    // git reads upper case, too, but then writes another object; nothing has ever written upper case.
    if value.len() != hash.len_in_hex() || value.iter().any(u8::is_ascii_uppercase) {
        return None;
    }
    ObjectId::from_hex(value).ok()
}

/// Checks `Name <e-mail> seconds zone`.
pub(super) fn check(value: &[u8], options: &Options) -> Result<(), Finding> {
    match find(value) {
        Some(message) => options.report(message),
        None => Ok(()),
    }
}

fn find(value: &[u8]) -> Option<Message> {
    if value.first() == Some(&b'<') {
        return Some(Message::MissingNameBeforeEmail);
    }
    let Some(at) = value.find_byteset(b"<>") else {
        return Some(Message::MissingEmail);
    };
    let (name, email) = value.split_at(at);
    let Some(email) = email.strip_prefix(b"<") else {
        return Some(Message::BadName);
    };
    if !name.ends_with(b" ") {
        return Some(Message::MissingSpaceBeforeEmail);
    }
    let Some(at) = email.find_byteset(b"<>") else {
        return Some(Message::BadEmail);
    };
    let Some(date) = email.get(at..).and_then(|rest| rest.strip_prefix(b">")) else {
        return Some(Message::BadEmail);
    };
    let Some(date) = date.strip_prefix(b" ") else {
        return Some(Message::MissingSpaceBeforeDate);
    };
    let date = date.trim_start_with(|char| char == ' ' || char == '\t');
    let digits = date.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (seconds, rest) = date.split_at(digits);
    if seconds.is_empty() {
        return Some(Message::BadDate);
    }
    if seconds.first() == Some(&b'0') && (seconds.len() > 1 || !rest.starts_with(b" ")) {
        return Some(Message::ZeroPaddedDate);
    }
    // The largest value is git's mark for one that does not fit.
    match seconds
        .to_str()
        .ok()
        .and_then(|seconds| seconds.parse::<u64>().ok())
    {
        Some(seconds) if i64::try_from(seconds).is_ok() => {}
        _ => return Some(Message::BadDateOverflow),
    }
    let Some(zone) = rest.strip_prefix(b" ") else {
        return Some(Message::BadDate);
    };
    match zone {
        [b'+' | b'-', digits @ ..] if digits.len() == 4 && digits.iter().all(u8::is_ascii_digit) => None,
        _ => Some(Message::BadTimezone),
    }
}
