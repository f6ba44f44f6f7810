//! The admin API's commands: send, look (and wait), cancel.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use super::App;
use super::admin::{Key, answer, authenticate, begin, finish, forbidden};
use crate::command::{self, Wanted, issue};
use crate::problem::Problem;

/// Longest wait of one request for the end of a command.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The routes.
pub fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/admin/v1/devices/{edge_id}/commands", post(send))
        .route("/admin/v1/commands/{id}", get(show))
        .route("/admin/v1/commands/{id}/cancel", post(cancel))
}

/// What who may ask for (the role matrix of section 12).
fn may_send(key: &Key, command_type: &str) -> bool {
    match key.role.as_str() {
        "admin" => true,
        "moderator" if command_type == "recording.lock" => true,
        "moderator" | "user" => matches!(
            command_type,
            "recording.start"
                | "recording.stop"
                | "recording.upload"
                | "snapshot"
                | "stream.start"
                | "stream.renew"
                | "stream.stop"
        ),
        _ => false,
    }
}

async fn send(
    State(app): State<Arc<App>>,
    Path(edge_id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let key = authenticate(&app, &headers).await?;
    let wanted: Wanted = serde_json::from_slice(&body).map_err(|error| {
        Problem::malformed(format!(
            "the body must be {{\"type\": …, \"args\": {{…}}, \"expires_in_s\": 300}}: {error}"
        ))
    })?;
    if !may_send(&key, &wanted.command_type) {
        return Err(forbidden());
    }
    let mut client = app.db.client().await?;
    let tx = begin(&mut client, &key).await?;
    let sent = command::send(&tx, &edge_id, &wanted, app.clock.now(0)).await?;
    finish(tx, StatusCode::CREATED, &sent).await
}

#[derive(Debug, Deserialize)]
struct ShowQuery {
    /// Wait so long for its end; the answer is what it is then.
    #[serde(default)]
    wait_s: f64,
}

async fn show(
    State(app): State<Arc<App>>,
    Path(id): Path<Uuid>,
    headers: HeaderMap,
    Query(query): Query<ShowQuery>,
) -> Result<Response, Problem> {
    let key = authenticate(&app, &headers).await?;
    let wait = Duration::try_from_secs_f64(query.wait_s).unwrap_or_default();
    let until = tokio::time::Instant::now() + wait.min(MAX_WAIT);
    loop {
        let found = look(&app, &key, id).await?;
        if issue::has_ended(&found) || tokio::time::Instant::now() >= until {
            return Ok(answer(StatusCode::OK, &found));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn look(app: &App, key: &Key, id: Uuid) -> Result<Value, Problem> {
    let mut client = app.db.client().await?;
    let tx = begin(&mut client, key).await?;
    Ok(command::show(&tx, id).await?)
}

async fn cancel(
    State(app): State<Arc<App>>,
    Path(id): Path<Uuid>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let key = authenticate(&app, &headers).await?;
    let mut client = app.db.client().await?;
    let tx = begin(&mut client, &key).await?;
    let found = command::show(&tx, id).await?;
    if !may_send(&key, found["command_type"].as_str().unwrap_or_default()) {
        return Err(forbidden());
    }
    let canceled = command::cancel(&tx, id, app.clock.now(0)).await?;
    finish(tx, StatusCode::OK, &canceled).await
}
