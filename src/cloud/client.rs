//! One request at a time to the cloud: signed, compressed, bounded, and its answer told apart from noise.

use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::Method;
use reqwest::header::HeaderMap;
use url::Url;
use uuid::Uuid;

use super::keys::SharedKeys;
use super::tls::{TlsConfigs, is_about_dates};
use crate::model::limits::MAX_ANSWER_BYTES;
use crate::time::Wall;
use crate::wire::answer::{parse_http_date, problem_code, retry_after};
use crate::wire::keys::KeySlot;
use crate::wire::signature::{self, Body, Request, Response, verify_response};

/// From the first byte sent to the last received.
pub const TOTAL_TIMEOUT: Duration = Duration::from_secs(60);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Smaller bodies are not worth compressing.
const GZIP_FROM_BYTES: usize = 1024;

/// Talks to the cloud as one device.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    /// Trusts certificates of any date, keeps no connection.
    any_date: reqwest::Client,
    edge_id: String,
    keys: SharedKeys,
    /// Where the API is, if not where the credentials say; one for all clones.
    base: Arc<Mutex<Option<Url>>>,
    timeout: Duration,
}

/// Why no answer came. The text names no secret.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The client cannot be built; nothing will change that.
    #[error("cannot set up HTTPS: {0}")]
    Setup(String),
    /// The cloud's certificate is not valid at the time that we take it to be.
    #[error("{0}")]
    CertificateDates(String),
    /// Network, TLS, time-out, or an answer that is not HTTP; try again later.
    #[error("{0}")]
    NoAnswer(String),
    /// Connected, but no whole answer within the time: what is sent may be too large for this link.
    #[error("no answer within {} s", .0.as_secs_f32())]
    TimedOut(Duration),
}

/// Carries one request to the cloud and its answer back: [`Client`] by HTTPS, a test by a model of a cloud.
pub trait Transport: Send + Sync {
    /// Who we are.
    fn edge_id(&self) -> &str;

    /// Sends one request; `created` is trusted time, `nonce` is new for every attempt.
    ///
    /// # Errors
    /// [`ClientError`] where no answer came. Cancel safe: the request may have arrived.
    fn send(
        &self,
        call: &Call<'_>,
        created: Wall,
        nonce: [u8; 16],
    ) -> impl Future<Output = Result<Reply, ClientError>> + Send;

    /// Name of the key in this place; empty where keys have none.
    fn key_id(&self, _slot: KeySlot) -> String {
        String::new()
    }

    /// Whether there is a key besides the current one.
    fn has_next_key(&self) -> bool {
        false
    }

    /// Makes the next key the current one, here and on disk.
    fn promote_next_key(&mut self) -> impl Future<Output = ()> + Send {
        async {}
    }
}

/// An answer, whole.
#[derive(Debug, Clone)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Problem code where the body is a problem document.
    pub code: String,
    /// `Date`, where it is one.
    pub date: Option<Wall>,
    /// Names this version of what was asked for.
    pub etag: Option<String>,
    /// A cache answered.
    pub cached: bool,
    /// How long the cloud asks to wait.
    pub retry_after: Option<Duration>,
    /// The answer's signature verified for exactly this request.
    pub authentic: bool,
    /// At most 1 MiB.
    pub body: Vec<u8>,
}

/// What is sent.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// Path below the API's base, e.g. `/edge/v1/events`, and the query where there is one.
    pub path: &'a str,
    /// Body of a POST; `None` is a GET.
    pub body: Option<&'a [u8]>,
    /// Without a body: a DELETE.
    pub delete: bool,
    /// Of `body`.
    pub content_type: &'a str,
    /// Same for every attempt of one batch.
    pub idempotency_key: Option<Uuid>,
    /// The version that is known; the cloud answers 304 where it has no other.
    pub if_none_match: Option<&'a str>,
    /// Compress the body.
    pub gzip: bool,
    /// Who signs.
    pub key: KeySlot,
    /// Accept a certificate that is not valid at this time: only for a question whose answer counts only if it is
    /// signed.
    pub any_date: bool,
}

impl Client {
    /// Builds the client; connects to nothing yet. An answer takes at most `timeout`, mostly [`TOTAL_TIMEOUT`].
    ///
    /// # Errors
    /// [`ClientError::Setup`].
    pub fn new(
        keys: impl Into<SharedKeys>,
        tls: TlsConfigs,
        timeout: Duration,
    ) -> Result<Client, ClientError> {
        let keys = keys.into();
        Ok(Client {
            http: http(tls.usual, timeout, 1)?,
            any_date: http(tls.any_date, timeout, 0)?,
            edge_id: keys.of(KeySlot::Current).edge_id,
            keys,
            base: Arc::default(),
            timeout,
        })
    }

    /// The keys that it signs with, shared with its clones.
    pub fn keys(&self) -> &SharedKeys {
        &self.keys
    }

    /// From here on the API is at `base`, for every clone of this client; `None`: where the credentials say.
    pub fn set_base(&self, base: Option<Url>) {
        *self.base.lock().unwrap_or_else(PoisonError::into_inner) = base;
    }

    fn base(&self, own: &Url) -> Url {
        let base = self.base.lock().unwrap_or_else(PoisonError::into_inner);
        base.as_ref().unwrap_or(own).clone()
    }
}

impl Transport for Client {
    fn edge_id(&self) -> &str {
        &self.edge_id
    }

    fn key_id(&self, slot: KeySlot) -> String {
        self.keys.of(slot).key.key_id().to_owned()
    }

    fn has_next_key(&self) -> bool {
        self.keys.has_next()
    }

    async fn promote_next_key(&mut self) {
        self.keys.promote().await;
    }

    async fn send(
        &self,
        call: &Call<'_>,
        created: Wall,
        nonce: [u8; 16],
    ) -> Result<Reply, ClientError> {
        let method = match call.body {
            Some(_) => Method::POST,
            None if call.delete => Method::DELETE,
            None => Method::GET,
        };
        let credentials = self.keys.of(call.key);
        let mut url = self.base(&credentials.api_base);
        let authority = authority(&url);
        let (below, query) = call.path.split_once('?').unwrap_or((call.path, ""));
        let path = format!("{}{below}", url.path().trim_end_matches('/'));
        url.set_path(&path);
        if !query.is_empty() {
            url.set_query(Some(query));
        }
        let compressed = match call.body {
            Some(body) if call.gzip && body.len() >= GZIP_FROM_BYTES => Some(gzip(body)?),
            _ => None,
        };
        let wire = compressed.as_deref().or(call.body);
        let key = call.idempotency_key.map(|k| format!("\"{k}\""));
        let request = Request {
            method: method.as_str(),
            authority: &authority,
            path: &path,
            query,
            body: wire.map(|bytes| Body {
                content_type: call.content_type,
                content_encoding: compressed.as_ref().map(|_| "gzip"),
                idempotency_key: key.as_deref(),
                bytes,
            }),
        };
        let signed = signature::sign_request(&credentials.key, &request, created, &nonce);
        let http = if call.any_date {
            &self.any_date
        } else {
            &self.http
        };
        let mut builder = http
            .request(method.clone(), url)
            .header("signature-input", &signed.signature_input)
            .header("signature", &signed.signature);
        if let Some(etag) = call.if_none_match {
            builder = builder.header("if-none-match", etag);
        }
        if let Some(body) = &request.body {
            builder = builder
                .header("content-type", body.content_type)
                .body(body.bytes.to_vec());
            if let Some(digest) = &signed.content_digest {
                builder = builder.header("content-digest", digest);
            }
            if let Some(encoding) = body.content_encoding {
                builder = builder.header("content-encoding", encoding);
            }
            if let Some(key) = body.idempotency_key {
                builder = builder.header("idempotency-key", key);
            }
        }
        let (status, headers, body) = whole_answer(builder, self.timeout).await?;
        let headers = &headers;
        let response = Response {
            status,
            content_type: text(headers, "content-type"),
            content_digest: text(headers, "content-digest"),
            date: text(headers, "date"),
            signature_input: text(headers, "signature-input"),
            signature: text(headers, "signature"),
            body: &body,
        };
        let authentic = verify_response(
            &credentials.key,
            method.as_str(),
            &path,
            &signed.signature,
            &response,
        )
        .is_ok();
        Ok(Reply {
            status,
            code: problem_code(response.content_type, &body),
            date: parse_http_date(response.date),
            etag: Some(text(headers, "etag"))
                .filter(|e| (1..=128).contains(&e.len()))
                .map(str::to_owned),
            cached: headers.contains_key("age"),
            retry_after: retry_after(text(headers, "retry-after"), created),
            authentic,
            body,
        })
    }
}

/// Sends a request and reads its answer to the end, 1 MiB at most.
pub(super) async fn whole_answer(
    request: reqwest::RequestBuilder,
    timeout: Duration,
) -> Result<(u16, HeaderMap, Vec<u8>), ClientError> {
    let failed = |e| no_answer(&e, timeout);
    let mut answer = request.send().await.map_err(failed)?;
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(failed)? {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(ClientError::NoAnswer(
                "the answer is larger than 1 MiB".into(),
            ));
        }
        body.extend_from_slice(&chunk);
    }
    Ok((answer.status().as_u16(), answer.headers().clone(), body))
}

fn no_answer(e: &reqwest::Error, timeout: Duration) -> ClientError {
    if e.is_timeout() && !e.is_connect() {
        ClientError::TimedOut(timeout)
    } else if causes(e).any(|cause| {
        cause
            .downcast_ref::<rustls::Error>()
            .is_some_and(is_about_dates)
    }) {
        ClientError::CertificateDates(chain(e))
    } else {
        ClientError::NoAnswer(chain(e))
    }
}

pub(super) fn text<'h>(headers: &'h HeaderMap, name: &str) -> &'h str {
    headers
        .get(name)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default()
}

/// `@authority` (RFC 9421 §2.2.3): lower case, the port only where it is not the scheme's default.
fn authority(base: &Url) -> String {
    let host = base.host_str().unwrap_or_default().to_ascii_lowercase();
    match base.port() {
        Some(port) => format!("{host}:{port}"),
        None => host,
    }
}

fn gzip(body: &[u8]) -> Result<Vec<u8>, ClientError> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    encoder
        .write_all(body)
        .and_then(|()| encoder.finish())
        .map_err(|e| ClientError::Setup(e.to_string()))
}

/// One pool of connections; `idle` of them are kept.
pub(super) fn http(
    tls: rustls::ClientConfig,
    timeout: Duration,
    idle: usize,
) -> Result<reqwest::Client, ClientError> {
    builder(tls, timeout, idle)
        .build()
        .map_err(|e| ClientError::Setup(chain(&e)))
}

/// What every client of ours is: TLS 1.2 or 1.3 by our roots, http/1.1, no redirect, no proxy.
pub(super) fn builder(
    tls: rustls::ClientConfig,
    timeout: Duration,
    idle: usize,
) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .http1_only()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .https_only(true)
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(timeout)
        .pool_max_idle_per_host(idle)
        .tcp_keepalive(Duration::from_secs(30))
        .user_agent(format!(
            "sentrycam/{} ({})",
            env!("CARGO_PKG_VERSION"),
            std::env::consts::ARCH
        ))
}

type Cause<'e> = &'e (dyn std::error::Error + 'static);

/// An error and its causes. `io::Error` hides the one that it holds behind the one below that.
fn causes(e: Cause<'_>) -> impl Iterator<Item = Cause<'_>> {
    std::iter::successors(Some(e), |e| match e.downcast_ref::<std::io::Error>() {
        Some(io) => io.get_ref().map(|held| held as Cause<'_>),
        None => e.source(),
    })
}

/// An error with its causes in one line; reqwest's own text repeats the URL, which is public.
pub(super) fn chain(e: Cause<'_>) -> String {
    let mut text: Vec<String> = causes(e).map(ToString::to_string).collect();
    text.dedup();
    text.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_authority_has_a_port_only_where_it_matters() {
        let a = |s: &str| authority(&s.parse().unwrap());
        assert_eq!(a("https://API.example.com/"), "api.example.com");
        assert_eq!(a("https://api.example.com:443/x"), "api.example.com");
        assert_eq!(a("https://127.0.0.1:8443"), "127.0.0.1:8443");
        assert_eq!(a("https://[::1]:8443"), "[::1]:8443");
    }

    #[test]
    fn compression_is_lossless() {
        use std::io::Read as _;
        let body = b"[{\"specversion\":\"1.0\"}]".repeat(100);
        let packed = gzip(&body).unwrap();
        assert!(packed.len() < body.len() / 10);
        let mut out = Vec::new();
        flate2::read::GzDecoder::new(&packed[..])
            .read_to_end(&mut out)
            .unwrap();
        assert_eq!(out, body);
    }
}
