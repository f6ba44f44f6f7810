//! Everything that is served: the device API, the admin API and, for tests, the faults.
//!
//! Every answer carries the cloud's `Date`; what nobody serves is a problem like any other error.

pub mod admin;
pub mod body;
pub mod claims;
pub mod command;
pub mod evidence;
pub mod stream;
pub mod twin;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::Response;

use crate::claiming;
use crate::clock::{Clock, http_date};
use crate::db::Db;
use crate::faults::{self, Faults, Injected};
use crate::problem::Problem;
use crate::secret::WrappingKey;
use crate::storage::Storage;
use crate::upload::Busy;

/// What every handler needs.
#[derive(Debug)]
pub struct App {
    /// Connections as the server's role.
    pub db: Db,
    /// The cloud's clock.
    pub clock: Clock,
    /// Opens `edge_secret`s.
    pub wrapping_key: WrappingKey,
    /// The public `host[:port]` that devices sign.
    pub authority: String,
    /// The fault layer, when it is on.
    pub faults: Option<Faults>,
    /// Times and limits of claiming.
    pub claiming: claiming::Settings,
    /// The broker that devices are sent to, when there is one.
    pub mqtt: Option<claiming::Mqtt>,
    /// Where evidence is uploaded to, when there is such a place.
    pub storage: Option<Arc<Storage>>,
    /// Uploads that are being verified.
    pub busy: Busy,
}

/// Lower case, and without the default port of https (RFC 9421 section 2.2.3).
pub fn normal_authority(authority: &str) -> String {
    let lower = authority.to_ascii_lowercase();
    lower.strip_suffix(":443").unwrap_or(&lower).to_owned()
}

/// The whole service.
pub fn router(app: Arc<App>) -> Router {
    let mut router = Router::new()
        .merge(crate::edge::routes(&app))
        .merge(admin::routes())
        .merge(claims::routes())
        .merge(command::routes())
        .merge(evidence::routes())
        .merge(stream::routes())
        .merge(twin::routes());
    if app.faults.is_some() {
        router = router.merge(faults::routes());
    }
    router
        .fallback(|| async { Problem::not_found() })
        .method_not_allowed_fallback(|| async {
            let detail = "the method is not served here";
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", detail)
        })
        .layer(middleware::from_fn_with_state(app.clone(), date))
        .layer(middleware::from_fn_with_state(app.clone(), faults::layer))
        .with_state(app)
}

/// Sets `Date` by the cloud's clock unless the answer is signed with one.
async fn date(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let skew_s = request
        .extensions()
        .get::<Injected>()
        .map_or(0, |injected| injected.skew_s);
    let mut response = next.run(request).await;
    if !response.headers().contains_key(header::DATE)
        && let Ok(date) = HeaderValue::from_str(&http_date(app.clock.now(skew_s)))
    {
        response.headers_mut().insert(header::DATE, date);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::normal_authority;

    #[test]
    fn an_authority_is_lower_case_without_the_default_port() {
        assert_eq!(normal_authority("API.Example.com:443"), "api.example.com");
        assert_eq!(normal_authority("localhost:8443"), "localhost:8443");
    }
}
