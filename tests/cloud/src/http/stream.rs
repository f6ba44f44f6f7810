//! The admin API's live sessions: start, renew, stop, look.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::{get, post};
use serde::Deserialize;
use uuid::Uuid;

use super::App;
use super::admin::{Key, answer, authenticate, forbidden};
use crate::db::{self, DbError};
use crate::problem::Problem;
use crate::stream::{self, Wanted};

/// The routes.
pub fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/admin/v1/devices/{edge_id}/streams", post(start))
        .route("/admin/v1/streams/{id}", get(show))
        .route("/admin/v1/streams/{id}/renew", post(renew))
        .route("/admin/v1/streams/{id}/stop", post(stop))
}

/// Whoever names the address that pictures go to is more than a viewer.
async fn user(app: &App, headers: &HeaderMap) -> Result<Key, Problem> {
    let key = authenticate(app, headers).await?;
    if key.role == "viewer" {
        Err(forbidden())
    } else {
        Ok(key)
    }
}

fn read<T: serde::de::DeserializeOwned>(body: &Bytes) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| Problem::malformed(format!("the body: {error}")))
}

async fn start(
    State(app): State<Arc<App>>,
    Path(edge_id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let key = user(&app, &headers).await?;
    let wanted: Wanted = read(&body)?;
    let (wrapping, now) = (Some(&app.wrapping_key), app.clock.now(0));
    let mut client = app.db.client().await?;
    let tx = client.transaction().await.map_err(DbError::from)?;
    db::set_tenant(&tx, key.organization_id).await?;
    let session = stream::start(&tx, wrapping, &edge_id, &wanted, now).await?;
    tx.commit().await.map_err(DbError::from)?;
    Ok(answer(StatusCode::CREATED, &session))
}

async fn show(
    State(app): State<Arc<App>>,
    Path(id): Path<Uuid>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let key = authenticate(&app, &headers).await?;
    let mut client = app.db.client().await?;
    let tx = client.transaction().await.map_err(DbError::from)?;
    db::set_tenant(&tx, key.organization_id).await?;
    Ok(answer(StatusCode::OK, &stream::show(&tx, id).await?))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Renewed {
    lease_s: i64,
}

async fn renew(
    State(app): State<Arc<App>>,
    Path(id): Path<Uuid>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let key = user(&app, &headers).await?;
    let Renewed { lease_s } = read(&body)?;
    let mut client = app.db.client().await?;
    let tx = client.transaction().await.map_err(DbError::from)?;
    db::set_tenant(&tx, key.organization_id).await?;
    let session = stream::renew(&tx, id, lease_s, app.clock.now(0)).await?;
    tx.commit().await.map_err(DbError::from)?;
    Ok(answer(StatusCode::OK, &session))
}

async fn stop(
    State(app): State<Arc<App>>,
    Path(id): Path<Uuid>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let key = user(&app, &headers).await?;
    let mut client = app.db.client().await?;
    let tx = client.transaction().await.map_err(DbError::from)?;
    db::set_tenant(&tx, key.organization_id).await?;
    let session = stream::stop(&tx, id, app.clock.now(0)).await?;
    tx.commit().await.map_err(DbError::from)?;
    Ok(answer(StatusCode::OK, &session))
}
