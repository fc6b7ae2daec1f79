//! What the lines of all versions are made of: object ids, capability lists, and text that is shown to people.
//!
//! Follows parse_feature_value and get_oid_hex of git, except that an id must end where its line or its word ends.

use gix_hash::{Kind, ObjectId, oid};

/// Most bytes that a message repeats of a line that a client sent.
const QUOTED_BYTES_MAX: usize = 200;

/// Most bytes that are kept of an agent or session id, which only go to logs.
const CLIENT_TEXT_BYTES_MAX: usize = 256;

/// Splits `bytes` around the first `separator`.
pub(super) fn split_once(bytes: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|&byte| byte == separator)?;
    let (head, tail) = bytes.split_at_checked(at)?;
    Some((head, tail.get(1..)?))
}

/// Reads an id of `hash`'s width in hex digits of either case; `hex` must hold nothing else.
pub(super) fn object_id(hex: &[u8], hash: Kind) -> Option<ObjectId> {
    if hex.len() != hash.len_in_hex() {
        return None;
    }
    ObjectId::from_hex(hex).ok()
}

/// Splits the id that `line` starts with from what follows it.
pub(super) fn leading_object_id(line: &[u8], hash: Kind) -> Option<(ObjectId, &[u8])> {
    let (hex, rest) = line.split_at_checked(hash.len_in_hex())?;
    Some((object_id(hex, hash)?, rest))
}

/// Appends `id` in hex.
pub(super) fn push_hex(out: &mut Vec<u8>, id: &oid) {
    let mut buffer = Kind::hex_buf();
    out.extend_from_slice(id.hex_to_buf(&mut buffer).as_bytes());
}

/// Walks over a list of capabilities separated by white space: each with its value, if it has one.
pub(super) fn capabilities(list: &[u8]) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
    let words = list.split(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
    words
        .filter(|word| !word.is_empty())
        .map(|word| match split_once(word, b'=') {
            Some((name, value)) => (name, Some(value)),
            None => (word, None),
        })
}

/// The hash function that a client names in `object-format`, in lower case and nothing else.
pub(super) fn object_format(name: &[u8]) -> Option<Kind> {
    Kind::all()
        .iter()
        .copied()
        .find(|kind| kind.to_string().as_bytes() == name)
}

/// An agent or session id as it may go into a log: at most 256 bytes of it, and a dot for all that is not
/// printable ASCII, which is how git treats its own.
pub(super) fn client_text(value: &[u8]) -> String {
    let printable = |&byte: &u8| {
        if byte.is_ascii_graphic() {
            char::from(byte)
        } else {
            '.'
        }
    };
    value.iter().take(CLIENT_TEXT_BYTES_MAX).map(printable).collect()
}

/// A client's line as a message repeats it: one line of text, shortened where it is long.
pub(super) fn quoted(line: &[u8]) -> String {
    let (shown, end) = match line.get(..QUOTED_BYTES_MAX) {
        Some(start) if line.len() > QUOTED_BYTES_MAX => (start, "…"),
        _ => (line, ""),
    };
    let text = String::from_utf8_lossy(shown);
    let clean = text.chars().map(|c| if c.is_control() { '?' } else { c });
    clean.chain(end.chars()).collect()
}
