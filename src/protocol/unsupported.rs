//! Features of the protocol that this server does not offer, each refused by its name.
//!
//! They are not advertised, so a client that keeps to the protocol never sends one. One that does so all the same
//! must hear it: were the line passed over, the client would take the answer for something that it is not.

/// A feature that was asked for though it is not offered. `Display` is one line for the person at the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Unsupported {
    /// `shallow`: the client's repository lacks history.
    #[error("this server does not support shallow clones yet ('shallow'); clone again without --depth")]
    Shallow,
    /// `deepen`.
    #[error("this server does not support shallow clones yet ('deepen'); clone or fetch without --depth")]
    Deepen,
    /// `deepen-since`.
    #[error(
        "this server does not support shallow clones yet ('deepen-since'); clone or fetch without --shallow-since"
    )]
    DeepenSince,
    /// `deepen-not`.
    #[error(
        "this server does not support shallow clones yet ('deepen-not'); clone or fetch without --shallow-exclude"
    )]
    DeepenNot,
    /// `deepen-relative`.
    #[error("this server does not support shallow clones yet ('deepen-relative'); fetch without --deepen")]
    DeepenRelative,
    /// `filter`.
    #[error("this server does not support partial clones yet ('filter'); clone or fetch without --filter")]
    Filter,
    /// `want-ref`.
    #[error("this server does not support 'want-ref' yet; ask for object ids with 'want'")]
    WantRef,
    /// `sideband-all`.
    #[error("this server does not support 'sideband-all' yet; send the request without it")]
    SidebandAll,
    /// `packfile-uris`.
    #[error("this server does not support 'packfile-uris' yet; unset fetch.uriProtocols")]
    PackfileUris,
    /// `shallow` in a push.
    #[error(
        "this server does not support pushes from shallow clones yet ('shallow'); push from a full clone"
    )]
    ShallowPush,
    /// `push-options`, which the repository's configuration turned off. The first words are those of git's client.
    #[error("the receiving end does not support push options ('push-options'); push without --push-option")]
    PushOptions,
    /// `push-cert`.
    #[error("this server does not support signed pushes yet ('push-cert'); push without --signed")]
    PushCert,
}

impl Unsupported {
    /// The feature of fetches that `line` asks for, in any version of the protocol.
    pub(super) fn in_fetch_line(line: &[u8]) -> Option<Unsupported> {
        let keyword = line.split(|&byte| byte == b' ').next().unwrap_or_default();
        match keyword {
            b"shallow" => Some(Unsupported::Shallow),
            b"deepen" => Some(Unsupported::Deepen),
            b"deepen-since" => Some(Unsupported::DeepenSince),
            b"deepen-not" => Some(Unsupported::DeepenNot),
            b"deepen-relative" => Some(Unsupported::DeepenRelative),
            b"filter" => Some(Unsupported::Filter),
            b"want-ref" => Some(Unsupported::WantRef),
            b"sideband-all" => Some(Unsupported::SidebandAll),
            b"packfile-uris" => Some(Unsupported::PackfileUris),
            _ => None,
        }
    }
}
