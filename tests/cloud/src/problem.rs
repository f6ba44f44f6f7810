//! Errors on the wire: RFC 9457 `application/problem+json`.
//!
//! `type` is `urn:sentrycam:problem:<code>`; the codes are those of the protocol's table 3.4 and a
//! device decides by them. A problem never says more than its code's fixed sentence and, where it
//! helps a developer, what part of the request it is about; it never echoes a secret or a value.

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// One error answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// HTTP status.
    pub status: StatusCode,
    /// The word a device decides by.
    pub code: &'static str,
    /// For people.
    pub detail: String,
    /// One extra header, such as `Retry-After`.
    pub header: Option<(HeaderName, String)>,
    /// Extension members (RFC 9457 section 3.2).
    pub members: Vec<(&'static str, serde_json::Value)>,
}

impl Problem {
    /// A problem with this status, code and sentence.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            code,
            detail: detail.into(),
            header: None,
            members: Vec::new(),
        }
    }

    /// The same with an extension member.
    pub fn with(mut self, name: &'static str, value: impl Into<serde_json::Value>) -> Self {
        self.members.push((name, value.into()));
        self
    }

    /// 400: the request cannot be understood.
    pub fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", detail)
    }

    /// 401 with the given code.
    pub fn unauthorized(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, code, detail)
    }

    /// 404.
    pub fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "there is nothing here")
    }

    /// 413: halve the batch.
    pub fn too_large(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", detail)
    }

    /// 503: the database did not answer; nothing was committed.
    pub fn unavailable() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            "the database is not available",
        )
        .with_header(header::RETRY_AFTER, "2")
    }

    /// The same with a header.
    pub fn with_header(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.header = Some((name, value.into()));
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = with_members(self.status, self.code, &self.detail, &self.members);
        if let Some((name, value)) = self.header
            && let Ok(value) = HeaderValue::from_str(&value)
        {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

/// A problem with any code, for the fault layer.
pub fn response(status: StatusCode, code: &str, detail: &str) -> Response {
    with_members(status, code, detail, &[])
}

fn with_members(
    status: StatusCode,
    code: &str,
    detail: &str,
    members: &[(&'static str, serde_json::Value)],
) -> Response {
    let mut body = serde_json::json!({
        "type": format!("urn:sentrycam:problem:{code}"),
        "title": status.canonical_reason().unwrap_or("Error"),
        "status": status.as_u16(),
        "detail": detail,
    });
    for (name, value) in members {
        body[*name] = value.clone();
    }
    let content_type = [(header::CONTENT_TYPE, "application/problem+json")];
    (status, content_type, body.to_string()).into_response()
}

impl From<crate::admin::AdminError> for Problem {
    fn from(error: crate::admin::AdminError) -> Self {
        use crate::admin::AdminError;
        match error {
            AdminError::Db(error) if !error.is_data() => error.into(),
            AdminError::Unknown(_) => {
                Self::new(StatusCode::NOT_FOUND, "not-found", error.to_string())
            }
            AdminError::Conflict(_) => {
                Self::new(StatusCode::CONFLICT, "conflict", error.to_string())
            }
            other => Self::malformed(other.to_string()),
        }
    }
}

impl From<crate::db::DbError> for Problem {
    /// Any failure of the database answers 503: a device keeps its records and tries again.
    fn from(error: crate::db::DbError) -> Self {
        tracing::error!(error = &error as &dyn std::error::Error, "database failed");
        Self::unavailable()
    }
}
