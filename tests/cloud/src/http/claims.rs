//! The admin API's claims: codes, windows, binding, and what an organization may have.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use super::App;
use super::admin::{Key, administrator, answer, authenticate, begin, finish};
use crate::admin;
use crate::claiming::bind::{self, Binder};
use crate::claiming::{codes, network, rotate as rotation};
use crate::command::leave::{self, Wipe};
use crate::db::DbError;
use crate::license;
use crate::problem::Problem;

/// The routes.
pub fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/admin/v1/claim-codes", get(list_codes).post(create_code))
        .route("/admin/v1/claims", get(windows))
        .route("/admin/v1/claims/bind", post(bind_by_code))
        .route("/admin/v1/claims/{id}", get(show))
        .route("/admin/v1/claims/{id}/bind", post(bind_by_entry))
        .route("/admin/v1/claims/{id}/deny", post(deny))
        .route("/admin/v1/devices/{edge_id}/unclaim", post(unclaim))
        .route("/admin/v1/devices/{edge_id}/rotate", post(rotate))
        .route("/admin/v1/license", get(show_license))
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct CreateCode {
    device_name: Option<String>,
    expires_in_s: Option<i64>,
}

fn parse<T: serde::de::DeserializeOwned + Default>(body: &Bytes, form: &str) -> Result<T, Problem> {
    if body.is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(body)
        .map_err(|error| Problem::malformed(format!("the body must be {form}: {error}")))
}

async fn list_codes(
    state: State<Arc<App>>,
    headers: HeaderMap,
    query: axum::extract::Query<super::admin::ListQuery>,
) -> Result<Response, Problem> {
    super::admin::list(state, Path("claim-codes".to_owned()), headers, query).await
}

async fn create_code(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let key = administrator(&app, &headers).await?;
    let wanted: CreateCode = parse(&body, "{\"device_name\": …, \"expires_in_s\": 86400}")?;
    let mut client = app.db.client().await?;
    let tx = begin(&mut client, &key).await?;
    let life = wanted.expires_in_s.unwrap_or(codes::MAX_LIFE_S);
    let name = wanted.device_name.as_deref();
    let made = codes::create(
        &tx,
        &app.wrapping_key,
        key.organization_id,
        name,
        life,
        app.clock.now(0),
    )
    .await?;
    finish(tx, StatusCode::CREATED, &made).await
}

async fn windows(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let key = administrator(&app, &headers).await?;
    let mut client = app.db.client().await?;
    let tx = client.transaction().await.map_err(DbError::from)?;
    let place = network(peer.ip());
    let listed = bind::list(
        &tx,
        Some(key.organization_id),
        Some(&place),
        app.clock.now(0),
    )
    .await?;
    Ok(answer(StatusCode::OK, &json!({ "claims": listed })))
}

async fn show(
    State(app): State<Arc<App>>,
    Path(id): Path<Uuid>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let key = administrator(&app, &headers).await?;
    let shown = bind::show(&app.db, key.organization_id, id, app.clock.now(0)).await?;
    Ok(answer(StatusCode::OK, &shown))
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Bind {
    #[serde(default)]
    user_code: String,
    device_name: Option<String>,
}

impl Bind {
    fn binder<'a>(&'a self, key: &Key, place: &'a str) -> Binder<'a> {
        Binder {
            organization: key.organization_id,
            device_name: self.device_name.as_deref(),
            network: Some(place),
        }
    }
}

async fn bind_by_code(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let key = administrator(&app, &headers).await?;
    let wanted: Bind = parse(&body, "{\"user_code\": \"XXXX-XXXX\", \"device_name\": …}")?;
    let place = network(peer.ip());
    let binder = wanted.binder(&key, &place);
    let (limits, now) = (&app.claiming.limits, app.clock.now(0));
    let bound = bind::by_user_code(
        &app.db,
        &app.wrapping_key,
        limits,
        &binder,
        &wanted.user_code,
        now,
    )
    .await?;
    Ok(answer(StatusCode::OK, &bound))
}

async fn bind_by_entry(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path(id): Path<Uuid>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let key = administrator(&app, &headers).await?;
    let wanted: Bind = parse(&body, "{\"device_name\": …}")?;
    let place = network(peer.ip());
    let binder = wanted.binder(&key, &place);
    let bound = bind::by_list_entry(&app.db, &binder, id, app.clock.now(0)).await?;
    Ok(answer(StatusCode::OK, &bound))
}

async fn deny(
    State(app): State<Arc<App>>,
    Path(id): Path<Uuid>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let key = administrator(&app, &headers).await?;
    let shown = bind::deny(&app.db, key.organization_id, id, app.clock.now(0)).await?;
    Ok(answer(StatusCode::OK, &shown))
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Unclaim {
    wipe: Option<Wipe>,
    #[serde(default)]
    now: bool,
}

/// Asks the device to unclaim itself, or ends its claim without it.
async fn unclaim(
    State(app): State<Arc<App>>,
    Path(edge_id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let key = administrator(&app, &headers).await?;
    let form = "{\"wipe\": \"credentials\" or \"all\"}, or {\"now\": true}";
    let wanted: Unclaim = parse(&body, form)?;
    if wanted.now && wanted.wipe.is_some() {
        let detail = "with now nobody asks the device, so wipe must not be given";
        return Err(Problem::malformed(detail));
    }
    let mut client = app.db.client().await?;
    let tx = begin(&mut client, &key).await?;
    if wanted.now {
        admin::unclaim_in(&tx, &edge_id).await?;
        let said = json!({ "edge_id": edge_id, "status": "unclaimed" });
        return finish(tx, StatusCode::OK, &said).await;
    }
    let wipe = wanted.wipe.unwrap_or_default();
    let sent = leave::ask(&tx, &edge_id, wipe, app.clock.now(0)).await?;
    finish(tx, StatusCode::CREATED, &sent).await
}

/// Asks the device for a new key; it does the rest (section 3.6).
async fn rotate(
    State(app): State<Arc<App>>,
    Path(edge_id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let key = administrator(&app, &headers).await?;
    let mut client = app.db.client().await?;
    let tx = begin(&mut client, &key).await?;
    let sent = rotation::ask(&tx, &edge_id, app.clock.now(0)).await?;
    finish(tx, StatusCode::CREATED, &sent).await
}

async fn show_license(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let key = authenticate(&app, &headers).await?;
    let mut client = app.db.client().await?;
    let tx = begin(&mut client, &key).await?;
    let limits = license::limits(&tx, key.organization_id, app.clock.now(0)).await?;
    Ok(answer(StatusCode::OK, &json!(limits)))
}
