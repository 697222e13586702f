//! What a request asks: its path, its query, and its body in JSON.
//!
//! Owns how these are read, so that faults in them are problems like all others, and so that nobody who sends
//! slowly, or much, is waited for.

use std::collections::HashMap;
use std::time::Duration;

use axum::body::to_bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::problem::Problem;

/// What the path names.
pub(super) struct Named(HashMap<String, String>);

impl Named {
    pub(super) fn get(&self, what: &str) -> &str {
        self.0.get(what).map_or("", String::as_str)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(named)) => Ok(Self(named)),
            Err(rejection) => Err(bad(&rejection.body_text())),
        }
    }
}

/// What stands behind `?`.
#[derive(Default)]
pub(super) struct Words(HashMap<String, String>);

impl Words {
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Whether `with` has this.
    pub(super) fn has(&self, extra: &str) -> bool {
        self.get("with").is_some_and(|all| all.split(',').any(|one| one == extra))
    }

    /// The same for one word alone.
    pub(super) fn only(&self, name: &str) -> Self {
        Self(self.0.get(name).map(|value| (name.to_owned(), value.clone())).into_iter().collect())
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Words {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Query::from_request_parts(parts, state).await {
            Ok(Query(words)) => Ok(Self(words)),
            Err(rejection) => Err(bad(&rejection.body_text())),
        }
    }
}

/// The body: an object. Forms of other pages cannot send that type without being asked.
pub(crate) struct Asked(pub(crate) Value);

impl<S: Send + Sync> FromRequest<S> for Asked {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        Self::of(request, BODY_MOST).await
    }
}

impl Asked {
    /// With a body of at most so many bytes.
    pub(crate) async fn of(request: Request, most: usize) -> Result<Self, Problem> {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("application/json") {
            let why = "the body has to be application/json";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "bad-request", why));
        }
        let body = match timeout(BODY_WITHIN, to_bytes(request.into_body(), most)).await {
            Ok(Ok(body)) => body,
            Ok(Err(_)) => {
                let why = format!("the body was cut off, or has more than {most} bytes");
                return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "bad-request", &why));
            }
            Err(_) => {
                let why = "the body did not come in time";
                return Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "too-slow", why));
            }
        };
        if body.is_empty() {
            return Ok(Self(json!({})));
        }
        match serde_json::from_slice(&body) {
            Ok(Value::Object(fields)) => Ok(Self(Value::Object(fields))),
            Ok(_) => Err(bad("the body has to be an object")),
            Err(error) => Err(bad(&format!("the body is no JSON: {error}"))),
        }
    }
}

pub(super) fn bad(why: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "bad-request", why)
}

const BODY_WITHIN: Duration = Duration::from_secs(10);
/// What is typed at once.
const BODY_MOST: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    async fn verdict(kind: &str, body: Body) -> Result<Value, String> {
        let request = Request::post("/").header("content-type", kind).body(body).unwrap();
        Asked::from_request(request, &())
            .await
            .map(|asked| asked.0)
            .map_err(|problem| problem.code().to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_is_an_object_of_some_size_that_comes_in_time() {
        let json = "application/json; charset=utf-8";
        assert_eq!(verdict(json, Body::from("{\"a\":1}")).await, Ok(json!({"a": 1})));
        assert_eq!(verdict(json, Body::empty()).await, Ok(json!({})));
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(BODY_MOST));
        for (kind, body) in [(json, "[]"), (json, "{"), ("text/plain", "{}"), (json, &long)] {
            assert_eq!(verdict(kind, Body::from(body.to_owned())).await, Err("bad-request".to_owned()));
        }
        let (sender, body) = crate::http::piped::piped();
        sender.send(Ok("{".into())).await.unwrap();
        assert_eq!(verdict(json, body).await, Err("too-slow".to_owned()));
    }
}
