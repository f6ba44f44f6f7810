//! The device API under `/edge/v1`: events, time, commands, twin, uploads, claims, credentials.
//!
//! Every route but the first three of claiming is behind one gate that reads the body within its bound, verifies the request and signs
//! every 2xx answer and every 410. Handlers see a `Caller` and plain bytes.

pub mod claims;
pub mod uploads;
pub mod verify;

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;

use crate::command::deliver;
use crate::db::{self, DbError};
use crate::faults::Injected;
use crate::hostile::Hostile;
use crate::http::App;
use crate::ingest;
use crate::jws;
use crate::problem::Problem;
use crate::secret::sha256_hex;
use crate::sf;
use crate::signature::IDEMPOTENCY_KEY;
use crate::stream;
use crate::twin::store;
use verify::{Caller, TIME_PATH, verify};

/// Longest request body on the wire: a full batch that gzip could not shrink.
const MAX_WIRE_BYTES: usize = ingest::MAX_BODY_BYTES + 4096;

/// Most bytes of hostile documents in one answer, of which a device reads 1 MiB.
const MAX_HOSTILE_BYTES: usize = 450 * 1024;

/// The routes of the device API.
pub fn routes(app: &Arc<App>) -> Router<Arc<App>> {
    Router::new()
        .route("/edge/v1/events", post(events))
        .route(TIME_PATH, get(time))
        .route("/edge/v1/commands", get(commands))
        .route("/edge/v1/twin", get(twin))
        .merge(claims::signed())
        .merge(uploads::signed())
        .route_layer(middleware::from_fn_with_state(app.clone(), gate))
        .merge(claims::unsigned())
}

/// Verifies, hands on, signs.
async fn gate(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let injected = request
        .extensions()
        .get::<Injected>()
        .cloned()
        .unwrap_or_default();
    let now = app.clock.now(injected.skew_s);
    let (mut parts, body) = request.into_parts();
    let Ok(body) = crate::http::body::read(body, MAX_WIRE_BYTES).await else {
        return Problem::too_large("the body is larger than a batch may be").into_response();
    };
    let caller = match verify(&app, &parts, &body, now).await {
        Ok(caller) => caller,
        Err(refusal) => {
            tracing::debug!(
                code = refusal.problem.code,
                path = parts.uri.path(),
                "request refused"
            );
            let response = refusal.problem.into_response();
            return match refusal.signer {
                Some(caller) => caller.sign(response, now).await,
                None => response,
            };
        }
    };
    parts.extensions.insert(caller.clone());
    let response = next.run(Request::from_parts(parts, Body::from(body))).await;
    if response.status().is_success() {
        caller.sign(response, app.clock.now(injected.skew_s)).await
    } else {
        response
    }
}

/// An answer of JSON.
pub(super) fn json(status: StatusCode, value: &serde_json::Value) -> Response {
    (
        status,
        [(header::CONTENT_TYPE, "application/json")],
        value.to_string(),
    )
        .into_response()
}

/// `POST /edge/v1/events`: the only acknowledgement that lets a device forget a record.
async fn events(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    injected: Option<Extension<Injected>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let Extension(injected) = injected.unwrap_or_default();
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .map(|value| value.as_bytes());
    if content_type != Some(b"application/cloudevents-batch+json") {
        return Err(Problem::malformed(
            "content-type must be application/cloudevents-batch+json",
        ));
    }
    let body = ingest::body::decode(&headers, body)?;
    let key = match headers.get(IDEMPOTENCY_KEY) {
        None => None,
        Some(field) => Some(
            field
                .to_str()
                .ok()
                .and_then(|field| sf::string_item(field).ok())
                .filter(|key| (1..=128).contains(&key.len()))
                .ok_or_else(|| {
                    Problem::malformed("idempotency-key must be a string of 1 to 128")
                })?,
        ),
    };
    let items = ingest::body::items(&body)?;
    let mut answer = if injected.retry_all {
        ingest::answer(items.iter().map(ingest::Outcome::retry).collect())
    } else if injected.empty_results {
        ingest::answer(Vec::new())
    } else {
        if injected.duplicate {
            ingest::ingest(&app.db, &caller, &items, None).await?;
        }
        let key = key.as_deref().map(|key| ingest::Key::new(key, &body));
        ingest::ingest(&app.db, &caller, &items, key).await?
    };
    if injected.reorder
        && let Some(results) = answer["results"].as_array_mut()
    {
        results.reverse();
    }
    let mut response = json(StatusCode::OK, &answer);
    // RFC 7694: what content codings a request may use.
    response.headers_mut().insert(
        header::ACCEPT_ENCODING,
        header::HeaderValue::from_static("gzip"),
    );
    Ok(response)
}

/// `GET /edge/v1/time`: the clock of a device that has none; counts only because it is signed.
async fn time(State(app): State<Arc<App>>, injected: Option<Extension<Injected>>) -> Response {
    let Extension(injected) = injected.unwrap_or_default();
    let now = app.clock.now(injected.skew_s);
    json(
        StatusCode::OK,
        &serde_json::json!({ "now": format!("{now:.3}") }),
    )
}

#[derive(Debug, Deserialize)]
struct CommandsQuery {
    /// The highest number that the device has.
    #[serde(default)]
    after: i64,
    /// At most so many, at most 16.
    limit: Option<i64>,
}

/// `GET /edge/v1/commands?after=N&limit=M`: what nobody has acknowledged yet, signed one by one.
async fn commands(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    injected: Option<Extension<Injected>>,
    query: Result<Query<CommandsQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Extension(injected) = injected.unwrap_or_default();
    let Ok(Query(query)) = query else {
        return Err(Problem::malformed("after and limit must be integers"));
    };
    let limit = query
        .limit
        .unwrap_or(deliver::MAX_LIMIT)
        .clamp(1, deliver::MAX_LIMIT);
    let now = app.clock.now(injected.skew_s);
    let (device, edge_id) = (caller.device_id, &caller.edge_id);
    let mut client = app.db.client().await?;
    let tx = client.transaction().await.map_err(DbError::from)?;
    db::set_tenant(&tx, caller.organization_id).await?;
    let mut documents =
        deliver::hand_out(&tx, device, edge_id, query.after, limit, now, false).await?;
    let number = match &injected.hostile {
        Some(_) => deliver::use_number(&tx, device).await?,
        None => 0,
    };
    if injected.stale {
        documents.extend(deliver::stale(&tx, device, edge_id).await?);
    }
    stream::reveal(&tx, &mut documents, &app.wrapping_key).await?;
    tx.commit().await.map_err(DbError::from)?;
    let mut signed = Vec::with_capacity(documents.len());
    for document in &documents {
        let jws = caller
            .document(jws::COMMAND, &document.claims())
            .map_err(|_| Problem::unavailable())?;
        if injected.duplicate {
            signed.push(jws.clone());
        }
        signed.push(jws);
    }
    if injected.reorder {
        signed.reverse();
    }
    if let Some((name, skip)) = &injected.hostile {
        let forge = caller.forge(now).numbered(number);
        signed = hostile(forge.commands(), name, *skip);
    }
    Ok(json(
        StatusCode::OK,
        &serde_json::json!({ "commands": signed }),
    ))
}

/// Those whose name begins so, as many as a device reads.
fn hostile(all: Vec<Hostile>, name: &str, skip: usize) -> Vec<String> {
    let mut room = MAX_HOSTILE_BYTES;
    all.into_iter()
        .filter(|one| one.name.starts_with(name))
        .skip(skip)
        .map(|one| one.document)
        .take_while(|document| {
            let fits = document.len() <= room;
            room = room.saturating_sub(document.len());
            fits
        })
        .collect()
}

/// `GET /edge/v1/twin`: the document, 304 where `If-None-Match` has it, 404 while the device has none.
///
/// It is compiled anew, so that a licence that has run out leaves it at the next look.
async fn twin(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    injected: Option<Extension<Injected>>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Extension(injected) = injected.unwrap_or_default();
    let mut client = app.db.client().await?;
    let tx = client.transaction().await.map_err(DbError::from)?;
    db::set_tenant(&tx, caller.organization_id).await?;
    let target = store::lock(&tx, &caller.edge_id).await?;
    store::compile(&tx, &target, app.clock.now(injected.skew_s)).await?;
    let document = store::document(&tx, &target, &app.wrapping_key).await?;
    if injected.hostile.is_some() {
        store::use_version(&tx, &target).await?;
    }
    tx.commit().await.map_err(DbError::from)?;
    let document = document.ok_or_else(Problem::not_found)?;
    let jws = caller
        .document(jws::TWIN, &document.claims())
        .map_err(|_| Problem::unavailable())?;
    let jws = match &injected.hostile {
        None => jws,
        Some((name, skip)) => hostile(
            caller
                .forge(app.clock.now(0))
                .numbered(document.version + 1)
                .twins(),
            name,
            *skip,
        )
        .into_iter()
        .next()
        .unwrap_or_default(),
    };
    let hash = sha256_hex(jws.as_bytes());
    let tag = format!(
        "\"{}-{}\"",
        document.version,
        hash.get(..16).unwrap_or(&hash)
    );
    let known = headers
        .get(header::IF_NONE_MATCH)
        .and_then(|tags| tags.to_str().ok())
        .is_some_and(|tags| tags.split(',').any(|known| known.trim() == tag));
    let etag = [(header::ETAG, tag)];
    Ok(if known {
        (StatusCode::NOT_MODIFIED, etag).into_response()
    } else {
        let content_type = [(header::CONTENT_TYPE, "application/jose")];
        (StatusCode::OK, content_type, etag, jws).into_response()
    })
}
