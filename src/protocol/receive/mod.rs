//! Pushes: the list of commands at the start of a `git-receive-pack` request, with the push options behind it, and the
//! report that answers it.
//!
//! Owns the grammar of both lists, read from a stream that may be cut anywhere, and where they end; the pack that
//! follows, what may be done to which ref, and what an option means, are for `receive_pack`. Follows
//! gitprotocol-pack(5) and git's receive-pack.c.

mod commands;
mod report;

#[cfg(test)]
mod tests;

use bstr::BString;
use gix_hash::ObjectId;

use crate::protocol::Unsupported;
use crate::protocol::pkt_line;

pub use commands::{CommandDecoder, Progress};
pub use report::{CommandStatus, encode_report};

/// What is to become of one ref.
///
/// The name is as the client sent it, up to a NUL or the end of the line, and not empty; whether it is a good name,
/// and named once, is for the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefCommand {
    /// What the client believes the ref points at; null: it does not exist.
    pub old_id: ObjectId,
    /// What it is to point at; null: it is to be deleted. Both are null when git deletes a ref by its full name that
    /// the server did not list; git's server accepts that with a warning.
    pub new_id: ObjectId,
    /// The name of the ref.
    pub name: BString,
}

/// What a client asked for behind its first command. Capabilities that are not here are passed over, as git does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// The client reads a report.
    pub report_status: bool,
    /// The client reads a report with options. Git asks for this one alone where it is offered.
    pub report_status_v2: bool,
    /// The report comes on band 1, text for people on band 2.
    pub side_band_64k: bool,
    /// No progress.
    pub quiet: bool,
    /// All commands or none.
    pub atomic: bool,
    /// The client knows that refs can be deleted.
    pub delete_refs: bool,
    /// The pack may name bases of deltas by their offset.
    pub ofs_delta: bool,
    /// A list of push options follows the list of commands.
    pub push_options: bool,
    /// The client's name and version for the log: at most 256 printable ASCII characters.
    pub agent: Option<String>,
    /// The client's own name for its process for the log: at most 256 printable ASCII characters.
    pub session_id: Option<String>,
}

impl Capabilities {
    /// Whether the client reads a report, of either version.
    pub fn reads_report(&self) -> bool {
        self.report_status || self.report_status_v2
    }
}

/// The list of commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushRequest {
    /// The commands in the order of the request; at least one.
    pub commands: Vec<RefCommand>,
    /// What the client asked for.
    pub capabilities: Capabilities,
    /// What the person at the client gave with `git push -o`, in that order and without control characters.
    pub push_options: Vec<BString>,
}

/// Why a push is refused before its pack is read. The client is at fault in every case.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone)]
pub enum Error {
    /// The list does not consist of pkt-lines. [`pkt_line::Error::HungUp`] is for callers whose input ends early.
    #[error(transparent)]
    PktLine(#[from] pkt_line::Error),
    /// A feature that is not offered.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// A line that is not two object ids of the repository's width and a name.
    #[error("protocol error: expected old/new/ref, got '{0}'")]
    BadCommand(String),
    /// A delim-pkt or response-end-pkt, which pushes do not have.
    #[error("protocol error: got an unexpected packet")]
    SpecialPacket,
    /// Another hash function than the repository's; SHA-1 where the client named none.
    #[error("error: unsupported object format '{0}'")]
    ObjectFormat(String),
    /// More bytes than [`PushLimits::commands_bytes_max`](crate::limits::PushLimits::commands_bytes_max).
    #[error("the list of refs has more than {0} bytes; push fewer refs at a time")]
    TooLarge(usize),
    /// More than [`PushLimits::commands_count_max`](crate::limits::PushLimits::commands_count_max).
    #[error("the push has more than {0} refs; push fewer refs at a time")]
    TooManyCommands(usize),
    /// A push option with a control character, of which git's own client refuses the line feed in these words.
    #[error("push options must not have new line characters or other control characters")]
    PushOptionControl,
    /// More bytes than [`PushLimits::push_options_bytes_max`](crate::limits::PushLimits::push_options_bytes_max).
    #[error("the push options have more than {0} bytes; give shorter ones")]
    PushOptionsTooLarge(usize),
    /// More than [`PushLimits::push_options_count_max`](crate::limits::PushLimits::push_options_count_max).
    #[error("the push has more than {0} push options; give fewer")]
    TooManyPushOptions(usize),
}
