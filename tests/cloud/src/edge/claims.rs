//! The device's end of claiming and of key rotation: sections 3.6 and 8.3 over HTTP.
//!
//! The first three messages come from a box that has no key yet; the rest is behind the gate like every other
//! request.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, Extension, Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::json;
use super::verify::Caller;
use crate::claiming::{confirm, mqtt, open, poll, rotate};
use crate::faults::Injected;
use crate::http::App;
use crate::http::body;
use crate::problem::Problem;

/// Longest message of claiming.
const MAX_BYTES: usize = 8 * 1024;
/// A confirm waits so long for the broker: a device that is let in at its first try need not wait for its second.
const BROKER: Duration = Duration::from_secs(2);

/// Messages of a box without a key.
pub fn unsigned() -> Router<Arc<App>> {
    Router::new()
        .route("/edge/v1/claims", post(open_window))
        .route("/edge/v1/claims/{id}/poll", post(ask))
        .route("/edge/v1/claims/{id}/challenge", post(count))
}

/// Messages that are signed, for the gate.
pub fn signed() -> Router<Arc<App>> {
    Router::new()
        .route("/edge/v1/claims/{id}/confirm", post(confirm_claim))
        .route("/edge/v1/credentials/rotate", post(rotate_key))
        .route("/edge/v1/credentials/confirm", post(confirm_key))
}

async fn read<T: DeserializeOwned>(body: Body) -> Result<T, Problem> {
    let bytes = body::read(body, MAX_BYTES)
        .await
        .map_err(|_| Problem::too_large("a message of claiming has at most 8 KiB"))?;
    parse(&bytes)
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(bytes)
        .map_err(|_| Problem::malformed("the body is not the JSON of this message"))
}

fn skew(injected: Option<Extension<Injected>>) -> i64 {
    injected.map_or(0, |Extension(injected)| injected.skew_s)
}

fn token(headers: &HeaderMap) -> Result<&str, Problem> {
    headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "))
        .filter(|token| token.len() <= 128)
        .ok_or_else(|| {
            Problem::unauthorized("unknown-claim", "the claim's token is needed as Bearer")
        })
}

async fn open_window(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    injected: Option<Extension<Injected>>,
    body: Body,
) -> Result<Response, Problem> {
    let wanted = read(body).await?;
    let opened = open::open(&app, peer.ip(), &wanted, app.clock.now(skew(injected))).await?;
    Ok(json(StatusCode::CREATED, &opened))
}

async fn ask(
    State(app): State<Arc<App>>,
    Path(id): Path<Uuid>,
    injected: Option<Extension<Injected>>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let now = app.clock.now(skew(injected));
    let answer = poll::poll(&app, id, token(&headers)?, now).await?;
    let json = [(header::CONTENT_TYPE, "application/json")];
    Ok((json, answer).into_response())
}

async fn count(
    State(app): State<Arc<App>>,
    Path(id): Path<Uuid>,
    injected: Option<Extension<Injected>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let token = token(&headers)?.to_owned();
    let counted = read(body).await?;
    let now = app.clock.now(skew(injected));
    let answer = poll::count(&app, id, &token, &counted, now).await?;
    Ok(json(StatusCode::OK, &answer))
}

async fn confirm_claim(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<Uuid>,
    injected: Option<Extension<Injected>>,
) -> Result<Response, Problem> {
    let now = app.clock.now(skew(injected));
    let answer = confirm::confirm(&app, &caller, id, now).await?;
    if let Some(broker) = &app.mqtt {
        let told = mqtt::sync(&app.db, &app.wrapping_key, broker);
        match tokio::time::timeout(BROKER, told).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the broker does not know the device yet"),
            Err(_) => tracing::warn!("the broker does not know the device yet"),
        }
    }
    Ok(json(StatusCode::OK, &answer))
}

async fn rotate_key(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    injected: Option<Extension<Injected>>,
    body: Bytes,
) -> Result<Response, Problem> {
    let now = app.clock.now(skew(injected));
    let answer = rotate::rotate(&app, &caller, &parse(&body)?, now).await?;
    Ok(json(StatusCode::OK, &answer))
}

async fn confirm_key(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    injected: Option<Extension<Injected>>,
) -> Result<Response, Problem> {
    let now = app.clock.now(skew(injected));
    let answer = rotate::confirm(&app, &caller, now).await?;
    Ok(json(StatusCode::OK, &answer))
}
