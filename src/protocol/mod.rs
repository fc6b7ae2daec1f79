//! Bytes to git wire messages and back: pkt-lines, sideband, the requests of protocol 0, 1 and 2, pushes.
//!
//! Everything here is a pure function of bytes in memory: no sockets, files, clocks, async or logging, and nothing
//! about who asks or what a repository holds. Every decoder takes hostile input: it answers or fails after work and
//! memory in proportion to its input and within the bounds of [`limits`](crate::limits), and never panics.
//!
//! The specifications are gitprotocol-common(5), gitprotocol-pack(5), gitprotocol-v2(5),
//! gitprotocol-capabilities(5) and gitprotocol-http(5); where they and git differ, git's behaviour is followed.
//! Texts of errors are git's own where git has one, since people and scripts know them.

mod line;
pub mod pkt_line;
pub mod receive;
pub mod sideband;
mod unsupported;
pub mod v0;
pub mod v2;

#[cfg(test)]
mod tests;

pub use unsupported::Unsupported;

use crate::protocol::line::split_once;

/// Protocol version that a client asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// The original protocol: the server speaks first and lists all refs.
    V0,
    /// Protocol 0 with a `version 1` line before everything else.
    V1,
    /// Commands over HTTP requests that each stand alone. Only fetches have it; a push that asks for it gets 0.
    V2,
}

impl Version {
    /// Reads the value of the `Git-Protocol` header: `version=…` keys among others, separated by colons.
    ///
    /// The highest version that both sides know wins, as in git. Unknown keys and versions are passed over, and
    /// without a known one the version is 0.
    pub fn from_header(value: Option<&[u8]>) -> Version {
        let keys = value.unwrap_or_default().split(|&byte| byte == b':');
        let versions = keys.filter_map(|key| match split_once(key, b'=') {
            Some((b"version", b"1")) => Some(Version::V1),
            Some((b"version", b"2")) => Some(Version::V2),
            _ => None,
        });
        versions.max().unwrap_or(Version::V0)
    }
}

/// Which of the two services a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Service {
    /// Fetches and clones.
    UploadPack,
    /// Pushes.
    ReceivePack,
}

impl Service {
    /// The name in URLs and content types: `git-upload-pack` or `git-receive-pack`.
    pub fn name(self) -> &'static str {
        match self {
            Service::UploadPack => "git-upload-pack",
            Service::ReceivePack => "git-receive-pack",
        }
    }

    /// The service of that name; none for anything else, `git-upload-archive` included.
    pub fn from_name(name: &[u8]) -> Option<Service> {
        [Service::UploadPack, Service::ReceivePack]
            .into_iter()
            .find(|service| service.name().as_bytes() == name)
    }
}
