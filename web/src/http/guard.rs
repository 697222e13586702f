//! Which requests are answered at all, and the headers of every answer.
//!
//! A page of another site may have a browser send requests here, and a name of its own may lead here: so the
//! `Host` has to be a name of ours, what a browser sends has to come from a page of that name, and what
//! changes something has to show that it has read our answers.

use std::net::{IpAddr, SocketAddr};

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::Response;

use super::problem::Problem;
use crate::connections::HEAD_MOST;

/// Adds what every answer says.
pub(crate) fn seal(response: &mut Response, is_secure: bool) {
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    if is_secure {
        // Whoever was here once in TLS is asked for no password in clear.
        let year = HeaderValue::from_static("max-age=31536000");
        headers.insert(header::STRICT_TRANSPORT_SECURITY, year);
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}

/// Whether its first line and headers are as short as they have to be. What is read at once may be more than
/// that before it is looked at.
pub(crate) fn check_length(request: &Request) -> Result<(), Problem> {
    let line = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
    let headers = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len());
    if line + headers.sum::<usize>() <= HEAD_MOST {
        return Ok(());
    }
    let why = format!("the head of the request has more than {HEAD_MOST} bytes");
    Err(Problem::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "bad-request", &why))
}

/// Whether this is asked of us, by nobody's page but ours. `local` is the address that it came to;
/// `is_secure`: by TLS, and a page that did not come by that is another.
pub(crate) fn check_site(
    request: &Request,
    ours: &[String],
    local: SocketAddr,
    is_secure: bool,
) -> Result<(), Problem> {
    let headers = request.headers();
    let refuse = |code, why| Err(Problem::new(StatusCode::FORBIDDEN, code, why));
    let host = host(headers)?;
    // As of a proxy, what stands there counts (RFC 9112 §3.2.2): both have to be the same.
    if request.uri().authority().is_some_and(|of| !of.as_str().eq_ignore_ascii_case(host)) {
        return Err(other_host("what is asked for is at one host, and Host names another"));
    }
    let is_ours = is_loopback(host) || is_at(host, local.ip());
    if !is_ours && !ours.iter().any(|name| name.eq_ignore_ascii_case(host)) {
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
    if let Some(origin) = origin
        && (changes(request) || is_upgrade)
        && !is_same(origin, host, is_secure)
    {
        return refuse("other-site", "this was asked by a page of another site");
    }
    Ok(())
}

/// Whether what changes something shows the token. Programs do not have to, where they say with each request
/// who they are.
pub(crate) fn check_token(request: &Request, token: &str, is_always: bool) -> Result<(), Problem> {
    if !changes(request) || !(is_always || is_browser(request.headers())) {
        return Ok(());
    }
    if text(request.headers(), "x-csrf-token") == Some(token) {
        return Ok(());
    }
    Err(Problem::new(StatusCode::FORBIDDEN, "no-token", "X-CSRF-Token has to be what /api/v1/me tells"))
}

/// Whether something may be another after it.
pub(crate) fn changes(request: &Request) -> bool {
    !matches!(*request.method(), Method::GET | Method::HEAD)
}

/// Whether a browser has sent it.
pub(crate) fn is_browser(headers: &HeaderMap) -> bool {
    headers.contains_key("sec-fetch-site") || headers.contains_key(header::ORIGIN)
}

/// Whether it is asked of this machine by a name for this machine alone.
pub(crate) fn is_for_loopback(headers: &HeaderMap) -> bool {
    host(headers).is_ok_and(is_loopback)
}

fn host(headers: &HeaderMap) -> Result<&str, Problem> {
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next().map(|host| host.to_str()), hosts.next()) {
        (Some(Ok(host)), None) => Ok(host),
        _ => Err(other_host("one Host has to be named")),
    }
}

fn other_host(why: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "other-host", why)
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
    let name = name_of(host);
    name.eq_ignore_ascii_case("localhost") || name == "127.0.0.1" || name == "[::1]"
}

/// Whether it is this address. No name of somebody else's leads to a page of which this is the origin.
fn is_at(host: &str, address: IpAddr) -> bool {
    let name = name_of(host);
    let written = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    written.parse::<IpAddr>().is_ok_and(|written| written.to_canonical() == address.to_canonical())
}

/// Without its port.
fn name_of(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() && !name.ends_with(':') => name,
        _ => host,
    }
}

/// Whether a page of this origin is one of ours: the same name and port, and in TLS where we are. Where a
/// proxy does that and is not believed, it is not known.
fn is_same(origin: &str, host: &str, is_secure: bool) -> bool {
    let clear = if is_secure { None } else { origin.strip_prefix("http://") };
    let of = clear.or_else(|| origin.strip_prefix("https://"));
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
        let request = request.body(Body::empty()).unwrap();
        check_site(&request, &["consoles.example".to_owned()], "192.0.2.5:80".parse().unwrap(), false)
            .and_then(|()| check_token(&request, "secret", false))
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
            ("192.0.2.5:8080", true),
            ("192.0.2.5.evil.example", false),
            ("192.0.2.6", false),
            ("[::ffff:192.0.2.5]", true),
            ("", false),
        ] {
            assert_eq!(verdict_of("GET", "/", &[("host", host)]).is_ok(), is_ours, "{host}");
        }
        assert!(verdict_of("GET", "/", &[]).is_err());
        for (path, is_ours) in [
            ("http://localhost:8080/", true),
            ("http://LOCALHOST:8080/api/v1/me", true),
            ("http://evil.example/", false),
            ("http://localhost/", false),
            ("http://localhost:8080@evil.example/", false),
        ] {
            assert_eq!(verdict_of("GET", path, &[("host", "localhost:8080")]).is_ok(), is_ours, "{path}");
        }
        assert!(verdict_of("GET", "/", &[("host", "localhost"), ("host", "evil.example")]).is_err());
    }

    #[test]
    fn a_page_in_clear_is_none_of_ours_where_we_are_in_tls() {
        for (origin, is_secure, is_ours) in [
            ("https://a.example", true, true),
            ("http://a.example", true, false),
            ("http://a.example", false, true),
            ("https://a.example", false, true),
            ("ftp://a.example", false, false),
        ] {
            assert_eq!(is_same(origin, "a.example", is_secure), is_ours, "{origin} {is_secure}");
        }
        let headers_of = |is_secure| {
            let mut response = Response::new(Body::empty());
            seal(&mut response, is_secure);
            response.headers().contains_key("strict-transport-security")
        };
        assert!(headers_of(true) && !headers_of(false));
    }

    #[test]
    fn a_head_is_no_longer_than_it_may_be_wherever_it_is_long() {
        let request = |path: usize, value: usize, count: usize| {
            let mut request = Request::get(format!("/{}", "p".repeat(path)));
            for _ in 0..count {
                request = request.header("x-long", "v".repeat(value));
            }
            check_length(&request.body(Body::empty()).unwrap()).is_ok()
        };
        assert!(request(1000, 60_000, 1) && request(60_000, 0, 1) && request(0, 600, 100));
        assert!(!request(1000, 65_000, 1) && !request(65_000, 600, 2) && !request(0, 660, 100));
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
