//! The page's files, which the program carries.
//!
//! Owns what a browser may keep: what has its hash in its name for ever, the rest is asked for again.

use axum::body::Body;
use axum::http::{HeaderMap, Method, Response, StatusCode, Uri, header};

use crate::http::problem::Problem;
use crate::http::tag::{is_known, of_bytes};

/// Names and contents; empty where the program was built without them.
pub(crate) const FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/assets.rs"));

/// Whether there is a file for this path: the page, or a part of it.
pub(crate) fn has(path: &str) -> bool {
    path == "/" || FILES.iter().any(|(name, _)| path.strip_prefix('/') == Some(*name))
}

/// A file, by the path of the request. There is nothing but this list to be found.
pub(crate) async fn serve(method: Method, uri: Uri, headers: HeaderMap) -> Result<Response<Body>, Problem> {
    if !matches!(method, Method::GET | Method::HEAD) {
        return Err(Problem::new(
            StatusCode::NOT_FOUND,
            "no-such-page",
            "there is nothing to be changed here",
        ));
    }
    let path = match uri.path().trim_start_matches('/') {
        "" => "index.html",
        path => path,
    };
    let Some((_, bytes)) = FILES.iter().find(|(name, _)| *name == path) else {
        let why = if path == "index.html" {
            "this build has no page; the interface is under /api/v1/"
        } else {
            "there is no such page"
        };
        return Err(Problem::new(StatusCode::NOT_FOUND, "no-such-page", why));
    };
    let tag = format!("\"{}\"", of_bytes(bytes));
    let kept = if path.starts_with("assets/") { "public, max-age=31536000, immutable" } else { "no-cache" };
    let answer = Response::builder().header(header::ETAG, &tag).header(header::CACHE_CONTROL, kept);
    let answer = match is_known(&headers, &tag) {
        true => answer.status(StatusCode::NOT_MODIFIED).body(Body::empty()),
        false => answer.header(header::CONTENT_TYPE, kind(path)).body(Body::from(*bytes)),
    };
    answer.map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "fault", &error.to_string()))
}

fn kind(path: &str) -> &'static str {
    match path.rsplit_once('.').map(|(_, end)| end) {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("txt") => "text/plain; charset=utf-8",
        Some("json") => "application/json",
        Some("woff2") => "font/woff2",
        _ => "application/octet-stream",
    }
}
