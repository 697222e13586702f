//! Errors, as problem details (RFC 9457).

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use vspc_operator::Refusal;

/// An error, for a program and for a person.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    code: String,
    detail: String,
    candidates: Value,
    header: Option<Box<(HeaderName, String)>>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, code: &str, detail: &str) -> Self {
        Self {
            status,
            code: code.to_owned(),
            detail: detail.to_owned(),
            candidates: Value::Null,
            header: None,
        }
    }

    /// What was found is not for who asks any more.
    pub(crate) fn refused(why: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, "not-allowed", why)
    }

    pub(crate) fn with_candidates(mut self, candidates: Value) -> Self {
        self.candidates = candidates;
        self
    }

    pub(crate) fn with_header(mut self, name: HeaderName, value: &str) -> Self {
        self.header = Some(Box::new((name, value.to_owned())));
        self
    }

    /// As a notice on a websocket.
    pub(crate) fn notice(&self) -> Value {
        json!({"event": "error", "code": self.code, "message": self.detail})
    }

    pub(crate) fn code(&self) -> &str {
        &self.code
    }

    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }
}

/// What a concentrator refuses (operator.md §2).
impl From<Refusal> for Problem {
    fn from(mut refusal: Refusal) -> Self {
        let status = match refusal.code.as_str() {
            "bad-request" => StatusCode::BAD_REQUEST,
            "not-allowed" => StatusCode::FORBIDDEN,
            "no-such-console" | "no-such-client" | "no-such-stream" | "no-agent" => StatusCode::NOT_FOUND,
            "ambiguous" | "locked" | "stream-in-use" | "too-many" => StatusCode::CONFLICT,
            "gone" => StatusCode::GONE,
            "unknown-op" | "unsupported" => StatusCode::NOT_IMPLEMENTED,
            "shutting-down" => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::BAD_GATEWAY,
        };
        let candidates = refusal.details["candidates"].take();
        Self::new(status, &refusal.code, &refusal.message).with_candidates(candidates)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut body = json!({
            "type": "about:blank", "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(), "detail": self.detail, "code": self.code,
        });
        if !self.candidates.is_null() {
            body["candidates"] = self.candidates;
        }
        let mut response = Response::new(Body::from(body.to_string()));
        *response.status_mut() = self.status;
        let kind = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        if let Some((name, value)) = self.header.map(|header| *header)
            && let Ok(value) = value.parse()
        {
            response.headers_mut().insert(name, value);
        }
        response
    }
}
