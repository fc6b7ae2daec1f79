//! The request as a stream: the command list in front, the pack behind it.

use std::io::{self, Read};

use super::Error;
use crate::limits::PushLimits;
use crate::protocol::pkt_line;
use crate::protocol::receive::{self, CommandDecoder, Progress, PushRequest};

/// Bytes that are read at once.
const BUFFER_BYTES: usize = 64 << 10;

/// Bytes of a refused push that are read and dropped so that the client, which may not look for an answer before it
/// has sent everything, hears why. A client that sends more than this is cut off.
const DRAIN_BYTES_MAX: u64 = 2 << 30;

/// A command list that is not taken.
pub(super) struct Refused {
    /// Why.
    pub(super) error: receive::Error,
    /// Whether the client listens on bands by now.
    pub(super) has_sideband: bool,
}

impl Refused {
    fn new(decoder: &CommandDecoder, error: receive::Error) -> Refused {
        Refused {
            error,
            has_sideband: decoder.capabilities().side_band_64k,
        }
    }
}

/// A reader that keeps what was read too far.
pub(super) struct Input<'a> {
    inner: &'a mut dyn Read,
    buffer: Vec<u8>,
    at: usize,
}

impl<'a> Input<'a> {
    pub(super) fn new(inner: &'a mut dyn Read) -> Input<'a> {
        Input {
            inner,
            buffer: Vec::new(),
            at: 0,
        }
    }

    /// Reads the command list, and the push options if they were offered: the inner error is the client's and has an
    /// answer in the protocol.
    pub(super) fn read_commands(
        &mut self,
        hash: gix_hash::Kind,
        limits: &PushLimits,
        takes_options: bool,
    ) -> Result<Result<Option<PushRequest>, Refused>, Error> {
        let mut decoder = CommandDecoder::new(hash, limits, takes_options);
        loop {
            self.buffer.resize(BUFFER_BYTES, 0);
            let count = read_some(self.inner, &mut self.buffer).map_err(Error::Read)?;
            self.buffer.truncate(count);
            if count == 0 {
                return Ok(Err(Refused::new(&decoder, pkt_line::Error::HungUp.into())));
            }
            match decoder.push(&self.buffer) {
                Ok(Progress::NeedMore) => {}
                Ok(Progress::Done { request, consumed }) => {
                    self.at = consumed;
                    return Ok(Ok(request));
                }
                Err(error) => return Ok(Err(Refused::new(&decoder, error))),
            }
        }
    }

    /// Reads what is left and drops it.
    pub(super) fn drain(&mut self) -> Result<(), Error> {
        let mut sink = vec![0; BUFFER_BYTES];
        let mut left = DRAIN_BYTES_MAX;
        loop {
            let count = read_some(self.inner, &mut sink).map_err(Error::Read)? as u64;
            if count == 0 {
                return Ok(());
            }
            left = left.checked_sub(count).ok_or_else(|| {
                Error::Read(io::Error::other(
                    "the client goes on sending a push that was refused",
                ))
            })?;
        }
    }
}

impl Read for Input<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let mut rest = self.buffer.get(self.at..).unwrap_or_default();
        if rest.is_empty() {
            return self.inner.read(out);
        }
        let count = rest.read(out)?;
        self.at += count;
        Ok(count)
    }
}

fn read_some(reader: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match reader.read(buffer) {
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
