//! The way to object storage: a range of a file, by PUT, to a presigned address that the address rule let pass.
//!
//! Guarantees: connects only to addresses that were vetted at that connection, follows no redirect, reads nothing of an answer
//! beyond its head, holds [`AHEAD`] pieces of the file in memory and two more, whatever its size, and ends: by the answer, by an error, or when
//! nothing moved for as long as [`Storage::new`] was told. With it ends the body, and the reading.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, Sleep};

use super::client::{ClientError, builder, chain, text};
use super::vetted::Vetted;
use crate::model::Network;
use crate::time::Wall;
use crate::wire::address::Target;
use crate::wire::answer::retry_after;

/// Bytes of a piece. At the least rate of 64 kbit/s one takes 8 s.
const PIECE: usize = 64 << 10;
/// Pieces that were read and wait; when full, the reading thread waits.
const AHEAD: usize = 4;
/// So many times the patience is left for the answer: what was handed over last may still lie in the kernel, minutes deep
/// on a slow line, and a storage that has it all may think about it.
const FOR_THE_ANSWER: u32 = 4;
/// One PUT never takes longer.
const LONGEST_PUT: Duration = Duration::from_secs(3600);

/// Says how long a piece of so many bytes has to wait.
pub type Throttle = Arc<dyn Fn(u64) -> Duration + Send + Sync>;

/// A client of the storage.
#[derive(Debug, Clone)]
pub struct Storage {
    http: reqwest::Client,
    patience: Duration,
}

/// What the storage said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// HTTP status.
    pub status: u16,
    /// `ETag`, as it came.
    pub etag: String,
    /// How long it asks to wait.
    pub retry_after: Option<Duration>,
}

/// A range of a file.
#[derive(Debug, Clone)]
pub struct Range {
    /// Open for reading.
    pub file: Arc<File>,
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
}

impl Storage {
    /// Builds the client. Nothing moving for `patience` ends a PUT, four times as long without an answer.
    ///
    /// # Errors
    /// [`ClientError::Setup`].
    pub fn new(
        tls: rustls::ClientConfig,
        allowed: &[Network],
        patience: Duration,
    ) -> Result<Storage, ClientError> {
        let http = builder(tls, LONGEST_PUT, 1)
            .dns_resolver(Arc::new(Vetted(allowed.into())))
            .build()
            .map_err(|e| ClientError::Setup(chain(&e)))?;
        Ok(Storage { http, patience })
    }

    /// Sends a range. `moved` counts the bytes that were handed to the connection, also when it fails, and tells when
    /// that was the last of them: what follows can be got ready while the storage thinks about its answer.
    ///
    /// # Errors
    /// [`ClientError`] where no answer came; its text has no address, which is a key.
    pub async fn put(
        &self,
        target: &Target,
        headers: &[(String, String)],
        reading: Reading,
        throttle: Throttle,
        moved: Arc<Moved>,
        now: Wall,
    ) -> Result<Stored, ClientError> {
        let progress = Arc::clone(&moved);
        let size = reading.size;
        let reading = Arc::new(Mutex::new(Some(reading)));
        let _ends = Ends(Arc::clone(&reading));
        let body = Pieces {
            reading,
            left: size,
            throttle,
            moved,
            waiting: None,
        };
        let mut request = self
            .http
            .put(target.url.clone())
            .body(reqwest::Body::wrap(body));
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request.send();
        tokio::pin!(request);
        let mut seen = (progress.bytes(), Instant::now());
        loop {
            tokio::select! {
                answer = &mut request => {
                    let answer = answer.map_err(|e| ClientError::NoAnswer(chain(&e.without_url())))?;
                    return Ok(Stored {
                        status: answer.status().as_u16(),
                        etag: text(answer.headers(), "etag").to_owned(),
                        retry_after: retry_after(text(answer.headers(), "retry-after"), now),
                    });
                }
                () = tokio::time::sleep(self.patience / 4) => {
                    let now = progress.bytes();
                    if now != seen.0 {
                        seen = (now, Instant::now());
                    } else {
                        let patience = self.patience * if now == size { FOR_THE_ANSWER } else { 1 };
                        if seen.1.elapsed() >= patience {
                            return Err(ClientError::TimedOut(patience));
                        }
                    }
                }
            }
        }
    }
}

/// How far a PUT is.
#[derive(Debug, Default)]
pub struct Moved {
    bytes: AtomicU64,
    whole: Notify,
}

impl Moved {
    /// Bytes that were handed to the connection.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Comes when all of them were; never, where the PUT fails before.
    pub async fn whole(&self) {
        self.whole.notified().await;
    }
}

/// A range on its way from the disk, by a thread, one piece at a time, so that a slow disk holds up nothing else.
#[derive(Debug)]
pub struct Reading {
    size: u64,
    read: mpsc::Receiver<io::Result<Bytes>>,
}

impl Reading {
    /// Begins to read. At most [`AHEAD`] pieces wait; dropped, it ends.
    pub fn start(range: Range) -> Reading {
        let (pieces, read) = mpsc::channel(AHEAD);
        let (mut at, end) = (range.offset, range.offset + range.size);
        tokio::task::spawn_blocking(move || {
            while at < end {
                let mut piece = vec![0; PIECE.min((end - at) as usize)];
                let outcome = range.file.read_exact_at(&mut piece, at);
                at += piece.len() as u64;
                let failed = outcome.is_err();
                // Whoever wanted it is gone, or told.
                if pieces
                    .blocking_send(outcome.map(|()| piece.into()))
                    .is_err()
                    || failed
                {
                    break;
                }
            }
        });
        let size = range.size;
        Reading { size, read }
    }
}

/// Shared with the connection, which may hold on to a body whose answer has come already.
type Shared = Arc<Mutex<Option<Reading>>>;

/// Ends the reading when the PUT is over, however it ended.
struct Ends(Shared);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// The body.
struct Pieces {
    reading: Shared,
    /// Bytes that the connection has not got yet.
    left: u64,
    throttle: Throttle,
    moved: Arc<Moved>,
    waiting: Option<(Pin<Box<Sleep>>, Bytes)>,
}

impl Pieces {
    fn hand_over(&mut self, piece: Bytes) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.left = self.left.saturating_sub(piece.len() as u64);
        self.moved
            .bytes
            .fetch_add(piece.len() as u64, Ordering::Relaxed);
        if self.left == 0 {
            self.moved.whole.notify_one();
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if let Some((pause, _)) = &mut self.waiting {
            ready!(pause.as_mut().poll(cx));
            if let Some((_, piece)) = self.waiting.take() {
                return self.hand_over(piece);
            }
        }
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let read = match &mut *self.reading.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(reading) => ready!(reading.read.poll_recv(cx)),
            None => return Poll::Ready(Some(Err(io::ErrorKind::ConnectionAborted.into()))),
        };
        let piece = match read {
            Some(Ok(piece)) => piece,
            Some(Err(e)) => return Poll::Ready(Some(Err(e))),
            None => return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into()))),
        };
        let wait = (self.throttle)(piece.len() as u64);
        if wait.is_zero() {
            return self.hand_over(piece);
        }
        let mut pause = Box::pin(tokio::time::sleep(wait));
        if pause.as_mut().poll(cx).is_ready() {
            return self.hand_over(piece);
        }
        self.waiting = Some((pause, piece));
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0 && self.waiting.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
