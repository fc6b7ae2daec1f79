//! The decoder of command lists and of the push options behind them.

use bstr::BString;
use gix_hash::Kind;

use super::{Capabilities, Error, PushRequest, RefCommand};
use crate::limits::PushLimits;
use crate::protocol::Unsupported;
use crate::protocol::line::{capabilities, client_text, leading_object_id, quoted, split_once};
use crate::protocol::pkt_line::{self, Decoded, PktLine};

/// Collects the command list from a stream, and the push options if some follow; feed it bytes until it answers.
///
/// It holds the commands, the options and at most one packet that is not complete yet. After an error the stream has
/// no meaning any more, and the decoder must not be fed again.
#[derive(Debug)]
pub struct CommandDecoder {
    hash: Kind,
    bytes_max: usize,
    count_max: usize,
    options_bytes_max: usize,
    options_count_max: usize,
    /// Push options were offered.
    takes_options: bool,
    /// Bytes of the packets that are complete.
    bytes: usize,
    /// The commands are complete, and what is read are push options.
    is_at_options: bool,
    options: Vec<BString>,
    /// Bytes of the options, without their packets' lengths.
    options_bytes: usize,
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
    /// The list is whole, with its push options.
    Done {
        /// The list. None: only a flush-pkt, the probe that git sends before a push too large to repeat.
        request: Option<PushRequest>,
        /// Bytes of *this* input that belong to it; the pack starts after them.
        consumed: usize,
    },
}

impl CommandDecoder {
    /// Starts a list for a repository that uses `hash`; `takes_options` tells whether push options were offered.
    pub fn new(hash: Kind, limits: &PushLimits, takes_options: bool) -> Self {
        CommandDecoder {
            hash,
            bytes_max: limits.commands_bytes_max,
            count_max: limits.commands_count_max,
            options_bytes_max: limits.push_options_bytes_max,
            options_count_max: limits.push_options_count_max,
            takes_options,
            bytes: 0,
            is_at_options: false,
            options: Vec::new(),
            options_bytes: 0,
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

    /// Whether the packet, of `bytes` bytes with its length, ends the list, or both lists if there are two.
    fn take_packet(&mut self, packet: PktLine<'_>, bytes: usize) -> Result<bool, Error> {
        if self.is_at_options {
            return self.take_option_packet(packet);
        }
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > self.bytes_max {
            return Err(Error::TooLarge(self.bytes_max));
        }
        match packet {
            PktLine::Data(payload) => self.take_line(pkt_line::text(payload)).map(|()| false),
            PktLine::Flush if self.is_shallow => Err(Unsupported::ShallowPush.into()),
            PktLine::Flush => {
                self.is_at_options = self.capabilities.push_options && !self.commands.is_empty();
                Ok(!self.is_at_options)
            }
            PktLine::Delim | PktLine::ResponseEnd => Err(Error::SpecialPacket),
        }
    }

    fn take_option_packet(&mut self, packet: PktLine<'_>) -> Result<bool, Error> {
        let option = match packet {
            PktLine::Data(payload) => pkt_line::text(payload),
            PktLine::Flush => return Ok(true),
            PktLine::Delim | PktLine::ResponseEnd => return Err(Error::SpecialPacket),
        };
        if self.options.len() >= self.options_count_max {
            return Err(Error::TooManyPushOptions(self.options_count_max));
        }
        self.options_bytes = self.options_bytes.saturating_add(option.len());
        if self.options_bytes > self.options_bytes_max {
            return Err(Error::PushOptionsTooLarge(self.options_bytes_max));
        }
        if option.iter().any(u8::is_ascii_control) {
            return Err(Error::PushOptionControl);
        }
        self.options.push(option.into());
        Ok(false)
    }

    fn take_line(&mut self, line: &[u8]) -> Result<(), Error> {
        if line.starts_with(b"shallow ") {
            // The first command behind it says in which way the client can be told.
            self.is_shallow = true;
            return Ok(());
        }
        let command = match split_once(line, 0) {
            Some((command, list)) => {
                self.capabilities.add(list, self.hash, self.takes_options)?;
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
        self.is_at_options = false;
        self.options_bytes = 0;
        let capabilities = std::mem::take(&mut self.capabilities);
        let commands = std::mem::take(&mut self.commands);
        let push_options = std::mem::take(&mut self.options);
        (!commands.is_empty()).then_some(PushRequest {
            commands,
            capabilities,
            push_options,
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
    fn add(&mut self, list: &[u8], hash: Kind, takes_options: bool) -> Result<(), Error> {
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
                b"push-options" if takes_options => self.push_options = true,
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
