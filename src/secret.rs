//! Text that must not be seen: wiped when dropped, never printed.

use std::fmt;

use zeroize::Zeroizing;

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
