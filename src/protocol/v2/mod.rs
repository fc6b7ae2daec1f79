//! Requests of protocol 2: one command with its capabilities and arguments in one HTTP body.
//!
//! Owns the grammar of `ls-refs` and `fetch` and the encoders of their answers; what the answers are is for
//! `upload_pack`. A [`Request`] holds only what this server offers: everything else was refused by its name.
//! Follows gitprotocol-v2(5) and git's serve.c, ls-refs.c and upload-pack.c.

mod arguments;
mod response;

#[cfg(test)]
mod tests;

use bstr::BString;
use gix_hash::{Kind, ObjectId};

use crate::limits::FetchLimits;
use crate::protocol::Unsupported;
use crate::protocol::line::{client_text, object_format, quoted, split_once};
use crate::protocol::pkt_line::{self, Packets, PktLine};

pub use response::{
    AckSection, Advertisement, ListedRef, encode_advertisement, encode_listed_ref, encode_packfile_header,
};

/// Prefixes from which on git stops to restrict a listing at all.
pub const PREFIXES_COUNT_MAX: usize = 65536;

/// Most `server-option` lines of one request. git sends one for every `--server-option`, so people type them.
pub const SERVER_OPTIONS_COUNT_MAX: usize = 1024;

/// The arguments of `ls-refs`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LsRefs {
    /// Tags are to be listed with what they point at.
    pub peel: bool,
    /// Symbolic refs are to be listed with their target.
    pub symrefs: bool,
    /// A `HEAD` whose branch does not exist is to be listed too.
    pub unborn: bool,
    /// Refs to be listed start with one of these; empty: all refs. Fewer than [`PREFIXES_COUNT_MAX`]: a request
    /// with that many or more is for all refs, as in git.
    pub prefixes: Vec<BString>,
}

/// The arguments of `fetch`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fetch {
    /// Objects that the client asks for, each once, in the order of the request.
    pub wants: Vec<ObjectId>,
    /// Objects that the client says it has, each once, in the order of the request.
    pub haves: Vec<ObjectId>,
    /// The negotiation is over: the pack is to be sent.
    pub done: bool,
    /// No pack is to be sent before a request with `done`, however much is known to be common.
    pub wait_for_done: bool,
    /// Deltas may have a base that is not in the pack.
    pub thin_pack: bool,
    /// No progress on band 2.
    pub no_progress: bool,
    /// Annotated tags that point at objects in the pack are to be sent along.
    pub include_tag: bool,
    /// Deltas may name their base by its offset in the pack.
    pub ofs_delta: bool,
}

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// A list of refs.
    LsRefs(LsRefs),
    /// Negotiation, and a pack.
    Fetch(Fetch),
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// What it asks for.
    pub command: Command,
    /// The client's name and version for the log: at most 256 printable ASCII characters.
    pub agent: Option<String>,
    /// The client's own name for its process for the log: at most 256 printable ASCII characters.
    pub session_id: Option<String>,
    /// Values of `--server-option`, at most [`SERVER_OPTIONS_COUNT_MAX`].
    pub server_options: Vec<BString>,
}

/// Why a request is refused. The client is at fault in every case; the text goes into an `ERR` pkt-line as it is.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone)]
pub enum Error {
    /// The body does not consist of pkt-lines, or ends too early.
    #[error(transparent)]
    PktLine(#[from] pkt_line::Error),
    /// A feature that is not offered.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// A line before the arguments that is no capability of this server.
    #[error("unknown capability '{0}'")]
    UnknownCapability(String),
    /// `command=` with something else than `ls-refs` or `fetch`.
    #[error("invalid command '{0}'")]
    InvalidCommand(String),
    /// A second `command=` line: its value and the name of the first.
    #[error("command '{0}' requested after already requesting command '{1}'")]
    SecondCommand(String, &'static str),
    /// Capabilities without a command.
    #[error("no command requested")]
    NoCommand,
    /// `object-format` without a value.
    #[error("object-format capability requires an argument")]
    ObjectFormatMissing,
    /// A hash function that this server does not know.
    #[error("unknown object format '{0}'")]
    UnknownObjectFormat(String),
    /// Another hash function than the repository's.
    #[error("mismatched object format: server {server}; client {client}")]
    MismatchedObjectFormat {
        /// The repository's.
        server: Kind,
        /// The client's; SHA-1 where it named none.
        client: Kind,
    },
    /// A line among the arguments that is none.
    #[error("unexpected line: '{0}'")]
    UnexpectedLine(String),
    /// A `want` without an object id.
    #[error("git upload-pack: protocol error, expected to get oid, not '{0}'")]
    BadWant(String),
    /// A `have` without an object id.
    #[error("git upload-pack: expected SHA1 object, got '{0}'")]
    BadHave(String),
    /// Another special packet where the arguments of the named command end in a flush-pkt.
    #[error("expected flush after {0} arguments")]
    ExpectedFlush(&'static str),
    /// A response-end-pkt, which only servers send.
    #[error("unexpected response end packet")]
    ResponseEnd,
    /// Bytes after the flush-pkt that ends the request.
    #[error("unexpected data after the end of the request")]
    TrailingData,
    /// More bytes than [`FetchLimits::request_bytes_max`].
    #[error("the request has more than {0} bytes")]
    TooLarge(usize),
    /// More than [`FetchLimits::wants_count_max`].
    #[error("the request has more than {0} wants; fetch fewer refs at a time")]
    TooManyWants(usize),
    /// More than [`FetchLimits::haves_count_max`].
    #[error("the request has more than {0} haves")]
    TooManyHaves(usize),
    /// More than [`SERVER_OPTIONS_COUNT_MAX`].
    #[error("the request has more than {SERVER_OPTIONS_COUNT_MAX} server options")]
    TooManyServerOptions,
}

/// Which command a `command=` line named; its arguments come later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CommandName {
    LsRefs,
    Fetch,
}

impl CommandName {
    fn as_str(self) -> &'static str {
        match self {
            CommandName::LsRefs => "ls-refs",
            CommandName::Fetch => "fetch",
        }
    }
}

/// The lines before the arguments.
#[derive(Debug)]
struct Head {
    command: Option<CommandName>,
    /// Lines were seen at all: without one a flush-pkt is a client that takes its leave.
    seen: bool,
    client_hash: Kind,
    agent: Option<String>,
    session_id: Option<String>,
    server_options: Vec<BString>,
}

/// Reads the whole, inflated body of one `git-upload-pack` request of protocol 2 for a repository that uses `hash`.
///
/// None: the body is empty or only a flush-pkt, with which a client ends a connection; the answer is empty.
///
/// # Errors
///
/// The first thing in the body that breaks the protocol, is not offered, or passes a bound of `limits`.
pub fn decode_request(body: &[u8], hash: Kind, limits: &FetchLimits) -> Result<Option<Request>, Error> {
    if body.len() > limits.request_bytes_max {
        return Err(Error::TooLarge(limits.request_bytes_max));
    }
    if body.is_empty() {
        return Ok(None);
    }
    let mut packets = Packets::new(body);
    let mut head = Head {
        command: None,
        seen: false,
        client_hash: Kind::Sha1,
        agent: None,
        session_id: None,
        server_options: Vec::new(),
    };
    let has_arguments = loop {
        match packets.read()? {
            PktLine::Data(payload) => head.take_line(pkt_line::text(payload))?,
            PktLine::Flush => break false,
            PktLine::Delim => break true,
            PktLine::ResponseEnd => return Err(Error::ResponseEnd),
        }
    };
    if !head.seen && !has_arguments {
        return expect_end(&mut packets).map(|()| None);
    }
    let Some(name) = head.command else {
        return Err(Error::NoCommand);
    };
    if head.client_hash != hash {
        return Err(Error::MismatchedObjectFormat {
            server: hash,
            client: head.client_hash,
        });
    }
    let mut command = match name {
        CommandName::LsRefs => Command::LsRefs(LsRefs::default()),
        CommandName::Fetch => Command::Fetch(Fetch::default()),
    };
    if has_arguments {
        match &mut command {
            Command::LsRefs(ls_refs) => arguments::read_ls_refs(&mut packets, ls_refs)?,
            Command::Fetch(fetch) => arguments::read_fetch(&mut packets, hash, limits, fetch)?,
        }
    }
    expect_end(&mut packets)?;
    let Head {
        agent,
        session_id,
        server_options,
        ..
    } = head;
    Ok(Some(Request {
        command,
        agent,
        session_id,
        server_options,
    }))
}

/// Accepts nothing but more flush-pkts, which git leaves unread.
fn expect_end(packets: &mut Packets<'_>) -> Result<(), Error> {
    while !packets.is_at_end() {
        if packets.read() != Ok(PktLine::Flush) {
            return Err(Error::TrailingData);
        }
    }
    Ok(())
}

impl Head {
    fn take_line(&mut self, line: &[u8]) -> Result<(), Error> {
        self.seen = true;
        let (key, value) = match split_once(line, b'=') {
            Some((key, value)) => (key, Some(value)),
            None => (line, None),
        };
        match (key, value) {
            (b"command", Some(name)) => self.take_command(name)?,
            (b"agent", _) => self.agent = value.map(client_text),
            (b"session-id", _) => self.session_id = value.map(client_text),
            (b"server-option", Some(option)) => {
                if self.server_options.len() >= SERVER_OPTIONS_COUNT_MAX {
                    return Err(Error::TooManyServerOptions);
                }
                self.server_options.push(option.into());
            }
            (b"server-option", None) => {}
            (b"object-format", Some(name)) => {
                self.client_hash =
                    object_format(name).ok_or_else(|| Error::UnknownObjectFormat(quoted(name)))?;
            }
            (b"object-format", None) => return Err(Error::ObjectFormatMissing),
            _ => return Err(Error::UnknownCapability(quoted(line))),
        }
        Ok(())
    }

    fn take_command(&mut self, name: &[u8]) -> Result<(), Error> {
        if let Some(first) = self.command {
            return Err(Error::SecondCommand(quoted(name), first.as_str()));
        }
        self.command = match name {
            b"ls-refs" => Some(CommandName::LsRefs),
            b"fetch" => Some(CommandName::Fetch),
            _ => return Err(Error::InvalidCommand(quoted(name))),
        };
        Ok(())
    }
}
