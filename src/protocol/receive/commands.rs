//! The decoder of command lists.

use gix_hash::Kind;

use super::{Capabilities, Error, PushRequest, RefCommand};
use crate::limits::PushLimits;
use crate::protocol::Unsupported;
use crate::protocol::line::{capabilities, client_text, leading_object_id, quoted, split_once};
use crate::protocol::pkt_line::{self, Decoded, PktLine};

/// Collects the command list from a stream; feed it bytes until it answers.
///
/// It holds the commands and at most one packet that is not complete yet. After an error the stream has no meaning
/// any more, and the decoder must not be fed again.
#[derive(Debug)]
pub struct CommandDecoder {
    hash: Kind,
    bytes_max: usize,
    count_max: usize,
    /// Bytes of the packets that are complete.
    bytes: usize,
    /// The start of a packet whose end has not come yet.
    partial: Vec<u8>,
    commands: Vec<RefCommand>,
    capabilities: Capabilities,
    /// A `shallow` line was read.
    is_shallow: bool,
}

/// What became of the bytes that were fed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// All of the input was consumed and more is needed. A stream that ends here was cut off:
    /// [`pkt_line::Error::HungUp`] has the text for it.
    NeedMore,
    /// The list is whole.
    Done {
        /// The list. None: only a flush-pkt, the probe that git sends before a push too large to repeat.
        request: Option<PushRequest>,
        /// Bytes of *this* input that belong to the list; the pack starts after them.
        consumed: usize,
    },
}

impl CommandDecoder {
    /// Starts a list for a repository that uses `hash`.
    pub fn new(hash: Kind, limits: &PushLimits) -> Self {
        CommandDecoder {
            hash,
            bytes_max: limits.commands_bytes_max,
            count_max: limits.commands_count_max,
            bytes: 0,
            partial: Vec::new(),
            commands: Vec::new(),
            capabilities: Capabilities::default(),
            is_shallow: false,
        }
    }

    /// Takes the next piece of the stream, of any size.
    ///
    /// After `Done` the decoder is as new, ready for another list.
    ///
    /// # Errors
    ///
    /// The first line that breaks the protocol, asks for what is not offered, or passes a bound; the same wherever
    /// the stream is cut.
    pub fn push(&mut self, input: &[u8]) -> Result<Progress, Error> {
        let mut rest = input;
        loop {
            let held = if self.partial.is_empty() {
                None
            } else {
                let Some(packet) = self.complete_partial(&mut rest)? else {
                    return Ok(Progress::NeedMore);
                };
                Some(packet)
            };
            let source = held.as_deref().unwrap_or(rest);
            let Decoded::Complete { line, consumed } = pkt_line::decode(source)? else {
                self.partial.extend_from_slice(source);
                return Ok(Progress::NeedMore);
            };
            if held.is_none() {
                rest = rest.get(consumed..).unwrap_or_default();
            }
            if self.take_packet(line, consumed)? {
                let consumed = input.len().saturating_sub(rest.len());
                return Ok(Progress::Done {
                    request: self.finish(),
                    consumed,
                });
            }
        }
    }

    /// Moves bytes from `rest` until the packet that was cut is complete, and returns it; none: `rest` ended first.
    fn complete_partial(&mut self, rest: &mut &[u8]) -> Result<Option<Vec<u8>>, Error> {
        // Twice at most: to know the length, and to have the payload.
        while let Decoded::Incomplete { needed } = pkt_line::decode(&self.partial)? {
            let Some((missing, after)) = rest.split_at_checked(needed) else {
                self.partial.extend_from_slice(rest);
                return Ok(None);
            };
            self.partial.extend_from_slice(missing);
            *rest = after;
        }
        Ok(Some(std::mem::take(&mut self.partial)))
    }

    /// Whether the packet, of `bytes` bytes with its length, ends the list.
    fn take_packet(&mut self, packet: PktLine<'_>, bytes: usize) -> Result<bool, Error> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > self.bytes_max {
            return Err(Error::TooLarge(self.bytes_max));
        }
        match packet {
            PktLine::Data(payload) => self.take_line(pkt_line::text(payload)).map(|()| false),
            PktLine::Flush if self.is_shallow => Err(Unsupported::ShallowPush.into()),
            PktLine::Flush => Ok(true),
            PktLine::Delim | PktLine::ResponseEnd => Err(Error::SpecialPacket),
        }
    }

    fn take_line(&mut self, line: &[u8]) -> Result<(), Error> {
        if line.starts_with(b"shallow ") {
            // The first command behind it says in which way the client can be told.
            self.is_shallow = true;
            return Ok(());
        }
        let command = match split_once(line, 0) {
            Some((command, list)) => {
                self.capabilities.add(list, self.hash)?;
                command
            }
            None => line,
        };
        if self.is_shallow {
            return Err(Unsupported::ShallowPush.into());
        }
        if command == b"push-cert" {
            return Err(Unsupported::PushCert.into());
        }
        if self.commands.len() >= self.count_max {
            return Err(Error::TooManyCommands(self.count_max));
        }
        let command = parse_command(command, self.hash).ok_or_else(|| Error::BadCommand(quoted(command)))?;
        self.commands.push(command);
        Ok(())
    }

    /// What the client asked for, as far as its list was read: how it can be told of an error.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn finish(&mut self) -> Option<PushRequest> {
        self.bytes = 0;
        self.is_shallow = false;
        let capabilities = std::mem::take(&mut self.capabilities);
        let commands = std::mem::take(&mut self.commands);
        (!commands.is_empty()).then_some(PushRequest {
            commands,
            capabilities,
        })
    }
}

/// Reads `<old> <new> <name>`.
fn parse_command(line: &[u8], hash: Kind) -> Option<RefCommand> {
    let (old_id, rest) = leading_object_id(line, hash)?;
    let (new_id, rest) = leading_object_id(rest.strip_prefix(b" ")?, hash)?;
    let name = rest.strip_prefix(b" ").filter(|name| !name.is_empty())?;
    Some(RefCommand {
        old_id,
        new_id,
        name: name.into(),
    })
}

impl Capabilities {
    /// Adds those of one line; git reads them on every line that has a NUL, and they never take one back.
    fn add(&mut self, list: &[u8], hash: Kind) -> Result<(), Error> {
        let mut format = None;
        for (name, value) in capabilities(list) {
            match name {
                b"report-status" => self.report_status = true,
                b"report-status-v2" => self.report_status_v2 = true,
                b"side-band-64k" => self.side_band_64k = true,
                b"quiet" => self.quiet = true,
                b"atomic" => self.atomic = true,
                b"delete-refs" => self.delete_refs = true,
                b"ofs-delta" => self.ofs_delta = true,
                b"agent" => self.agent = value.map(client_text),
                b"session-id" => self.session_id = value.map(client_text),
                b"object-format" => format = format.or(value),
                b"push-options" => return Err(Unsupported::PushOptions.into()),
                b"push-cert" => return Err(Unsupported::PushCert.into()),
                _ => {}
            }
        }
        // A client that names none means SHA-1, like every client from before there was a choice.
        let format = format.unwrap_or(b"sha1");
        if format != hash.to_string().as_bytes() {
            return Err(Error::ObjectFormat(quoted(format)));
        }
        Ok(())
    }
}
