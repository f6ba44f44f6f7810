//! The requests of a device that has no key yet: asking for a claim, polling it, answering its challenge. TLS says
//! who answers; the claim's token says who asks.

use std::time::Duration;

use url::Url;
use uuid::Uuid;

use super::client::{ClientError, Reply, http, text, whole_answer};
use super::tls::TlsConfigs;
use crate::model::Secret;
use crate::time::Wall;
use crate::wire::answer::{parse_http_date, problem_code, retry_after};

/// From the first byte sent to the last received: a window has no time for more.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Talks to the cloud without a key; cheap to clone.
#[derive(Debug, Clone)]
pub struct ClaimApi {
    http: reqwest::Client,
    base: Url,
}

impl ClaimApi {
    /// Of the cloud at `base`; connects to nothing yet.
    ///
    /// # Errors
    /// [`ClientError::Setup`].
    pub fn new(base: Url, tls: TlsConfigs) -> Result<ClaimApi, ClientError> {
        Ok(ClaimApi {
            http: http(tls.usual, TIMEOUT, 1)?,
            base,
        })
    }

    /// `POST /edge/v1/claims`; `now` is the best idea of the time.
    ///
    /// # Errors
    /// [`ClientError`]: no answer came.
    pub async fn create(&self, body: Vec<u8>, now: Wall) -> Result<Reply, ClientError> {
        self.post("/edge/v1/claims", None, body, now).await
    }

    /// `POST /edge/v1/claims/{id}/{what}`.
    ///
    /// # Errors
    /// [`ClientError`]: no answer came.
    pub async fn post_of(
        &self,
        claim: Uuid,
        what: &str,
        token: &Secret,
        body: Vec<u8>,
        now: Wall,
    ) -> Result<Reply, ClientError> {
        let path = format!("/edge/v1/claims/{claim}/{what}");
        self.post(&path, Some(token), body, now).await
    }

    async fn post(
        &self,
        path: &str,
        token: Option<&Secret>,
        body: Vec<u8>,
        now: Wall,
    ) -> Result<Reply, ClientError> {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path().trim_end_matches('/')));
        let mut request = self
            .http
            .post(url)
            .header("content-type", "application/json")
            .body(body);
        if let Some(token) = token {
            request = request.bearer_auth(token.expose());
        }
        let (status, headers, body) = whole_answer(request, TIMEOUT).await?;
        Ok(Reply {
            status,
            code: problem_code(text(&headers, "content-type"), &body),
            date: parse_http_date(text(&headers, "date")),
            etag: None,
            cached: headers.contains_key("age"),
            retry_after: retry_after(text(&headers, "retry-after"), now),
            authentic: false,
            body,
        })
    }
}
