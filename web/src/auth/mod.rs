//! Who asks, and what that one may do here.
//!
//! Owns the ways in which somebody is known: a password, for a session or with each request; a certificate;
//! the word of a proxy. What each may do at which console is the concentrators' business: they are told for
//! whom is asked, and in which role (operator.md §3).

mod attempts;
pub(crate) mod audit;
pub(crate) mod caller;
pub(crate) mod passwords;
pub(crate) mod role;
mod sessions;
pub(crate) mod shares;
pub(crate) mod users;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, StatusCode, header};
use base64ct::{Base64, Encoding};
use ring::hmac;
use serde_json::{Value, json};

use self::attempts::Attempts;
use self::caller::{Caller, Proxies};
use self::passwords::{Passwords, Place, Verdict};
use self::role::Role;
pub(crate) use self::sessions::{SessionId, Sessions};
use self::shares::{Share, Shares};
use self::users::Users;
use crate::chance;
use crate::connections::block;
use crate::http::problem::Problem;
use crate::tls::{Generation, Proof};

/// What it goes by.
#[derive(Default)]
pub(crate) struct Config {
    pub(crate) users: Option<PathBuf>,
    pub(crate) proxies: Proxies,
    pub(crate) has_certificates: bool,
    /// Of those by whom certificates are trusted.
    pub(crate) generation: Generation,
    /// The role of whom a certificate or a proxy names and the file of users does not.
    pub(crate) other_role: Option<Role>,
    pub(crate) idle: Duration,
    pub(crate) most: Duration,
    /// Where shares are kept; there are none without it.
    pub(crate) state: Option<PathBuf>,
}

/// See above.
pub(crate) struct Auth {
    config: Config,
    users: Mutex<Arc<Users>>,
    sessions: Sessions,
    attempts: Attempts,
    passwords: Passwords,
    shares: Option<Arc<Shares>>,
    /// Makes tokens that only this process can make.
    key: hmac::Key,
}

/// Somebody who is known.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Who {
    pub(crate) name: String,
    pub(crate) from: IpAddr,
    pub(crate) role: Role,
    pub(crate) by: By,
}

/// By what.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum By {
    Session(SessionId),
    Password,
    Certificate(Proof),
    Proxy,
    /// The link that the one has made in whose name this is.
    Share(Box<Share>),
}

impl By {
    /// What whoever is here by this is told when that ends.
    pub(crate) const fn ending(&self) -> &'static str {
        match self {
            Self::Session(_) => "the session has ended: log in again",
            Self::Share(_) => SHARE_ENDED,
            Self::Certificate(_) => "the certificate counts no more, or its role is another",
            Self::Password | Self::Proxy => "who asks may not be here any more, or in another role",
        }
    }
}

impl Who {
    /// For whom a concentrator is asked (operator.md §3).
    pub(crate) fn behalf(&self) -> Value {
        let address = match &self.by {
            By::Share(share) => format!("{}, by share {}", self.from, share.id),
            _ => self.from.to_string(),
        };
        json!({"user": self.name, "address": address, "rights": self.role.rights()})
    }

    /// Whether these two take each other's room: all who come by links of one maker do.
    pub(crate) fn is_same_one(&self, other: &Self) -> bool {
        self.name == other.name && self.is_by_share() == other.is_by_share()
    }

    /// Whether the concentrators have the same to say to both: they know a name and a role.
    pub(crate) fn is_known_as(&self, other: &Self) -> bool {
        self.name == other.name && self.role == other.role
    }

    pub(crate) const fn is_by_share(&self) -> bool {
        matches!(self.by, By::Share(_))
    }

    /// As whom he has a place here: whoever has a link is one with his neighbours, who have it as well.
    pub(crate) fn seat(&self) -> Self {
        let from = if self.is_by_share() { block(self.from) } else { self.from };
        Self { from, ..self.clone() }
    }
}

impl Auth {
    /// Reads the users. Waits for the disk.
    pub(crate) fn new(config: Config) -> Result<Self, String> {
        let users = config.users.as_deref().map(Users::load).transpose()?.unwrap_or_default();
        Ok(Self {
            users: Mutex::new(Arc::new(users)),
            sessions: Sessions::new(config.idle, config.most),
            attempts: Attempts::default(),
            passwords: Passwords::default(),
            shares: config.state.as_deref().map(Shares::open).transpose()?.map(Arc::new),
            key: hmac::Key::new(hmac::HMAC_SHA256, &chance::bytes::<32>()),
            config,
        })
    }

    /// Whether people have to say who they are; else whoever comes may do what the gateway may.
    pub(crate) fn is_needed(&self) -> bool {
        self.has_passwords() || self.config.has_certificates || self.config.proxies.user_header.is_some()
    }

    pub(crate) fn has_passwords(&self) -> bool {
        self.config.users.is_some()
    }

    /// Reads the users again. Sessions of those whose line is another end. Returns whose line is another, as
    /// a question.
    pub(crate) fn reload(&self) -> Result<Option<impl Fn(&str) -> bool + use<>>, String> {
        let Some(path) = &self.config.users else { return Ok(None) };
        let new = Arc::new(Users::load(path)?);
        let old = std::mem::replace(
            &mut *self.users.lock().unwrap_or_else(PoisonError::into_inner),
            Arc::clone(&new),
        );
        self.passwords.forget();
        let is_same = move |name: &str| is_same(&old, &new, name);
        self.sessions.keep(&is_same);
        log::info!("the users were read again: {}", self.users().len());
        Ok(Some(is_same))
    }

    fn users(&self) -> Arc<Users> {
        Arc::clone(&self.users.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn caller(
        &self,
        peer: &crate::connections::Peer,
        headers: &HeaderMap,
    ) -> Result<Caller, Problem> {
        self.config.proxies.caller(peer, headers)
    }

    /// Who asks; `None`: he has not said. What is said and wrong is refused.
    pub(crate) async fn who(&self, caller: &Caller, headers: &HeaderMap) -> Result<Option<Who>, Problem> {
        let who = |name: String, role, by| Some(Who { name, from: caller.from, role, by });
        // Whoever comes by a link is nobody else, whoever he may be besides.
        if let Some(word) = share_word(headers) {
            return self.holder(caller, word).map(Some);
        }
        if let Some(name) = &caller.user {
            return match self.role_of(name) {
                Some(role) => Ok(who(name.clone(), role, By::Proxy)),
                None => Err(self.unknown(name, caller, "proxy")),
            };
        }
        if let Some(given) = headers.get(header::AUTHORIZATION) {
            let Some((name, password)) = basic(given.as_bytes()) else {
                return Err(self.nobody("Authorization is no user and password (Basic)", false));
            };
            let role = self.check(&self.users(), caller, (&name, &password), "basic").await?;
            return Ok(who(name, role, By::Password));
        }
        if let Some(word) = self.cookie(caller, headers)
            && let Some((id, name)) = self.sessions.of(&word, Instant::now())
            && let Some(role) = self.users().get(&name).map(|user| user.role)
        {
            return Ok(who(name, role, By::Session(id)));
        }
        if let Some(shown) = caller.certificate.as_ref().filter(|_| self.config.has_certificates) {
            let name = &*shown.name;
            if !shown.proof.holds(&self.config.generation) {
                audit::note(name, caller.from, "certificate", &"refused: it was trusted once");
                // On another connection another may be shown.
                let why = "the certificate is not trusted any more: connect again";
                let problem = Problem::new(StatusCode::UNAUTHORIZED, "not-known", why);
                return Err(problem.with_header(header::CONNECTION, "close"));
            }
            return match self.role_of(name) {
                Some(role) => Ok(who(name.to_owned(), role, By::Certificate(shown.proof))),
                None => Err(self.unknown(name, caller, "certificate")),
            };
        }
        Ok(None)
    }

    /// Who asks where links alone count, whatever else is said there.
    pub(crate) fn guest(&self, caller: &Caller, headers: &HeaderMap) -> Result<Who, Problem> {
        let Some(word) = share_word(headers) else {
            let why = "this takes a link by which a console is shared";
            return Err(Problem::new(StatusCode::UNAUTHORIZED, "not-known", why));
        };
        self.holder(caller, word)
    }

    /// Whoever has the link of this word.
    fn holder(&self, caller: &Caller, word: &str) -> Result<Who, Problem> {
        let share = self.shares.as_ref().and_then(|shares| shares.of(word));
        let Some(share) = share.filter(|share| self.is_good(share)) else {
            return Err(Problem::new(StatusCode::UNAUTHORIZED, "share-ended", SHARE_ENDED));
        };
        let (name, role) = (share.by.clone(), share.role);
        Ok(Who { name, from: caller.from, role, by: By::Share(Box::new(share)) })
    }

    /// Whether somebody is who he was, in the same role.
    pub(crate) fn stays(&self, who: &Who, is_used: bool) -> bool {
        match &who.by {
            By::Session(id) => self.sessions.is_alive(id, is_used, Instant::now()),
            By::Password => self.users().get(&who.name).is_some_and(|user| user.role == who.role),
            By::Certificate(proof) => {
                proof.holds(&self.config.generation) && self.role_of(&who.name) == Some(who.role)
            }
            By::Proxy => self.role_of(&who.name) == Some(who.role),
            By::Share(share) => {
                let now = self.shares.as_ref().and_then(|shares| shares.get(&share.id));
                now.is_some_and(|now| now == **share && self.is_good(share))
            }
        }
    }

    /// Whether the one who has made it might make it now.
    fn is_good(&self, share: &Share) -> bool {
        let role = match share.is_listed {
            true => self.users().get(&share.by).map(|user| user.role),
            false => self.role_of(&share.by),
        };
        role.is_some_and(|role| role >= share.role && role >= Role::Write)
    }

    /// The shares, for whoever may see to them.
    pub(crate) fn shares_for(&self, who: &Who) -> Option<(Arc<Shares>, Who)> {
        let shares = self.shares.as_ref().filter(|_| !matches!(who.by, By::Share(_)))?;
        Some((Arc::clone(shares), who.clone()))
    }

    /// Waits until a share is revoked.
    pub(crate) async fn revoked(&self) {
        match &self.shares {
            Some(shares) => shares.revoked().await,
            None => std::future::pending().await,
        }
    }

    /// Has the disk told of shares that were revoked, where it could not be.
    pub(crate) fn catch_up(&self) {
        if let Some(shares) = self.shares.clone() {
            tokio::spawn(async move { shares.catch_up().await });
        }
    }

    /// The role of whom a certificate or a proxy names.
    fn role_of(&self, name: &str) -> Option<Role> {
        if !users::is_name(name) {
            return None;
        }
        self.users().get(name).map(|user| user.role).or(self.config.other_role)
    }

    fn unknown(&self, name: &str, caller: &Caller, by: &str) -> Problem {
        audit::note(name, caller.from, by, &"refused: has no role here");
        Problem::new(StatusCode::FORBIDDEN, "no-role", "you are known, and have no role here")
    }

    /// Checks a password. Returns the role.
    async fn check(
        &self,
        users: &Users,
        caller: &Caller,
        (name, password): (&str, &str),
        what: &str,
    ) -> Result<Role, Problem> {
        let (from, now) = (block(caller.from), Instant::now());
        let wrong = || self.nobody("the name or the password is wrong", false);
        if !users::is_name(name) || password.len() > passwords::LONGEST {
            // Nobody is called so: nothing is tried by that.
            let some: String = name.chars().take(64).collect();
            audit::note(&some, caller.from, what, &"failed: no such name");
            return Err(wrong());
        }
        if self.passwords.knows(users, name, password)
            && let Some(user) = users.get(name)
        {
            return Ok(user.role);
        }
        let entry = audit::Entry::of(name, caller.from, what);
        if let Err(wait) = self.attempts.begin(from, name, now) {
            entry.ends(&"refused: too many attempts");
            return Err(too_many("too many attempts: wait a little", wait));
        }
        let place = if self.attempts.knows(from, name) { Place::Known } else { Place::Of(from) };
        match (self.passwords.compare(users, name, password, place).await, users.get(name)) {
            // It may be another by now, or nobody's.
            (Verdict::Right, Some(user)) if is_same(users, &self.users(), name) => {
                self.attempts.was_right(from, name, now);
                entry.ends(&"ok");
                Ok(user.role)
            }
            (Verdict::Busy, _) => {
                entry.ends(&"refused: too many at once");
                Err(too_many("too many log in at once: wait a little", Duration::from_secs(1)))
            }
            _ => {
                entry.ends(&"failed: wrong name or password");
                Err(wrong())
            }
        }
    }

    /// Why nobody is let in. A browser would ask by itself, over our page, where it is told that it may.
    pub(crate) fn nobody(&self, why: &str, is_browser: bool) -> Problem {
        if !self.has_passwords() {
            let why = "this takes a certificate, or a proxy that says who asks";
            return Problem::new(StatusCode::UNAUTHORIZED, "not-known", why);
        }
        let problem = Problem::new(StatusCode::UNAUTHORIZED, "login-needed", why);
        match !is_browser {
            true => {
                problem.with_header(header::WWW_AUTHENTICATE, "Basic realm=\"vspc-web\", charset=\"UTF-8\"")
            }
            false => problem,
        }
    }

    // Sessions.

    /// Logs in, with a name and a password. Returns the cookie.
    pub(crate) async fn log_in(
        &self,
        caller: &Caller,
        headers: &HeaderMap,
        name: &str,
        password: &str,
    ) -> Result<String, Problem> {
        if !self.has_passwords() {
            let why = "nobody has a password here";
            return Err(Problem::new(StatusCode::NOT_FOUND, "no-such-page", why));
        }
        let users = self.users();
        self.check(&users, caller, (name, password), "login").await?;
        // Whatever word was there before is none of the new session's.
        self.log_out(caller, headers);
        let Some(word) = self.sessions.begin(name, Instant::now()) else {
            return Err(too_many("too many are logged in", Duration::from_secs(60)));
        };
        // Meanwhile the file may have been read again, which ended the sessions that there were by then.
        if !is_same(&users, &self.users(), name) {
            if let Some((id, _)) = self.sessions.of(&word, Instant::now()) {
                self.sessions.end(&id);
            }
            return Err(self.nobody("log in again", false));
        }
        Ok(cookie(caller, &word, self.sessions.longest().as_secs()))
    }

    /// Ends the session of a request, if it has one. Returns the cookie that takes its place.
    pub(crate) fn log_out(&self, caller: &Caller, headers: &HeaderMap) -> String {
        let of_it = self.cookie(caller, headers).and_then(|word| self.sessions.of(&word, Instant::now()));
        if let Some((id, _)) = of_it
            && let Some(name) = self.sessions.end(&id)
        {
            audit::note(&name, caller.from, "logout", &"ok");
        }
        cookie(caller, "", 0)
    }

    /// The word in the cookie; none where there are several, of which somebody else may have set one.
    fn cookie(&self, caller: &Caller, headers: &HeaderMap) -> Option<String> {
        let wanted = cookie_name(caller);
        let mut found = None;
        for line in headers.get_all(header::COOKIE) {
            for one in line.to_str().ok()?.split(';') {
                if let Some((name, word)) = one.trim().split_once('=')
                    && name == wanted
                    && found.replace(word.to_owned()).is_some()
                {
                    return None;
                }
            }
        }
        found
    }

    /// What a request that changes something has to show: only who can read our answers to him knows it.
    pub(crate) fn token(&self, who: Option<&Who>) -> String {
        let of = match who {
            None => "nobody".to_owned(),
            Some(Who { by: By::Session(id), .. }) => format!("session {id:?}"),
            Some(who) => format!("{:?} {:?}", who.by, who.name),
        };
        let tag = hmac::sign(&self.key, of.as_bytes());
        tag.as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Whether one's line is the same in both.
fn is_same(old: &Users, new: &Users, name: &str) -> bool {
    match (old.get(name), new.get(name)) {
        (Some(old), Some(new)) => old.role == new.role && old.hash == new.hash,
        (old, new) => old.is_none() && new.is_none(),
    }
}

fn too_many(why: &str, wait: Duration) -> Problem {
    let seconds = (wait.as_secs() + 1).to_string();
    Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many", why).with_header(header::RETRY_AFTER, &seconds)
}

const SHARE_ENDED: &str = "the link has expired, or was revoked";

/// With `__Host-` a browser takes it from us alone, over TLS alone.
fn cookie_name(caller: &Caller) -> &'static str {
    if caller.is_secure { "__Host-vspc-session" } else { "vspc-session" }
}

fn cookie(caller: &Caller, word: &str, seconds: u64) -> String {
    let secure = if caller.is_secure { "; Secure" } else { "" };
    let name = cookie_name(caller);
    format!("{name}={word}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}")
}

/// The word of a share: in `Authorization`, or, where a browser opens a websocket and can say nothing else,
/// among the subprotocols.
fn share_word(headers: &HeaderMap) -> Option<&str> {
    if let Some(given) = headers.get(header::AUTHORIZATION)
        && let Some((scheme, word)) = given.to_str().ok()?.split_once(' ')
        && scheme.eq_ignore_ascii_case("bearer")
    {
        return Some(word.trim());
    }
    let offered = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    let mut words = offered.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    words.find_map(|word| word.trim().strip_prefix("share."))
}

/// Name and password out of `Authorization` (RFC 7617).
fn basic(value: &[u8]) -> Option<(String, String)> {
    let text = std::str::from_utf8(value).ok()?;
    let (scheme, code) = text.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") || code.len() > 4096 {
        return None;
    }
    let both = String::from_utf8(Base64::decode_vec(code.trim()).ok()?).ok()?;
    let (name, password) = both.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_is_a_name_and_a_password_that_may_have_colons() {
        let of = |text: &str| basic(text.as_bytes());
        assert_eq!(of("Basic YW5uOnNlOmNyZXQ="), Some(("ann".into(), "se:cret".into())));
        assert_eq!(of("basic YW5uOg=="), Some(("ann".into(), String::new())));
        for wrong in ["", "Basic", "Basic !", "Bearer YW5uOg==", "Basic YW5u", "Basic /w=="] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_cookie_that_is_there_twice_is_nobodys() {
        let auth = Auth::new(Config::default()).unwrap();
        let caller = |is_secure| Caller {
            from: [192, 0, 2, 1].into(),
            is_secure,
            user: None,
            certificate: None,
            is_local: false,
        };
        let found = |is_secure, lines: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(header::COOKIE, line.parse().unwrap());
            }
            auth.cookie(&caller(is_secure), &headers)
        };
        assert_eq!(found(true, &["a=1; __Host-vspc-session=x"]), Some("x".into()));
        assert_eq!(found(true, &["vspc-session=x"]), None);
        assert_eq!(found(true, &["__Host-vspc-session=x; __Host-vspc-session=y"]), None);
        assert_eq!(found(false, &["vspc-session=x", "vspc-session=x"]), None);
    }
}
