//! The admin API's twins and policies. Secrets go in, never out.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::{get, post, put};
use serde_json::Value;
use uuid::Uuid;

use super::App;
use super::admin::{administrator, authenticate, begin, finish};
use crate::problem::Problem;
use crate::twin::wish::{self, WantedPolicy};

/// The routes.
pub fn routes() -> Router<Arc<App>> {
    Router::new()
        .route(
            "/admin/v1/devices/{edge_id}/twin",
            get(show).patch(set_settings),
        )
        .route(
            "/admin/v1/devices/{edge_id}/cameras/{camera_id}",
            put(set_camera).delete(remove_camera),
        )
        .route("/admin/v1/policies", post(make_policy).get(list_policies))
        .route(
            "/admin/v1/policies/{id}",
            put(set_policy).delete(remove_policy),
        )
}

fn read<T: serde::de::DeserializeOwned>(body: &Bytes) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| Problem::malformed(format!("the body: {error}")))
}

async fn show(
    State(app): State<Arc<App>>,
    Path(edge_id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let key = authenticate(&app, &headers).await?;
    let mut client = app.db.client().await?;
    let tx = begin(&mut client, &key).await?;
    let shown = wish::show(&tx, &edge_id).await?;
    finish(tx, StatusCode::OK, &shown).await
}

async fn set_settings(
    State(app): State<Arc<App>>,
    Path(edge_id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let key = administrator(&app, &headers).await?;
    let patch: Value = read(&body)?;
    let mut client = app.db.client().await?;
    let tx = begin(&mut client, &key).await?;
    let shown = wish::set_settings(&tx, &edge_id, &patch, app.clock.now(0)).await?;
    finish(tx, StatusCode::OK, &shown).await
}

async fn set_camera(
    State(app): State<Arc<App>>,
    Path((edge_id, camera_id)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let key = administrator(&app, &headers).await?;
    let wanted: Value = read(&body)?;
    let (wrapping, now) = (&app.wrapping_key, app.clock.now(0));
    let mut client = app.db.client().await?;
    let tx = begin(&mut client, &key).await?;
    let shown = wish::set_camera(&tx, wrapping, &edge_id, &camera_id, &wanted, now).await?;
    finish(tx, StatusCode::OK, &shown).await
}

async fn remove_camera(
    State(app): State<Arc<App>>,
    Path((edge_id, camera_id)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let key = administrator(&app, &headers).await?;
    let mut client = app.db.client().await?;
    let tx = begin(&mut client, &key).await?;
    let shown = wish::remove_camera(&tx, &edge_id, &camera_id, app.clock.now(0)).await?;
    finish(tx, StatusCode::OK, &shown).await
}

async fn list_policies(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let key = authenticate(&app, &headers).await?;
    let mut client = app.db.client().await?;
    let tx = begin(&mut client, &key).await?;
    let rows = crate::admin::list(&tx, crate::admin::Listing::Policies, None, 1000).await?;
    finish(tx, StatusCode::OK, &serde_json::json!({ "policies": rows })).await
}

async fn make_policy(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    save_policy(&app, &headers, None, &body).await
}

async fn set_policy(
    State(app): State<Arc<App>>,
    Path(id): Path<Uuid>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    save_policy(&app, &headers, Some(id), &body).await
}

async fn save_policy(
    app: &App,
    headers: &HeaderMap,
    id: Option<Uuid>,
    body: &Bytes,
) -> Result<Response, Problem> {
    let key = administrator(app, headers).await?;
    let wanted: WantedPolicy = read(body)?;
    let now = app.clock.now(0);
    let mut client = app.db.client().await?;
    let tx = begin(&mut client, &key).await?;
    let saved = wish::set_policy(&tx, key.organization_id, id, &wanted, now).await?;
    let status = if id.is_some() {
        StatusCode::OK
    } else {
        StatusCode::CREATED
    };
    finish(tx, status, &saved).await
}

async fn remove_policy(
    State(app): State<Arc<App>>,
    Path(id): Path<Uuid>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let key = administrator(&app, &headers).await?;
    let mut client = app.db.client().await?;
    let tx = begin(&mut client, &key).await?;
    let removed = wish::remove_policy(&tx, id, app.clock.now(0)).await?;
    finish(tx, StatusCode::OK, &removed).await
}
