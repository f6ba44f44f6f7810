//! Misbehaviour on purpose: what networks, proxies, captive portals and broken clouds do to a device.
//!
//! A list of rules, each with a path prefix, what to do, and how often (the first `times` requests, or a
//! seeded probability). The first rule that applies to a request is used. Without rules the layer only
//! notes what it saw, so that tests can count requests and bytes.

pub mod cut;
mod rule;
pub mod storage;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::put;
use serde_json::json;

use crate::clock::http_date;
use crate::http::App;
use crate::problem::{self, Problem};
use cut::Cut;
pub use rule::{Rule, What};

/// Most requests remembered.
const MAX_SEEN: usize = 100_000;
/// Most bytes of a request that is noted; more is refused by the routes anyway.
const MAX_BODY: usize = 4 * 1024 * 1024;

/// What the layer asks the handlers to do differently, for one request.
#[derive(Debug, Clone, Default)]
pub struct Injected {
    /// The clock is this many seconds ahead.
    pub skew_s: i64,
    /// Process the batch twice, answer the second time.
    pub duplicate: bool,
    /// Results, or commands, in reversed order.
    pub reorder: bool,
    /// Hand out hostile documents whose name begins so, after leaving some out.
    pub hostile: Option<(String, usize)>,
    /// Hand out commands again that have ended or expired.
    pub stale: bool,
    /// Store nothing, answer without results.
    pub empty_results: bool,
    /// Store nothing, answer `retry` for each record.
    pub retry_all: bool,
}

/// One request as the layer saw it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Seen {
    /// Unix time.
    pub at: jiff::Timestamp,
    /// Method.
    pub method: String,
    /// Path without query.
    pub path: String,
    /// Bytes of the body on the wire.
    pub request_bytes: usize,
    /// Status of the answer; none when the connection was cut or the answer is not out yet.
    pub status: Option<u16>,
    /// The rule that was used.
    pub fault: Option<What>,
}

#[derive(Debug, Default)]
struct Inner {
    rules: Vec<rule::Live>,
    seen: VecDeque<Seen>,
    dropped: usize,
}

/// The rules and what was seen. Clones are the same thing.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    inner: Arc<Mutex<Inner>>,
}

impl Faults {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces all rules.
    pub fn set(&self, rules: Vec<Rule>) {
        self.inner().rules = rules.into_iter().map(rule::Live::new).collect();
    }

    /// Adds one rule after the others.
    pub fn add(&self, rule: Rule) {
        self.inner().rules.push(rule::Live::new(rule));
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

    /// Requests seen whose path begins with this.
    pub fn count(&self, path: &str) -> usize {
        self.inner()
            .seen
            .iter()
            .filter(|seen| seen.path.starts_with(path))
            .count()
    }

    /// Forgets what was seen.
    pub fn forget(&self) {
        let mut inner = self.inner();
        inner.dropped += inner.seen.len();
        inner.seen.clear();
    }

    /// Notes a request and picks its fault; returns a number for `answered`.
    fn begin(&self, method: &str, path: &str, request_bytes: usize) -> (usize, Option<What>) {
        let mut inner = self.inner();
        let fault = inner.rules.iter_mut().find_map(|rule| rule.pick(path));
        if inner.seen.len() == MAX_SEEN {
            inner.seen.pop_front();
            inner.dropped += 1;
        }
        inner.seen.push_back(Seen {
            at: jiff::Timestamp::now(),
            method: method.to_owned(),
            path: path.to_owned(),
            request_bytes,
            status: None,
            fault: fault.clone(),
        });
        (inner.dropped + inner.seen.len() - 1, fault)
    }

    fn answered(&self, number: usize, status: u16) {
        let mut inner = self.inner();
        let at = number.checked_sub(inner.dropped);
        if let Some(seen) = at.and_then(|at| inner.seen.get_mut(at)) {
            seen.status = Some(status);
        }
    }
}

/// `GET`, `PUT` and `DELETE /faults`: the rules as JSON.
pub fn routes() -> Router<Arc<App>> {
    Router::new().route(
        "/faults",
        put(put_rules).get(get_rules).delete(delete_rules),
    )
}

async fn put_rules(State(app): State<Arc<App>>, body: Bytes) -> Response {
    let Some(faults) = &app.faults else {
        return Problem::not_found().into_response();
    };
    match serde_json::from_slice::<Vec<Rule>>(&body) {
        Ok(rules) => {
            tracing::info!(rules = rules.len(), "fault rules set");
            faults.set(rules);
            StatusCode::NO_CONTENT.into_response()
        }
        Err(error) => Problem::malformed(error.to_string()).into_response(),
    }
}

async fn get_rules(State(app): State<Arc<App>>) -> Response {
    let Some(faults) = &app.faults else {
        return Problem::not_found().into_response();
    };
    let inner = faults.inner();
    let rules: Vec<_> = inner
        .rules
        .iter()
        .map(|live| json!({ "rule": live.rule, "hits": live.hits }))
        .collect();
    let body = json!({ "rules": rules, "requests": inner.dropped + inner.seen.len() });
    axum::Json(body).into_response()
}

async fn delete_rules(State(app): State<Arc<App>>) -> StatusCode {
    if let Some(faults) = &app.faults {
        faults.clear();
    }
    StatusCode::NO_CONTENT
}

/// The layer around everything but `/faults`.
pub async fn layer(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let Some(faults) = &app.faults else {
        return next.run(request).await;
    };
    let path = request.uri().path().to_owned();
    if path == "/faults" {
        return next.run(request).await;
    }
    let cut = request
        .extensions()
        .get::<Cut>()
        .cloned()
        .unwrap_or_default();
    let (mut parts, body) = request.into_parts();
    let Ok(body) = crate::http::body::read(body, MAX_BODY).await else {
        return Problem::too_large("the body is far too large").into_response();
    };
    let (number, what) = faults.begin(parts.method.as_str(), &path, body.len());
    let Some(what) = what else {
        let response = next.run(Request::from_parts(parts, Body::from(body))).await;
        faults.answered(number, response.status().as_u16());
        return response;
    };
    tracing::info!(path, ?what, "fault injected");
    let mut injected = Injected::default();
    match &what {
        What::Skew { seconds } => injected.skew_s = *seconds,
        What::Duplicate => injected.duplicate = true,
        What::Reorder => injected.reorder = true,
        What::Stale => injected.stale = true,
        What::Hostile { name, skip } => injected.hostile = Some((name.clone(), *skip)),
        What::EmptyResults => injected.empty_results = true,
        What::RetryAll => injected.retry_all = true,
        _ => {}
    }
    parts.extensions.insert(injected);
    let request = Request::from_parts(parts, Body::from(body));
    let response = act(&what, request, next, &cut).await;
    if !cut.is_cut() {
        faults.answered(number, response.status().as_u16());
    }
    response
}

async fn act(what: &What, request: Request, next: Next, cut: &Cut) -> Response {
    match what {
        What::Fail {
            status,
            code,
            retry_after,
        } => {
            let code = code.as_deref().unwrap_or(rule::usual_code(*status));
            let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let mut response = problem::response(status, code, "a fault was asked for");
            if let Some(after) = retry_after.as_deref().and_then(|after| after.parse().ok()) {
                response.headers_mut().insert(header::RETRY_AFTER, after);
            }
            response
        }
        What::Hang { seconds } => {
            tokio::time::sleep(Duration::from_secs_f64(seconds.clamp(0.0, 86_400.0))).await;
            cut.cut();
            StatusCode::SERVICE_UNAVAILABLE.into_response()
        }
        What::Delay { seconds } => {
            tokio::time::sleep(Duration::from_secs_f64(seconds.clamp(0.0, 86_400.0))).await;
            next.run(request).await
        }
        What::CutBefore => {
            cut.cut();
            StatusCode::SERVICE_UNAVAILABLE.into_response()
        }
        What::CutAfterCommit => {
            let response = next.run(request).await;
            cut.cut();
            response
        }
        What::Garbage200 => (
            StatusCode::OK,
            [(header::CONTENT_TYPE, "application/json")],
            "{\"results\": [oops",
        )
            .into_response(),
        What::Html200 => html(
            StatusCode::OK,
            "<html><body>Welcome to the hotel</body></html>",
        ),
        What::Html502 => html(
            StatusCode::BAD_GATEWAY,
            "<html><body>Bad Gateway</body></html>",
        ),
        What::Truncated200 => truncated(next.run(request).await).await,
        What::Unsigned410 => {
            let detail = "the owner has given this device back";
            Problem::new(StatusCode::GONE, "unclaimed", detail).into_response()
        }
        What::UnsignedAnswer => {
            let mut response = next.run(request).await;
            response.headers_mut().remove(crate::signature::SIGNATURE);
            response
                .headers_mut()
                .remove(crate::signature::SIGNATURE_INPUT);
            response
        }
        What::AlteredDate { seconds } => {
            let mut response = next.run(request).await;
            let date =
                http_date(jiff::Timestamp::now() + jiff::SignedDuration::from_secs(*seconds));
            if let Ok(date) = date.parse() {
                response.headers_mut().insert(header::DATE, date);
            }
            response
        }
        What::Skew { .. }
        | What::Duplicate
        | What::Reorder
        | What::Stale
        | What::Hostile { .. }
        | What::EmptyResults
        | What::RetryAll => next.run(request).await,
    }
}

fn html(status: StatusCode, text: &'static str) -> Response {
    (status, [(header::CONTENT_TYPE, "text/html")], text).into_response()
}

/// The real answer, committed and signed, of which half arrives: `Content-Length` promises all of it.
async fn truncated(response: Response) -> Response {
    let (mut parts, body) = response.into_parts();
    let whole = axum::body::to_bytes(body, usize::MAX)
        .await
        .unwrap_or_default();
    parts
        .headers
        .insert(header::CONTENT_LENGTH, HeaderValue::from(whole.len()));
    let half = whole.slice(..whole.len() / 2);
    Response::from_parts(parts, Body::new(cut::Short::new(half, whole.len())))
}
