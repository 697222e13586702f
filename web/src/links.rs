//! Where share links lead: under `/s/`, which a proxy lets through without asking who comes.
//!
//! Owns that place. What is there is the page, and what a link opens; nothing but a link counts there, so
//! that a proxy that lets it through lets nothing else through.

use axum::extract::Request;
use axum::http::Uri;
use axum::http::uri::PathAndQuery;

/// The link of a word, as seen from the page. The word stands behind `#`, where it is in no log of a server's
/// or a proxy's, and in no Referer.
pub(crate) fn of(word: &str) -> String {
    format!("s/#/share/{word}")
}

/// Whether this is asked there; it is then made what is asked without the place.
pub(crate) fn enter(request: &mut Request) -> bool {
    let Some(inner) = inner(request.uri()) else { return false };
    *request.uri_mut() = inner;
    true
}

fn inner(uri: &Uri) -> Option<Uri> {
    let rest = uri.path_and_query()?.as_str().strip_prefix(PLACE)?;
    if !rest.starts_with('/') {
        return None;
    }
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(rest).ok()?);
    Uri::from_parts(parts).ok()
}

const PLACE: &str = "/s";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_there_is_what_stands_behind_it() {
        for (of, is) in [
            ("/s/", "/"),
            ("/s/api/v1/me?a=/s/", "/api/v1/me?a=/s/"),
            ("http://localhost/s/assets/a.js", "http://localhost/assets/a.js"),
            ("/s/s/", "/s/"),
        ] {
            assert_eq!(inner(&of.parse().unwrap()).unwrap().to_string(), is, "{of}");
        }
        for of in ["/", "/s", "/s?a", "/S/", "/%73/", "//s/", "/sx/", "/api/v1/../../s/", "*"] {
            assert_eq!(inner(&of.parse().unwrap()), None, "{of}");
        }
    }
}
