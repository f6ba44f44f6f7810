//! What the cloud and the storage answer, and what follows from it (docs/protocol.md, "Uploads").
//!
//! Nothing of an answer is used before it is checked: ranges lie in the file, in order; headers are those that a presigned
//! PUT may have; the path of the completion is made here, of the id. An answer of success counts only with the cloud's
//! signature, so that a captive portal's "200" is no answer.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};
use uuid::Uuid;

/// Addresses of one answer; the contract says 32.
const MAX_PARTS: usize = 64;
const MAX_PART_NUMBER: u32 = 10_000;
const MAX_URL: usize = 4096;
const MAX_HEADERS: usize = 16;
const MAX_HEADER: usize = 1024;
/// Longest entity tag that is kept.
pub const MAX_ETAG: usize = 128;

/// Where uploads are begun.
pub const BEGIN_PATH: &str = "/edge/v1/uploads";

/// The path that ends an upload.
pub fn complete_path(id: Uuid) -> String {
    format!("{BEGIN_PATH}/{id}/complete")
}

/// The path by which one is given up.
pub fn abort_path(id: Uuid) -> String {
    format!("{BEGIN_PATH}/{id}")
}

/// A range of the file and where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// From 1.
    pub n: u32,
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
    /// Presigned; not checked against the address rule yet.
    pub url: String,
    /// Sent exactly so.
    pub headers: Vec<(String, String)>,
}

/// What is still to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begun {
    /// The cloud's id.
    pub upload_id: Uuid,
    /// In order.
    pub parts: Vec<Part>,
    /// More than one PUT in all.
    pub multipart: bool,
    /// More addresses come with the next question.
    pub more: bool,
}

/// What follows from the answer to a question about an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Send these, then complete.
    Send(Begun),
    /// The cloud has verified it.
    Available,
    /// Ask again after this, it is looked at.
    Soon(Duration),
    /// Ask for addresses again.
    Renew,
    /// What arrived was not the file: look at the file, begin anew.
    Mismatch,
    /// Never with this file: the code.
    Never(&'static str),
    /// Not now: nothing can be uploaded for so long, the word for people.
    Pause(Duration, &'static str),
    /// Backoff, or this wait that was asked for.
    Later(Option<Duration>),
}

/// An answer of the cloud, as far as it matters.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    /// HTTP status.
    pub status: u16,
    /// Problem code.
    pub code: &'a str,
    /// Signed by the cloud for this very request.
    pub authentic: bool,
    /// `Retry-After`.
    pub retry_after: Option<Duration>,
    /// Bounded by the client.
    pub body: &'a [u8],
}

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const AGAIN: Duration = Duration::from_secs(2);
/// Longest wait between two questions about a verification.
const LONGEST_LOOK: Duration = MINUTE;

/// What follows from the answer to `POST /edge/v1/uploads` about a file of `size` bytes.
pub fn after_begin(a: &Answer<'_>, size: u64) -> Next {
    match (a.status, a.code) {
        (200..=299, _) if !a.authentic => Next::Later(None),
        (200, _) => begun(a.body, size).unwrap_or(Next::Later(None)),
        (400, "malformed") => Next::Never("malformed"),
        (413, _) => Next::Never("too-large"),
        (404, "no-storage") => Next::Pause(HOUR, "no-storage"),
        (409, "conflict") => Next::Never("conflict"),
        (409, "upload-failed") => Next::Never("upload-failed"),
        (409, "in-progress") => Next::Soon(AGAIN),
        _ => common(a),
    }
}

/// What follows from the answer to the completion.
pub fn after_complete(a: &Answer<'_>, size: u64, sha256: &str) -> Next {
    match (a.status, a.code) {
        (200..=299, _) if !a.authentic => Next::Later(None),
        (200, _) => available(a.body, size, sha256).unwrap_or(Next::Later(None)),
        (202, _) => Next::Soon(a.retry_after.unwrap_or(AGAIN).min(LONGEST_LOOK)),
        (409, "incomplete") => Next::Renew,
        (409, "mismatch") => Next::Mismatch,
        (404, "unknown-upload") => Next::Renew,
        (409, "in-progress") => Next::Soon(AGAIN),
        (404, "no-storage") => Next::Pause(HOUR, "no-storage"),
        _ => common(a),
    }
}

/// What any request may be answered.
fn common(a: &Answer<'_>) -> Next {
    match a.status {
        // The uploader of records finds out what is wrong with the key, and when it is right again.
        401 if a.code == "clock-skew" || a.code == "replayed-nonce" => Next::Soon(AGAIN),
        401 => Next::Pause(5 * MINUTE, "auth"),
        403 => Next::Pause(15 * MINUTE, "suspended"),
        404 | 405 => Next::Pause(HOUR, "misconfigured"),
        410 => Next::Pause(HOUR, "unclaimed"),
        426 => Next::Pause(HOUR, "too-old"),
        _ => Next::Later(a.retry_after),
    }
}

/// What follows from the storage's answer to a PUT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// The next part.
    Next,
    /// The address is over.
    Expired,
    /// The storage forgot the upload: ask for addresses again.
    Forgotten,
    /// `complete` says what is there.
    Complete,
    /// Backoff, this part again.
    Again,
}

/// What follows from the status of a PUT. No redirect is followed: a 3xx is a failure like any other.
pub fn after_put(status: u16) -> Put {
    match status {
        200..=299 => Put::Next,
        403 => Put::Expired,
        404 => Put::Forgotten,
        400 | 412 => Put::Complete,
        _ => Put::Again,
    }
}

#[derive(Deserialize)]
struct RawBegun {
    upload_id: Uuid,
    status: String,
    #[serde(default)]
    multipart: bool,
    #[serde(default)]
    more_parts: u64,
    #[serde(default)]
    parts: Vec<RawPart>,
}

#[derive(Deserialize)]
struct RawPart {
    n: u32,
    offset: u64,
    size: u64,
    method: String,
    url: String,
    #[serde(default)]
    headers: Map<String, Value>,
}

fn begun(body: &[u8], size: u64) -> Option<Next> {
    let raw: RawBegun = serde_json::from_slice(body).ok()?;
    match raw.status.as_str() {
        "available" => return Some(Next::Available),
        "uploading" if raw.parts.len() <= MAX_PARTS => {}
        _ => return None,
    }
    let mut end = 0;
    let mut last = 0;
    let mut parts = Vec::with_capacity(raw.parts.len());
    for p in raw.parts {
        let stop = p.offset.checked_add(p.size)?;
        let in_order = p.n > last && p.n <= MAX_PART_NUMBER && p.offset >= end;
        let good =
            in_order && p.size > 0 && stop <= size && p.method == "PUT" && p.url.len() <= MAX_URL;
        if !good || p.headers.len() > MAX_HEADERS {
            return None;
        }
        (last, end) = (p.n, stop);
        parts.push(Part {
            n: p.n,
            offset: p.offset,
            size: p.size,
            url: p.url,
            headers: p.headers.into_iter().map(header).collect::<Option<_>>()?,
        });
    }
    let multipart = raw.multipart;
    if !multipart
        && parts
            .first()
            .is_some_and(|p| (p.offset, p.size) != (0, size))
    {
        return None;
    }
    Some(Next::Send(Begun {
        upload_id: raw.upload_id,
        more: raw.more_parts > 0,
        multipart,
        parts,
    }))
}

/// A header that a presigned PUT may have; anything that frames, routes or logs in is refused.
fn header((name, value): (String, Value)) -> Option<(String, String)> {
    let name = name.to_ascii_lowercase();
    let known = matches!(
        name.as_str(),
        "content-type" | "content-md5" | "if-none-match"
    );
    let value = value.as_str()?;
    let amz = name.strip_prefix("x-amz-").is_some_and(|rest| {
        !rest.is_empty()
            && rest
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    });
    let plain = value.len() <= MAX_HEADER && value.bytes().all(|b| (0x20..0x7f).contains(&b));
    ((known || amz) && name.len() <= 64 && plain).then(|| (name, value.to_owned()))
}

#[derive(Deserialize)]
struct RawAvailable {
    status: String,
    size: u64,
    sha256: String,
}

fn available(body: &[u8], size: u64, sha256: &str) -> Option<Next> {
    let raw: RawAvailable = serde_json::from_slice(body).ok()?;
    let same = raw.status == "available" && raw.size == size && raw.sha256 == sha256;
    Some(if same {
        Next::Available
    } else {
        Next::Mismatch
    })
}

/// An entity tag as it may be kept and said again.
pub fn etag(text: &str) -> Option<String> {
    let good =
        (1..=MAX_ETAG).contains(&text.len()) && text.bytes().all(|b| (0x21..0x7f).contains(&b));
    good.then(|| text.to_owned())
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
