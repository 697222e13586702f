//! Where requests come in.
//!
//! Owns the order of what is asked of a request before anything is done: of which site it is, who asks, and
//! whether that one has read our answers. What is asked for is then the business of the pages, in his view.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::assets;
use crate::auth::caller::Caller;
use crate::auth::role::Role;
use crate::auth::{Auth, By, Who, audit};
use crate::connections::{Answer, Peer};
use crate::http::asked::Asked;
use crate::http::problem::Problem;
use crate::http::{Known, guard};
use crate::links;
use crate::views::{View, Views};

/// Answers what is asked on connections.
pub(crate) struct Entrance {
    auth: Auth,
    views: Views,
    /// What the gateway itself sees.
    own: Arc<View>,
    /// Names of this gateway beside those of loopback.
    hosts: Vec<String>,
}

impl Answer for Entrance {
    async fn answer(self: Arc<Self>, peer: Peer, request: Request) -> Response {
        let is_loopback = guard::is_for_loopback(request.headers());
        let (response, is_secure) = match self.auth.caller(&peer, request.headers()) {
            Ok(caller) => {
                let is_secure = caller.is_secure;
                (self.admit(&peer, caller, request).await, is_secure)
            }
            Err(problem) => (Err(problem), peer.is_tls),
        };
        let mut response = response.unwrap_or_else(IntoResponse::into_response);
        // It would hold for all that this machine has at other ports.
        guard::seal(&mut response, is_secure && !is_loopback);
        response
    }
}

impl Entrance {
    pub(crate) fn new(auth: Auth, views: Views, hosts: Vec<String>) -> Self {
        let own = views.own();
        Self::with(auth, views, own, hosts)
    }

    /// `own`: what the gateway itself sees.
    pub(crate) const fn with(auth: Auth, views: Views, own: Arc<View>, hosts: Vec<String>) -> Self {
        Self { auth, views, own, hosts }
    }

    /// Reads what can be read again. Those who may not be here any more go.
    pub(crate) fn reload(&self) {
        match self.auth.reload() {
            Ok(Some(is_same)) => {
                self.views.sweep(|who, is_used| is_same(&who.name) && self.auth.stays(who, is_used));
            }
            // By whom certificates are trusted may be another, though.
            Ok(None) => self.views.sweep(|who, is_used| self.auth.stays(who, is_used)),
            Err(why) => log::error!("{why}: the users from before stay"),
        }
    }

    /// Ends what has had its time, for as long as the program runs.
    pub(crate) async fn sweep(&self) {
        let mut again = tokio::time::interval(AGAIN_EVERY);
        loop {
            tokio::select! {
                () = tokio::time::sleep(SWEEP_EVERY) => {}
                _ = again.tick() => self.auth.catch_up(),
                () = self.auth.revoked() => {}
            }
            self.views.sweep(|who, is_used| self.auth.stays(who, is_used));
        }
    }

    async fn admit(&self, peer: &Peer, caller: Caller, mut request: Request) -> Result<Response, Problem> {
        guard::check_length(&request)?;
        let is_guest = links::enter(&mut request);
        guard::check_site(&request, &self.hosts, peer.local, caller.is_secure)?;
        if !self.auth.is_needed() {
            // A proxy may ask people who they are without telling us, and lets everybody come here.
            if is_guest {
                let why = "nothing can be shared here: nobody is known";
                return Err(Problem::new(StatusCode::NOT_FOUND, "no-such-page", why));
            }
            let known = Known { token: self.auth.token(None), ..Known::default() };
            guard::check_token(&request, &known.token, false)?;
            return Ok(answer(&self.own, request, known).await);
        }
        let path = request.uri().path();
        // With a query more is asked for than a probe is told: which consoles there are.
        let is_probe = matches!(path, "/healthz" | "/readyz" | "/metrics")
            && request.uri().query().is_none()
            && caller.is_local
            && !is_guest
            && guard::is_for_loopback(request.headers());
        // The page is nobody's secret; a probe of this machine's sees what it can see of the process.
        if (assets::has(path) || is_probe) && !guard::changes(&request) {
            let known = Known { is_probe: true, ..Known::default() };
            return Ok(answer(&self.own, request, known).await);
        }
        if path == "/api/v1/login" && !is_guest {
            return self.log_in(&caller, request).await;
        }
        let who = match is_guest {
            true => self.auth.guest(&caller, request.headers())?,
            false => self.known(&caller, request.headers()).await?,
        };
        let has_session = matches!(who.by, By::Session(_));
        let token = self.auth.token(Some(&who));
        guard::check_token(&request, &token, has_session)?;
        if path == "/api/v1/logout" && !is_guest {
            return self.log_out(&caller, &request);
        }
        let view = self.views.of(&who).await?;
        let entry = what(&request).map(|done| audit::Entry::begin(&who, done));
        let desk = self.auth.shares_for(&who);
        let known = Known {
            name: who.name.clone(),
            role: who.role.to_string(),
            token,
            has_session,
            is_probe: false,
            may_share: desk.is_some() && who.role >= Role::Write,
            share: match &who.by {
                By::Share(share) => Some(json!({
                    "server": share.server, "uuid": share.uuid, "console": share.console,
                    "expires_ms": share.expires * 1000,
                })),
                _ => None,
            },
        };
        if let Some(desk) = desk {
            request.extensions_mut().insert(desk);
        }
        if let Some(entry) = &entry {
            request.extensions_mut().insert(Arc::clone(entry));
        }
        let response = answer(&view, request, known).await;
        if let Some(entry) = entry
            && response.status() != StatusCode::SWITCHING_PROTOCOLS
        {
            entry.ends(&response.status().as_u16());
        }
        Ok(response)
    }

    async fn known(&self, caller: &Caller, headers: &HeaderMap) -> Result<Who, Problem> {
        let who = self.auth.who(caller, headers).await?;
        who.ok_or_else(|| self.auth.nobody("log in", guard::is_browser(headers)))
    }

    async fn log_in(&self, caller: &Caller, request: Request) -> Result<Response, Problem> {
        only_post(&request)?;
        let headers = request.headers().clone();
        let Asked(asked) = Asked::of(request, LOGIN_MOST).await?;
        let (Some(name), Some(password)) = (asked["user"].as_str(), asked["password"].as_str()) else {
            let why = "user and password are texts";
            return Err(Problem::new(StatusCode::BAD_REQUEST, "bad-request", why));
        };
        let cookie = self.auth.log_in(caller, &headers, name, password).await?;
        Ok(with_cookie(&cookie))
    }

    fn log_out(&self, caller: &Caller, request: &Request) -> Result<Response, Problem> {
        only_post(request)?;
        let cookie = self.auth.log_out(caller, request.headers());
        self.views.sweep(|who, is_used| self.auth.stays(who, is_used));
        Ok(with_cookie(&cookie))
    }
}

async fn answer(view: &Arc<View>, mut request: Request, known: Known) -> Response {
    request.extensions_mut().insert(known);
    view.answer(request).await
}

fn only_post(request: &Request) -> Result<(), Problem> {
    if request.method() == Method::POST {
        return Ok(());
    }
    Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED, "bad-request", "this is asked by POST"))
}

fn with_cookie(cookie: &str) -> Response {
    let mut response = ([(header::CONTENT_TYPE, "application/json")], json!({}).to_string()).into_response();
    if let Ok(cookie) = HeaderValue::try_from(cookie) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    response
}

/// What is worth a line: what changes something, and what shows a console. Never what is typed.
fn what(request: &Request) -> Option<String> {
    let path = request.uri().path();
    let shows = path.ends_with("/socket") || path.ends_with("/log") || path.starts_with("/console_log/");
    (guard::changes(request) || shows).then(|| format!("{} {path:?}", request.method()))
}

/// How late the end of a session, or of a share, may be noticed.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// A name and a password.
const LOGIN_MOST: usize = 8 * 1024;
/// How often what could not be written is tried again.
const AGAIN_EVERY: Duration = Duration::from_secs(10);
