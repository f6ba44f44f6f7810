//! Misbehaviour of the object storage: what networks, proxies and storages do to an upload.
//!
//! Rules as in the rest of the fault layer, on `"<METHOD> /<bucket>/<key>"` (so `"PUT /"` is every PUT).
//! What was seen counts the bytes of a body that arrived, so that tests can tell what was sent twice.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body::{Body as _, Frame, SizeHint};
use serde::{Deserialize, Serialize};
use tokio::time::Sleep;

use super::Rule;
use super::cut::Cut;
use super::rule::Live;

/// Most requests remembered.
const MAX_SEEN: usize = 100_000;

/// What to do to a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum What {
    /// Take the body, store nothing, answer this status with an error of S3.
    Fail {
        /// The status.
        status: u16,
    },
    /// 403, as for an address whose time is over.
    Expired,
    /// The body arrives at this rate.
    Slow {
        /// Bytes a second.
        rate: u64,
    },
    /// Read nothing, say nothing for so long, then cut the connection.
    BlackHole {
        /// Seconds.
        seconds: f64,
    },
    /// Cut the connection when so many bytes of the body have arrived.
    CutAt {
        /// Bytes.
        bytes: u64,
    },
    /// Store, then cut the connection instead of answering.
    CutAnswer,
    /// One bit of the body is another. A storage that is told the hash refuses it; a part has none.
    Corrupt,
    /// Answer 200 to a PUT and store nothing.
    Forget,
}

/// One request as the storage saw it.
#[derive(Debug, Clone, Serialize)]
pub struct Seen {
    /// Unix time.
    pub at: jiff::Timestamp,
    /// Method.
    pub method: String,
    /// `/<bucket>/<key>`.
    pub path: String,
    /// `partNumber` of the query.
    pub part: Option<u16>,
    /// Bytes of the body that arrived.
    pub body_bytes: u64,
    /// Status of the answer; none when the connection was cut or the answer is not out yet.
    pub status: Option<u16>,
    /// The rule that was used.
    pub fault: Option<What>,
}

#[derive(Debug, Default)]
struct Inner {
    rules: Vec<Live<What>>,
    seen: VecDeque<Seen>,
    dropped: usize,
}

/// The rules and what was seen. Clones are the same thing.
#[derive(Debug, Clone, Default)]
pub struct StorageFaults {
    inner: Arc<Mutex<Inner>>,
}

impl StorageFaults {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds one rule after the others.
    pub fn add(&self, rule: Rule<What>) {
        self.inner().rules.push(Live::new(rule));
    }

    /// Replaces all rules.
    pub fn set(&self, rules: Vec<Rule<What>>) {
        self.inner().rules = rules.into_iter().map(Live::new).collect();
    }

    /// Removes all rules.
    pub fn clear(&self) {
        self.inner().rules.clear();
    }

    /// How often each rule was used, in their order.
    pub fn hits(&self) -> Vec<u64> {
        self.inner().rules.iter().map(|rule| rule.hits).collect()
    }

    /// What was seen since the start or the last `forget`, oldest first.
    pub fn seen(&self) -> Vec<Seen> {
        self.inner().seen.iter().cloned().collect()
    }

    /// Bytes of bodies of PUTs that arrived, whether they were kept or not.
    pub fn put_bytes(&self) -> u64 {
        let inner = self.inner();
        let puts = inner.seen.iter().filter(|seen| seen.method == "PUT");
        puts.map(|seen| seen.body_bytes).sum()
    }

    /// Forgets what was seen.
    pub fn forget(&self) {
        let mut inner = self.inner();
        inner.dropped += inner.seen.len();
        inner.seen.clear();
    }

    /// Notes a request and picks its fault.
    pub(crate) fn begin(&self, request: &axum::http::request::Parts) -> Noted {
        let (method, path) = (request.method.as_str(), request.uri.path());
        let subject = format!("{method} {path}");
        let part = request.uri.query().and_then(|query| {
            let value = query
                .split('&')
                .find_map(|pair| pair.strip_prefix("partNumber="));
            value?.parse().ok()
        });
        let mut inner = self.inner();
        let fault = inner.rules.iter_mut().find_map(|rule| rule.pick(&subject));
        if inner.seen.len() == MAX_SEEN {
            inner.seen.pop_front();
            inner.dropped += 1;
        }
        inner.seen.push_back(Seen {
            at: jiff::Timestamp::now(),
            method: method.to_owned(),
            path: path.to_owned(),
            part,
            body_bytes: 0,
            status: None,
            fault: fault.clone(),
        });
        Noted {
            faults: self.clone(),
            number: inner.dropped + inner.seen.len() - 1,
            fault,
        }
    }
}

/// A request that was noted.
#[derive(Debug, Clone)]
pub(crate) struct Noted {
    faults: StorageFaults,
    number: usize,
    pub(crate) fault: Option<What>,
}

impl Noted {
    fn change(&self, change: impl FnOnce(&mut Seen)) {
        let mut inner = self.faults.inner();
        let at = self.number.checked_sub(inner.dropped);
        if let Some(seen) = at.and_then(|at| inner.seen.get_mut(at)) {
            change(seen);
        }
    }

    pub(crate) fn answered(&self, status: StatusCode) {
        self.change(|seen| seen.status = Some(status.as_u16()));
    }

    /// The answer that a rule gives instead of the storage's.
    pub(crate) async fn instead(&self, body: Body, cut: &Cut) -> Result<Body, Response> {
        match &self.fault {
            Some(What::BlackHole { seconds }) => {
                tokio::time::sleep(Duration::from_secs_f64(seconds.clamp(0.0, 86_400.0))).await;
                cut.cut();
                Err(StatusCode::SERVICE_UNAVAILABLE.into_response())
            }
            Some(What::Fail { status }) => {
                drain(self.watch(body, cut)).await;
                let status = StatusCode::from_u16(*status);
                let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                Err(error(status, "InternalError"))
            }
            Some(What::Expired) => {
                drain(self.watch(body, cut)).await;
                Err(error(StatusCode::FORBIDDEN, "AccessDenied"))
            }
            Some(What::Forget) => {
                drain(self.watch(body, cut)).await;
                let etag = [(header::ETAG, "\"d41d8cd98f00b204e9800998ecf8427e\"")];
                Err((StatusCode::OK, etag).into_response())
            }
            _ => Ok(self.watch(body, cut)),
        }
    }

    /// The body, counted and mistreated.
    fn watch(&self, body: Body, cut: &Cut) -> Body {
        Body::new(Watched {
            inner: body,
            noted: self.clone(),
            cut: cut.clone(),
            arrived: 0,
            pause: None,
        })
    }
}

/// An error as S3 words it.
fn error(status: StatusCode, code: &str) -> Response {
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code><Message>a fault was asked for</Message></Error>"
    );
    (status, [(header::CONTENT_TYPE, "application/xml")], text).into_response()
}

/// A client that is still sending when the connection closes sees a reset, not the answer.
async fn drain(mut body: Body) {
    while let Some(Ok(_)) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {}
}

struct Watched {
    inner: Body,
    noted: Noted,
    cut: Cut,
    arrived: u64,
    pause: Option<Pin<Box<Sleep>>>,
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Some(pause) = &mut self.pause {
            std::task::ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        let frame = match std::task::ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
            None => return Poll::Ready(None),
            Some(Err(error)) => return Poll::Ready(Some(Err(io::Error::other(error)))),
            Some(Ok(frame)) => frame,
        };
        let Ok(mut data) = frame.into_data() else {
            return Poll::Ready(Some(Ok(Frame::data(Bytes::new()))));
        };
        let first = self.arrived == 0;
        self.arrived += data.len() as u64;
        let arrived = self.arrived;
        self.noted.change(|seen| seen.body_bytes = arrived);
        match &self.noted.fault {
            Some(What::CutAt { bytes }) if arrived >= *bytes => {
                self.cut.cut();
                return Poll::Ready(Some(Err(io::ErrorKind::ConnectionReset.into())));
            }
            Some(What::Slow { rate }) => {
                let time = data.len() as f64 / (*rate).max(1) as f64;
                self.pause = Some(Box::pin(tokio::time::sleep(Duration::from_secs_f64(time))));
            }
            Some(What::Corrupt) if first && !data.is_empty() => {
                let mut changed = data.to_vec();
                if let Some(byte) = changed.first_mut() {
                    *byte ^= 1;
                }
                data = changed.into();
            }
            _ => {}
        }
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
