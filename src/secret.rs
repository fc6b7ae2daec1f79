//! Text that must not be seen: wiped when dropped, never printed; and cleaning other text of it.

use std::borrow::Cow;
use std::fmt;

use zeroize::Zeroizing;

/// What every token begins with.
pub const TOKEN_PREFIX: &str = "pgt_";

/// Bytes behind it that are no secret: the token's public id.
pub const TOKEN_ID_BYTES: usize = 8;

/// Fewest letters and digits behind a token's prefix that are taken for one, whole or cut.
const TOKEN_TAIL_MIN: usize = 20;

/// Leaves of every token in `text` only what is public of it. `is_cut` says that the last one may be longer than it
/// looks.
pub fn redact_tokens(text: &str, is_cut: bool) -> Cow<'_, str> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(TOKEN_PREFIX) {
        let end = after
            .find(|c: char| !c.is_ascii_alphanumeric())
            .unwrap_or(after.len());
        // Where another token follows at once, its prefix begins with letters, too.
        let end = after.find(TOKEN_PREFIX).map_or(end, |next| next.min(end));
        let (tail, next) = after.split_at(end);
        out.push_str(before);
        out.push_str(TOKEN_PREFIX);
        if tail.len() >= TOKEN_TAIL_MIN || (is_cut && next.is_empty()) {
            out.extend(tail.chars().take(TOKEN_ID_BYTES).chain(['…']));
        } else {
            out.push_str(tail);
        }
        rest = next;
    }
    if out.is_empty() {
        return Cow::Borrowed(text);
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// Whether `text` has something in it that looks like a token.
pub fn holds_token(text: &str) -> bool {
    matches!(redact_tokens(text, false), Cow::Owned(clean) if clean != text)
}

/// A password or another secret in plain text.
///
/// `Debug` prints no part of it, and there is no `Display`, `Clone` or `Serialize`.
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes over `text`; its memory is wiped when the secret is dropped.
    pub fn new(text: String) -> Self {
        Secret(Zeroizing::new(text))
    }

    /// Lets the caller read the text. Every use is a place to look at in a review.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_looks_like_a_token_only_its_id_is_left() {
        let token = format!("pgt_AbCd1234{}", "x".repeat(44));
        let json = format!(r#"{{"name":"refs/heads/{token}\n{token}"}}"#);
        let clean = r#"{"name":"refs/heads/pgt_AbCd1234…\npgt_AbCd1234…"}"#;
        assert_eq!(redact_tokens(&json, false), clean);
        assert_eq!(redact_tokens("pgt_short", false), "pgt_short");
        assert_eq!(redact_tokens("pgt_AbCd1234xyz", true), "pgt_AbCd1234…", "cut");
        assert!(holds_token(&json) && !holds_token(clean) && !holds_token("") && !holds_token("pgt_short"));
    }
}
