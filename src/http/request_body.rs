//! The body of a request, for engines that know neither hyper nor async.
//!
//! Owns collecting a fetch's request, handing a push's request on as [`Read`], inflating both, and taking what is left
//! of a body that nobody reads. Invariants: a bound on bytes before and after inflation; a limit on the time since the
//! last byte, none on the whole; a body that was cut short is an error and never an end of file.
//!
//! The first poll of a hyper body is what sends `100 Continue`, so nothing here runs before the gate has let the
//! request in.

use std::io::{self, Read};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use flate2::bufread::MultiGzDecoder;
use http_body::Body;
use http_body_util::BodyExt;
use hyper::HeaderMap;
use hyper::header::CONTENT_ENCODING;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::running::Cut;
use crate::telemetry::Record;

/// Frames between the socket and a push's engine: enough to cover the engine's pauses, at most a few hundred KiB.
const FRAMES_QUEUED_MAX: usize = 8;

/// Bytes of an unread body that are taken so that the client, which reads only after it has written, sees the answer.
const DRAIN_BYTES_MAX: u64 = 256 << 20;

/// How long that may take.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(30);

/// Bytes that are taken before an answer, where that has to come first; more than git puts into a request at once.
const DRAIN_FIRST_BYTES_MAX: u64 = 2 << 20;

/// How long that may take.
const DRAIN_FIRST_TIME_MAX: Duration = Duration::from_secs(5);

/// Why a request's body could not be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The connection broke, or the body breaks HTTP.
    #[error("the request body was cut short")]
    Broken,
    /// `Content-Encoding: gzip`, and it is not.
    #[error("the request body is not valid gzip")]
    Gzip,
    /// Neither gzip nor nothing.
    #[error("the request body has an encoding other than gzip")]
    Encoding,
    /// Nothing came for too long.
    #[error("the request body stalled")]
    Stalled,
    /// More bytes than this request may have, as sent or inflated.
    #[error("the request body is too large")]
    TooLarge,
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match error {
            Error::Broken => io::ErrorKind::ConnectionReset,
            Error::Gzip | Error::Encoding => io::ErrorKind::InvalidData,
            Error::Stalled => io::ErrorKind::TimedOut,
            Error::TooLarge => io::ErrorKind::FileTooLarge,
        };
        io::Error::new(kind, error)
    }
}

/// How a body is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// As it is.
    Identity,
    /// `gzip` or `x-gzip`; git sends requests of more than 1 KiB so.
    Gzip,
}

impl Encoding {
    /// Reads `Content-Encoding`.
    ///
    /// # Errors
    ///
    /// Anything but one of `gzip`, `x-gzip` and `identity`, in any case of letters.
    pub fn from_headers(headers: &HeaderMap) -> Result<Self, Error> {
        let mut values = headers.get_all(CONTENT_ENCODING).iter();
        match (
            values.next().map(|value| value.as_bytes().trim_ascii()),
            values.next(),
        ) {
            (None, _) => Ok(Encoding::Identity),
            (Some(one), None) if one.is_empty() || one.eq_ignore_ascii_case(b"identity") => {
                Ok(Encoding::Identity)
            }
            (Some(one), None) if one.eq_ignore_ascii_case(b"gzip") || one.eq_ignore_ascii_case(b"x-gzip") => {
                Ok(Encoding::Gzip)
            }
            _ => Err(Error::Encoding),
        }
    }
}

/// Waits for the next data of `body`; `None` at its end.
async fn next_data<B>(body: &mut B, stall_max: Duration, record: &Record) -> Result<Option<Bytes>, Error>
where
    B: Body<Data = Bytes> + Unpin,
{
    loop {
        match timeout(stall_max, body.frame()).await {
            Err(_elapsed) => return Err(Error::Stalled),
            Ok(None) => return Ok(None),
            Ok(Some(Err(_))) => return Err(Error::Broken),
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    record.count_in(data.len());
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// Collects a whole body of at most `bytes_max` bytes, as sent.
///
/// # Errors
///
/// When it is larger, cut short, or nothing came for `stall_max`.
pub async fn collect<B>(
    body: &mut B,
    bytes_max: usize,
    stall_max: Duration,
    record: &Record,
) -> Result<Bytes, Error>
where
    B: Body<Data = Bytes> + Unpin,
{
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(Error::TooLarge);
    }
    let Some(first) = next_data(body, stall_max, record).await? else {
        return Ok(Bytes::new());
    };
    let mut whole = BytesMut::new();
    let mut next = Some(first);
    while let Some(data) = next {
        if data.len() > bytes_max.saturating_sub(whole.len()) {
            return Err(Error::TooLarge);
        }
        next = next_data(body, stall_max, record).await?;
        if next.is_none() && whole.is_empty() {
            return Ok(data);
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}

/// Collects a whole body as [`collect`] does, if all of it is there within `whole_max`: whoever sends it a byte at a time
/// does not hold on for ever to what it was let in for.
///
/// # Errors
///
/// As [`collect`]; [`Error::Stalled`] after `whole_max`.
pub async fn collect_within<B>(
    body: &mut B,
    bytes_max: usize,
    (stall_max, whole_max): (Duration, Duration),
    record: &Record,
) -> Result<Bytes, Error>
where
    B: Body<Data = Bytes> + Unpin,
{
    timeout(whole_max, collect(body, bytes_max, stall_max, record))
        .await
        .unwrap_or(Err(Error::Stalled))
}

/// Undoes `encoding`; the result has at most `bytes_max` bytes.
///
/// # Errors
///
/// When it would be larger or is not gzip.
///
/// # Blocking
///
/// Inflates; call it where an engine may run.
pub fn decode(body: Bytes, encoding: Encoding, bytes_max: usize) -> Result<Bytes, Error> {
    match encoding {
        Encoding::Identity => Ok(body),
        Encoding::Gzip => {
            let mut inflated = Vec::new();
            let read_max = (bytes_max as u64).saturating_add(1);
            let read = MultiGzDecoder::new(body.as_ref())
                .take(read_max)
                .read_to_end(&mut inflated);
            read.map_err(|_| Error::Gzip)?;
            if inflated.len() > bytes_max {
                Err(Error::TooLarge)
            } else {
                Ok(inflated.into())
            }
        }
    }
}

/// What passes from the socket to the reader.
enum Part {
    Data(Bytes),
    End,
    Failed(Error),
}

/// Tells how far a request has come; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Arrival(Arc<Arriving>);

#[derive(Debug, Default)]
struct Arriving {
    is_complete: AtomicBool,
    over: CancellationToken,
}

impl Arrival {
    /// Tells whether the last byte has come in: from then on a push goes on without its client.
    pub fn is_complete(&self) -> bool {
        self.0.is_complete.load(Ordering::Acquire)
    }

    /// Waits until nothing more of the request is taken in: because it is all there, or was given up.
    pub async fn over(self) {
        self.0.over.cancelled().await;
    }

    /// Makes one that has happened.
    #[cfg(test)]
    pub fn arrived() -> Self {
        let arrival = Arrival::default();
        arrival.0.is_complete.store(true, Ordering::Release);
        arrival.give_up();
        arrival
    }

    /// Ends it, whatever has come.
    #[cfg(test)]
    pub fn give_up(&self) {
        self.0.over.cancel();
    }
}

/// The decoded body of a push as a blocking reader.
///
/// # Blocking
///
/// Reading waits for the client; use it on a thread that may block.
pub struct RequestReader {
    inner: Decoded,
    left: u64,
    failure: Option<Error>,
}

impl RequestReader {
    /// Tells why reading failed, if it did: whatever an engine makes of it, the client is at fault.
    pub fn failure(&self) -> Option<Error> {
        self.failure
    }

    fn fail(&mut self, error: Error) -> io::Error {
        self.failure = Some(error);
        error.into()
    }
}

enum Decoded {
    Identity(Parts),
    /// Not begun: making the decoder reads the header of the stream, which blocks.
    Packed(Option<Parts>),
    Gzip(Box<MultiGzDecoder<io::BufReader<Parts>>>),
}

/// Bytes that the decoder takes at once.
const GZIP_BUFFER_BYTES: usize = 64 << 10;

impl Read for RequestReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if let Decoded::Packed(parts) = &mut self.inner
            && let Some(parts) = parts.take()
        {
            let buffered = io::BufReader::with_capacity(GZIP_BUFFER_BYTES, parts);
            self.inner = Decoded::Gzip(Box::new(MultiGzDecoder::new(buffered)));
        }
        let read = match &mut self.inner {
            Decoded::Identity(parts) => parts.read(out),
            Decoded::Packed(_) => Ok(0),
            Decoded::Gzip(decoder) => decoder.read(out),
        };
        let read = read.map_err(|error| {
            let wire = error
                .get_ref()
                .and_then(|inner| inner.downcast_ref::<Error>())
                .copied();
            self.fail(wire.unwrap_or(Error::Gzip))
        })?;
        match self.left.checked_sub(read as u64) {
            Some(left) => self.left = left,
            None => return Err(self.fail(Error::TooLarge)),
        }
        Ok(read)
    }
}

/// The body as sent.
struct Parts {
    queue: mpsc::Receiver<Part>,
    current: Bytes,
    ended: Option<Result<(), Error>>,
}

impl Read for Parts {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.ended {
                Some(Ok(())) => return Ok(0),
                Some(Err(error)) => return Err(error.into()),
                None => match self.queue.blocking_recv() {
                    Some(Part::Data(data)) => self.current = data,
                    Some(Part::End) => self.ended = Some(Ok(())),
                    Some(Part::Failed(error)) => self.ended = Some(Err(error)),
                    None => self.ended = Some(Err(Error::Broken)),
                },
            }
        }
        let length = out.len().min(self.current.len());
        self.current
            .split_to(length)
            .copy_to_slice(out.split_at_mut(length).0);
        Ok(length)
    }
}

/// The half that moves a body from its socket into the reader's queue; run it as a task of its own.
pub struct Pump<B> {
    body: B,
    queue: mpsc::Sender<Part>,
    arrival: Arrival,
    /// Says that the arrival is over.
    _over: DropGuard,
    wire_bytes_max: u64,
    stall_max: Duration,
    cut: Cut,
    record: Arc<Record>,
}

/// Joins `body` to a reader of at most `bytes_max` decoded bytes, which ends when the transfer is `cut`.
///
/// Encoded bytes have the same bound: what does not shrink when it is packed is no use to pack.
pub fn stream<B>(
    body: B,
    encoding: Encoding,
    bytes_max: u64,
    stall_max: Duration,
    cut: Cut,
    record: Arc<Record>,
) -> (Pump<B>, RequestReader, Arrival)
where
    B: Body<Data = Bytes> + Unpin,
{
    let (sender, queue) = mpsc::channel(FRAMES_QUEUED_MAX);
    let arrival = Arrival::default();
    let parts = Parts {
        queue,
        current: Bytes::new(),
        ended: None,
    };
    let inner = match encoding {
        Encoding::Identity => Decoded::Identity(parts),
        Encoding::Gzip => Decoded::Packed(Some(parts)),
    };
    let pump = Pump {
        body,
        queue: sender,
        _over: arrival.0.over.clone().drop_guard(),
        arrival: arrival.clone(),
        wire_bytes_max: bytes_max,
        stall_max,
        cut,
        record,
    };
    (
        pump,
        RequestReader {
            inner,
            left: bytes_max,
            failure: None,
        },
        arrival,
    )
}

impl<B: Body<Data = Bytes> + Unpin> Pump<B> {
    /// Moves the body until its end, a failure, a cut, or until the reader is gone; what is left then is drained.
    pub async fn run(mut self) {
        let cut = self.cut.clone();
        if cut.or(self.move_all()).await.unwrap_or(true) {
            // A reader that waits wakes: nothing more comes.
            drop(self.queue);
            drain(self.body).await;
        }
    }

    /// Moves the body; true if some of it is left.
    async fn move_all(&mut self) -> bool {
        let mut wire_bytes = 0u64;
        loop {
            let part = match next_data(&mut self.body, self.stall_max, &self.record).await {
                Ok(Some(data)) => {
                    wire_bytes = wire_bytes.saturating_add(data.len() as u64);
                    if wire_bytes > self.wire_bytes_max {
                        Part::Failed(Error::TooLarge)
                    } else {
                        Part::Data(data)
                    }
                }
                Ok(None) => {
                    self.arrival.0.is_complete.store(true, Ordering::Release);
                    Part::End
                }
                Err(error) => Part::Failed(error),
            };
            let is_last = !matches!(part, Part::Data(_));
            let has_more = matches!(part, Part::Data(_) | Part::Failed(Error::TooLarge));
            let reader_is_gone = self.queue.send(part).await.is_err();
            if is_last || reader_is_gone {
                return has_more;
            }
        }
    }
}

/// Takes and forgets what is left of `body`, within a bound of bytes and time.
///
/// A client that still writes when its connection closes loses the answer that was sent to it.
pub async fn drain<B: Body<Data = Bytes> + Unpin>(body: B) {
    take_and_forget(body, DRAIN_BYTES_MAX, DRAIN_TIME_MAX).await;
}

/// Takes and forgets what is left of `body` before an answer is sent, within smaller bounds than [`drain`].
pub async fn drain_first<B: Body<Data = Bytes> + Unpin>(body: B) {
    take_and_forget(body, DRAIN_FIRST_BYTES_MAX, DRAIN_FIRST_TIME_MAX).await;
}

async fn take_and_forget<B: Body<Data = Bytes> + Unpin>(body: B, bytes_max: u64, time_max: Duration) {
    let mut body = pin!(body);
    let deadline = Instant::now() + time_max;
    let mut left = bytes_max;
    while let Ok(Some(Ok(frame))) = timeout_at(deadline, body.frame()).await {
        let length = frame.data_ref().map_or(0, Bytes::len) as u64;
        match left.checked_sub(length) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::io::Write;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use flate2::{Compression, write::GzEncoder};
    use http_body::Frame;
    use http_body_util::Full;

    use super::*;
    use crate::http::error::HttpError;

    const STALL: Duration = Duration::from_secs(5);

    fn gzip(data: &[u8]) -> Bytes {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap().into()
    }

    /// A body of prepared parts that ends after them, or stays silent.
    struct Frames {
        parts: VecDeque<Result<&'static [u8], io::Error>>,
        stays_open: bool,
    }

    impl Body for Frames {
        type Data = Bytes;
        type Error = io::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
            match self.parts.pop_front() {
                None if self.stays_open => Poll::Pending,
                part => Poll::Ready(part.map(|data| data.map(|data| Frame::data(Bytes::from_static(data))))),
            }
        }
    }

    fn frames(parts: Vec<Result<&'static [u8], io::Error>>, stays_open: bool) -> Frames {
        Frames {
            parts: parts.into(),
            stays_open,
        }
    }

    #[tokio::test]
    async fn a_body_is_collected_up_to_its_bound() {
        let record = Record::for_tests();
        let ok = collect(&mut frames(vec![Ok(b"ab"), Ok(b"cd")], false), 4, STALL, &record).await;
        assert_eq!(ok.unwrap(), "abcd");
        let large = collect(&mut frames(vec![Ok(b"ab"), Ok(b"cd")], false), 3, STALL, &record).await;
        assert_eq!(large, Err(Error::TooLarge));
        let announced = collect(&mut Full::new(Bytes::from_static(b"abcd")), 3, STALL, &record).await;
        assert_eq!(announced, Err(Error::TooLarge));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stalls_or_breaks_is_an_error() {
        let record = Record::for_tests();
        let stalled = collect(&mut frames(vec![Ok(b"ab")], true), 10, STALL, &record).await;
        assert_eq!(stalled, Err(Error::Stalled));
        let broken = vec![Ok(&b"ab"[..]), Err(io::ErrorKind::ConnectionReset.into())];
        assert_eq!(
            collect(&mut frames(broken, false), 10, STALL, &record).await,
            Err(Error::Broken)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_trickles_must_be_there_in_time_all_the_same() {
        /// A byte each time that this ends.
        struct Trickle(Pin<Box<tokio::time::Sleep>>);
        impl Body for Trickle {
            type Data = Bytes;
            type Error = io::Error;

            fn poll_frame(
                mut self: Pin<&mut Self>,
                cx: &mut Context<'_>,
            ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
                std::task::ready!(self.0.as_mut().poll(cx));
                self.0.as_mut().reset(Instant::now() + STALL / 2);
                Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"x")))))
            }
        }
        let record = Record::for_tests();
        let began = Instant::now();
        let whole_max = STALL * 4;
        let mut trickle = Trickle(Box::pin(tokio::time::sleep(STALL / 2)));
        let late = collect_within(&mut trickle, 1000, (STALL, whole_max), &record).await;
        assert_eq!(late, Err(Error::Stalled));
        assert_eq!(began.elapsed(), whole_max);
        let ok = collect_within(
            &mut frames(vec![Ok(b"ab")], false),
            10,
            (STALL, whole_max),
            &record,
        )
        .await;
        assert_eq!(ok.unwrap(), "ab");
    }

    #[test]
    fn gzip_is_inflated_within_a_bound() {
        let bomb = gzip(&vec![0; 10 << 20]);
        assert!(bomb.len() < 20_000);
        assert_eq!(decode(bomb, Encoding::Gzip, 1 << 20), Err(Error::TooLarge));
        assert_eq!(
            decode(gzip(b"0000"), Encoding::Gzip, 4),
            Ok(Bytes::from_static(b"0000"))
        );
        assert_eq!(
            decode(Bytes::from_static(b"0000"), Encoding::Gzip, 4),
            Err(Error::Gzip)
        );
        let cut = gzip(b"hello").slice(..12);
        assert_eq!(decode(cut, Encoding::Gzip, 100), Err(Error::Gzip));
    }

    #[test]
    fn encodings_other_than_gzip_are_refused() {
        let headers = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_ENCODING, hyper::header::HeaderValue::from_static(value));
            Encoding::from_headers(&headers)
        };
        assert_eq!(headers("GZip"), Ok(Encoding::Gzip));
        assert_eq!(headers("x-gzip"), Ok(Encoding::Gzip));
        assert_eq!(headers("identity"), Ok(Encoding::Identity));
        assert_eq!(headers("br"), Err(Error::Encoding));
        assert_eq!(headers("gzip, gzip"), Err(Error::Encoding));
        assert_eq!(Encoding::from_headers(&HeaderMap::new()), Ok(Encoding::Identity));
    }

    async fn read_all(
        body: impl Body<Data = Bytes, Error = io::Error> + Unpin + Send + 'static,
        encoding: Encoding,
        bytes_max: u64,
    ) -> (Result<Vec<u8>, io::ErrorKind>, bool) {
        let (cut, record) = (Cut::default(), Record::for_tests());
        let (pump, mut reader, arrival) = stream(body, encoding, bytes_max, STALL, cut, record);
        let pump = tokio::spawn(pump.run());
        let read = tokio::task::spawn_blocking(move || {
            let mut out = Vec::new();
            reader
                .read_to_end(&mut out)
                .map(|_| out)
                .map_err(|error| error.kind())
        });
        let read = read.await.unwrap();
        pump.await.unwrap();
        (read, arrival.is_complete())
    }

    #[tokio::test]
    async fn a_reader_sees_the_decoded_body_and_its_end() {
        assert_eq!(
            read_all(
                frames(vec![Ok(b"ab"), Ok(b""), Ok(b"cd")], false),
                Encoding::Identity,
                4
            )
            .await,
            (Ok(b"abcd".to_vec()), true)
        );
        let zipped: &'static [u8] = Box::leak(gzip(b"hello").to_vec().into_boxed_slice());
        let (head, tail) = zipped.split_at(7);
        assert_eq!(
            read_all(frames(vec![Ok(head), Ok(tail)], false), Encoding::Gzip, 100).await,
            (Ok(b"hello".to_vec()), true)
        );
    }

    #[tokio::test]
    async fn a_reader_never_takes_a_failure_for_the_end() {
        let broken = vec![Ok(&b"ab"[..]), Err(io::ErrorKind::Other.into())];
        assert_eq!(
            read_all(frames(broken, false), Encoding::Identity, 10).await,
            (Err(io::ErrorKind::ConnectionReset), false)
        );
        assert_eq!(
            read_all(frames(vec![Ok(b"abc")], false), Encoding::Identity, 2)
                .await
                .0,
            Err(io::ErrorKind::FileTooLarge)
        );
        let bomb: &'static [u8] = Box::leak(gzip(&vec![0; 1 << 20]).to_vec().into_boxed_slice());
        assert_eq!(
            read_all(frames(vec![Ok(bomb)], false), Encoding::Gzip, 65536)
                .await
                .0,
            Err(io::ErrorKind::FileTooLarge)
        );
    }

    #[tokio::test]
    async fn a_reader_that_waits_for_a_silent_client_wakes_when_the_transfer_is_cut() {
        let (cut, record) = (Cut::default(), Record::for_tests());
        let body = frames(vec![Ok(b"ab")], true);
        let (pump, mut reader, arrival) =
            stream(body, Encoding::Identity, 10, Duration::MAX, cut.clone(), record);
        let pump = tokio::spawn(pump.run());
        let (first, seen) = tokio::sync::oneshot::channel();
        let read = tokio::task::spawn_blocking(move || {
            let mut bytes = [0; 2];
            reader.read_exact(&mut bytes).unwrap();
            first.send(bytes).unwrap();
            reader.read(&mut bytes).map_err(|error| error.kind())
        });
        assert_eq!(&seen.await.unwrap(), b"ab");
        cut.happen(HttpError::forbidden("No more."));
        assert_eq!(read.await.unwrap(), Err(io::ErrorKind::ConnectionReset));
        assert!(!arrival.is_complete());
        // What still comes is taken and forgotten, so that the client can read its answer.
        assert!(!pump.is_finished());
        pump.abort();
        arrival.over().await;
    }
}
