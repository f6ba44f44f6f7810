//! `/edge/v1/uploads`: where a device puts evidence; see `crate::upload`.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Extension, Path, State};
use axum::http::{StatusCode, header};
use axum::response::Response;
use axum::routing::{delete, post};
use serde::de::DeserializeOwned;
use serde_json::json;
use uuid::Uuid;

use super::json;
use super::verify::Caller;
use crate::faults::Injected;
use crate::http::App;
use crate::problem::Problem;
use crate::upload::plan::Wanted;
use crate::upload::row::Owner;
use crate::upload::{self, Completed};

/// Longest message: the entity tags of 820 parts.
const MAX_BYTES: usize = 160 * 1024;

/// The routes, for the gate.
pub fn signed() -> Router<Arc<App>> {
    Router::new()
        .route("/edge/v1/uploads", post(begin))
        .route("/edge/v1/uploads/{id}", delete(abort))
        .route("/edge/v1/uploads/{id}/complete", post(complete))
}

fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, Problem> {
    if body.len() > MAX_BYTES {
        return Err(Problem::too_large(
            "a message about an upload has at most 160 KiB",
        ));
    }
    serde_json::from_slice(body)
        .map_err(|_| Problem::malformed("the body is not the JSON of this message"))
}

fn owner(caller: &Caller) -> Owner {
    Owner {
        organization_id: caller.organization_id,
        device_id: caller.device_id,
    }
}

fn skew(injected: Option<Extension<Injected>>) -> i64 {
    injected.map_or(0, |Extension(injected)| injected.skew_s)
}

async fn begin(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    injected: Option<Extension<Injected>>,
    body: Bytes,
) -> Result<Response, Problem> {
    let wanted = read::<Wanted>(&body)?.check()?;
    let now = app.clock.now(skew(injected));
    let answer = upload::begin(&app, owner(&caller), &wanted, now).await?;
    Ok(json(StatusCode::OK, &answer))
}

async fn complete(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<Uuid>,
    injected: Option<Extension<Injected>>,
    body: Bytes,
) -> Result<Response, Problem> {
    let completed = if body.is_empty() {
        Completed::default()
    } else {
        read(&body)?
    };
    let now = app.clock.now(skew(injected));
    let done = upload::complete(&app, owner(&caller), id, completed, now).await?;
    Ok(match done {
        Some(available) => json(StatusCode::OK, &available),
        None => {
            let verifying = json!({ "upload_id": id, "status": "verifying" });
            let mut response = json(StatusCode::ACCEPTED, &verifying);
            let seconds = header::HeaderValue::from_static("2");
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
            response
        }
    })
}

async fn abort(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<Uuid>,
    injected: Option<Extension<Injected>>,
) -> Result<Response, Problem> {
    let now = app.clock.now(skew(injected));
    let answer = upload::abort(&app, owner(&caller), id, now).await?;
    Ok(json(StatusCode::OK, &answer))
}
