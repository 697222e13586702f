//! Which requests are answered at all, and the headers of every answer.
//!
//! A page of another site may have a browser on this machine send requests here, and a name of its own may
//! lead to loopback: so the `Host` has to be a name of loopback or one of `--host`, what a browser sends has
//! to come from a page of that name, and what changes something has to show that it has read our answers.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::App;
use super::problem::Problem;

pub(super) async fn check(State(app): State<App>, request: Request, next: Next) -> Response {
    let mut response = match verdict(&request, &app.csrf, &app.hosts) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    };
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

fn verdict(request: &Request, csrf: &str, ours: &[String]) -> Result<(), Problem> {
    let headers = request.headers();
    let refuse = |code, why| Err(Problem::new(StatusCode::FORBIDDEN, code, why));
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(Ok(host)), None) = (hosts.next().map(|host| host.to_str()), hosts.next()) else {
        return Err(Problem::new(StatusCode::BAD_REQUEST, "other-host", "one Host has to be named"));
    };
    if !is_loopback(host) && !ours.iter().any(|name| name.eq_ignore_ascii_case(host)) {
        return Err(Problem::new(
            StatusCode::MISDIRECTED_REQUEST,
            "other-host",
            "this gateway is not called so; it is reached as localhost, or by a name of --host",
        ));
    }
    let site = text(headers, "sec-fetch-site");
    let origin = text(headers, "origin");
    let is_navigation =
        request.method() == Method::GET && text(headers, "sec-fetch-mode") == Some("navigate");
    let is_page = !request.uri().path().starts_with("/api/");
    if let Some("cross-site" | "same-site") = site
        && !(is_page && is_navigation)
    {
        return refuse("other-site", "this was asked by a page of another site");
    }
    let is_upgrade = headers.contains_key(header::UPGRADE);
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD);
    if let Some(origin) = origin
        && (changes || is_upgrade)
        && !is_same(origin, host)
    {
        return refuse("other-site", "this was asked by a page of another site");
    }
    if !changes {
        return Ok(());
    }
    let is_browser = site.is_some() || origin.is_some();
    if is_browser && text(headers, "x-csrf-token") != Some(csrf) {
        return refuse("no-token", "X-CSRF-Token has to be what /api/v1/me tells");
    }
    Ok(())
}

/// A header whose value is text; none if it is there twice.
fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => Some(value.to_str().unwrap_or("?")),
        (Some(_), Some(_)) => Some("?"),
        _ => None,
    }
}

fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() && !name.ends_with(':') => name,
        _ => host,
    };
    name.eq_ignore_ascii_case("localhost") || name == "127.0.0.1" || name == "[::1]"
}

/// Whether a page of this origin is one of ours: the same name and port.
fn is_same(origin: &str, host: &str) -> bool {
    let of = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    of.is_some_and(|of| of.eq_ignore_ascii_case(host))
}

/// The policy is the one that the page is tested with (web/page/README.md).
const HEADERS: &[(&str, &str)] = &[
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
         base-uri 'none'; form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
         trusted-types 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    fn verdict_of(method: &str, path: &str, headers: &[(&str, &str)]) -> Result<(), String> {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        verdict(&request.body(Body::empty()).unwrap(), "secret", &["consoles.example".to_owned()])
            .map_err(|problem| problem.code().to_owned())
    }

    #[test]
    fn only_names_of_loopback_are_ours() {
        for (host, is_ours) in [
            ("localhost:8080", true),
            ("127.0.0.1", true),
            ("[::1]:8080", true),
            ("LOCALHOST", true),
            ("consoles.example", true),
            ("consoles.example:8080", false),
            ("evil.example", false),
            ("127.0.0.1.evil.example:8080", false),
            ("localhost@evil.example", false),
            ("", false),
        ] {
            assert_eq!(verdict_of("GET", "/", &[("host", host)]).is_ok(), is_ours, "{host}");
        }
        assert!(verdict_of("GET", "/", &[]).is_err());
        assert!(verdict_of("GET", "/", &[("host", "localhost"), ("host", "evil.example")]).is_err());
    }

    #[test]
    fn pages_of_other_sites_get_nothing_done() {
        let host = ("host", "localhost:8080");
        let ours = ("origin", "http://localhost:8080");
        let other = ("origin", "http://evil.example");
        let upgrade = ("upgrade", "websocket");
        let cross = ("sec-fetch-site", "cross-site");
        let path = "/api/v1/consoles/web/socket";
        assert_eq!(verdict_of("GET", path, &[host, ours, upgrade]), Ok(()));
        assert_eq!(verdict_of("GET", path, &[host, upgrade]), Ok(()));
        for headers in [
            &[host, other, upgrade][..],
            &[host, ("origin", "null"), upgrade],
            &[host, ("origin", "http://localhost:8081"), upgrade],
            &[host, ours, other, upgrade],
            &[host, ours, cross, upgrade],
            &[host, cross],
        ] {
            assert_eq!(verdict_of("GET", path, headers), Err("other-site".into()), "{headers:?}");
        }
        let (named, of_it) = (("host", "consoles.example"), ("origin", "https://consoles.example"));
        assert_eq!(verdict_of("GET", path, &[named, of_it, upgrade]), Ok(()));
        assert_eq!(verdict_of("GET", path, &[named, ours, upgrade]), Err("other-site".into()));
        assert_eq!(verdict_of("GET", "/", &[host, cross, ("sec-fetch-mode", "navigate")]), Ok(()));
        let post = "/api/v1/consoles/web/bump";
        assert_eq!(verdict_of("POST", post, &[host]), Ok(()));
        assert_eq!(verdict_of("POST", post, &[host, ours]), Err("no-token".into()));
        assert_eq!(
            verdict_of("POST", post, &[host, ours, ("x-csrf-token", "guess")]),
            Err("no-token".into())
        );
        assert_eq!(verdict_of("POST", post, &[host, ours, ("x-csrf-token", "secret")]), Ok(()));
        assert_eq!(
            verdict_of("POST", post, &[host, other, ("x-csrf-token", "secret")]),
            Err("other-site".into())
        );
    }
}
