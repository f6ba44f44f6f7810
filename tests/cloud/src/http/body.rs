//! Reading a request's body within a bound, and the rest of a body that is too large.
//!
//! A client that is still sending when the connection closes sees a reset, not the 413 it should act on;
//! so up to `MAX_DRAINED` bytes more are read and thrown away before the answer.

use std::future::poll_fn;
use std::pin::Pin;

use axum::body::{Body, Bytes};
use http_body::Body as _;

/// Most bytes that are read for politeness.
const MAX_DRAINED: usize = 8 * 1024 * 1024;

/// The body is larger than allowed, or broke off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the body is too large or incomplete")]
pub struct BodyError;

/// Reads a body of at most `limit` bytes.
///
/// # Errors
/// When it is larger, or the connection broke.
pub async fn read(mut body: Body, limit: usize) -> Result<Bytes, BodyError> {
    let mut bytes = Vec::new();
    let mut total = 0_usize;
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let Ok(data) = frame.map_err(|_| BodyError)?.into_data() else {
            continue;
        };
        total = total.saturating_add(data.len());
        if total > MAX_DRAINED {
            return Err(BodyError);
        }
        if total <= limit {
            bytes.extend_from_slice(&data);
        } else {
            bytes = Vec::new();
        }
    }
    if total > limit {
        Err(BodyError)
    } else {
        Ok(bytes.into())
    }
}
