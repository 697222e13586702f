//! Answers that say which state they are of (RFC 9110 §8.8.3), so that who has it is not sent it again.

use std::fmt::Write;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use ring::digest::{SHA256, digest};
use serde_json::Value;

use super::json_of;

/// The value, in the state of this name; or that it is as who asks knows it. It may be kept, and is to be
/// asked for again.
pub(super) fn tagged(headers: &HeaderMap, state: &str, value: &Value) -> Response {
    let tag = format!("\"{state}\"");
    let mut response = match is_known(headers, &tag) {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => json_of(value),
    };
    if let Ok(tag) = format!("W/{tag}").parse() {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// The name of a state that has these bytes, and of no other that anybody finds.
pub(crate) fn of_bytes(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref()[..16].iter().fold(String::new(), |mut name, byte| {
        let _ = write!(name, "{byte:02x}");
        name
    })
}

/// Whether `If-None-Match` names it, among others or by `*` (RFC 9110 §13.1.2). Our tags have no commas.
pub(crate) fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    let named = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    named
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|one| one == "*" || one.strip_prefix("W/").unwrap_or(one) == tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_knows_the_state_is_told_that_it_is_the_same_in_any_way_of_asking() {
        for (named, is_known) in [
            (&["W/\"e-1\""][..], true),
            (&["\"e-1\""], true),
            (&["\"other\", W/\"e-1\""], true),
            (&["\"other\"", "W/\"e-1\""], true),
            (&["*"], true),
            (&["W/\"e-2\"", "e-1", "\"e-1"], false),
            (&[], false),
        ] {
            let mut headers = HeaderMap::new();
            for tag in named {
                headers.append(header::IF_NONE_MATCH, tag.parse().unwrap());
            }
            let answer = tagged(&headers, "e-1", &Value::Null);
            assert_eq!(answer.status() == StatusCode::NOT_MODIFIED, is_known, "{named:?}");
            // A cache takes over what a 304 says.
            assert_eq!(answer.headers()["etag"], "W/\"e-1\"");
            assert_eq!(answer.headers()["cache-control"], "no-cache");
        }
    }
}
