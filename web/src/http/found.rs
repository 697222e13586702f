//! The console that a path means, and the concentrator that a query means.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde_json::{Value, json};
use tokio::sync::SemaphorePermit;

use super::App;
use super::asked::{Named, Words};
use super::problem::Problem;
use crate::auth::audit::Entry;
use crate::fleet::Fleet;
use crate::upstream::attach::Attach;
use crate::upstream::{Upstream, not_connected};

/// A console, and who has it.
pub(super) struct Found {
    upstream: Arc<Upstream>,
    fleet: Arc<Fleet>,
    id: String,
    name: String,
}

impl FromRequestParts<App> for Found {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let named = Named::from_request_parts(parts, app).await?;
        let words = Words::from_request_parts(parts, app).await?;
        let found = find(app, named.get("name"), &words)?;
        if let Some(entry) = parts.extensions.get::<Arc<Entry>>() {
            found.note(entry);
        }
        Ok(found)
    }
}

impl Found {
    /// Its concentrator's name.
    pub(super) fn server(&self) -> &str {
        &self.upstream.server.name
    }

    /// Says in the log at which console something is done.
    pub(super) fn note(&self, entry: &Entry) {
        entry.at(self.server(), &self.name);
    }

    /// Whether this is of the console still, as far as who asks may know of it.
    pub(super) fn is_wanted(&self, console: &Value) -> bool {
        self.fleet.is_wanted(console)
    }

    /// What tells it from all others.
    pub(super) fn key(&self) -> (String, String) {
        (self.server().to_owned(), self.id.clone())
    }

    /// Asks its concentrator something about it.
    pub(super) async fn call(&self, op: &str, mut fields: Value) -> Result<Value, Problem> {
        fields["console"] = self.id.as_str().into();
        Ok(self.upstream.call(op, fields).await?)
    }

    /// Asks its concentrator something that is not about a console.
    pub(super) async fn call_server(&self, op: &str, fields: Value) -> Result<Value, Problem> {
        Ok(self.upstream.call(op, fields).await?)
    }

    /// Waits until its concentrator may be asked for facts. They are told by one at a time for each of these.
    pub(super) async fn telling(&self) -> Result<SemaphorePermit<'_>, Problem> {
        self.upstream.tellings.acquire().await.map_err(|_| not_connected(self.server()).into())
    }

    /// Whether its concentrator speaks with agents in guests.
    pub(super) fn needs_guests(&self) -> Result<(), Problem> {
        if self.fleet.has_feature(self.server(), "guests") {
            return Ok(());
        }
        let why = "this concentrator knows nothing of guests with an agent";
        Err(Problem::new(StatusCode::NOT_IMPLEMENTED, "unsupported", why))
    }

    /// Opens a stream: `attach`, `log` or `facts`.
    pub(super) async fn open(&self, op: &str, mut fields: Value) -> Result<Attach, Problem> {
        let link = self.upstream.link().ok_or_else(|| not_connected(self.server()))?;
        fields["console"] = self.id.as_str().into();
        let attach = link.open(op, fields).await?;
        // It may have become another's since it was found.
        match attach.answer.get("console") {
            Some(console) if !self.is_wanted(console) => Err(none(&self.name)),
            _ => Ok(attach),
        }
    }
}

/// The console that is meant: by its id, else its UUID, else its name; and `?server=`, or the server before a
/// slash. A name is whatever a VM says, and hides no console that is called so by its id or its UUID, nor by
/// its server before a slash.
pub(super) fn find(app: &App, name: &str, words: &Words) -> Result<Found, Problem> {
    if let Some(server) = words.get("server") {
        upstream(app, server)?;
        return only(app, name, Some(server), &called(app, name, Some(server)));
    }
    let all = called(app, name, None);
    if let Some((server, wanted)) = name.split_once('/')
        && upstream(app, server).is_ok()
    {
        let there = called(app, wanted, Some(server));
        // Names may have slashes, too.
        if !there.is_empty() || all.is_empty() {
            return only(app, wanted, Some(server), &there);
        }
    }
    only(app, name, None, &all)
}

/// The consoles that are called so, of all servers or of one.
fn called(app: &App, wanted: &str, server: Option<&str>) -> Vec<Value> {
    let uuid = plain(wanted);
    let is_there = |console: &Value| server.is_none_or(|name| console["server"] == name);
    let by = |field: &str, wanted: &str| {
        app.fleet.consoles(|console| !wanted.is_empty() && is_there(console) && console[field] == wanted)
    };
    // With a suffix, as others write it: one console of that VM.
    let is_longer = uuid.len() > 32 && uuid.bytes().take(32).all(|byte| byte.is_ascii_hexdigit());
    let with_suffix = || {
        app.fleet.consoles(|console| {
            let text = |field: &str| console[field].as_str().unwrap_or_default();
            is_there(console) && uuid[..32] == *text("uuid") && uuid[32..] == plain(text("suffix"))
        })
    };
    let found = std::iter::once(by("id", wanted))
        .chain((uuid.len() == 32).then(|| by("uuid", &uuid)))
        .chain(is_longer.then(with_suffix))
        .find(|found| !found.is_empty());
    found.map_or_else(|| by("name", wanted), whole)
}

/// Without what is only for the eye in UUIDs.
fn plain(text: &str) -> String {
    text.chars().filter(|c| !" -".contains(*c)).flat_map(char::to_lowercase).collect()
}

/// Of consoles of one VM that is meant as a whole, its own: what else there is of it has a suffix.
fn whole(of_vm: Vec<Value>) -> Vec<Value> {
    let is_own = |console: &&Value| console["suffix"].as_str().is_none_or(str::is_empty);
    let mut own = of_vm.iter().filter(is_own);
    match (own.next(), own.next()) {
        (Some(only), None) => vec![only.clone()],
        _ => of_vm,
    }
}

/// The console of this UUID, in lower case and without dashes, and of no other name.
pub(super) fn find_by_uuid(app: &App, uuid: &str, words: &Words) -> Result<Found, Problem> {
    let server = words.get("server");
    if let Some(name) = server {
        upstream(app, name)?;
    }
    let found = app
        .fleet
        .consoles(|console| server.is_none_or(|name| console["server"] == name) && console["uuid"] == uuid);
    only(app, uuid, server, &whole(found))
}

/// The one that was found, or why it is none.
fn only(app: &App, wanted: &str, server: Option<&str>, found: &[Value]) -> Result<Found, Problem> {
    match found {
        [console] => {
            let text = |field: &str| console[field].as_str().unwrap_or_default();
            let upstream = Arc::clone(upstream(app, text("server"))?);
            if upstream.link().is_none() {
                return Err(not_connected(&upstream.server.name).into());
            }
            let (id, name) = (text("id").to_owned(), text("name").to_owned());
            Ok(Found { upstream, fleet: Arc::clone(&app.fleet), id, name })
        }
        [] => {
            let is_away =
                |of: &&Arc<Upstream>| server.is_none_or(|name| of.server.name == name) && of.link().is_none();
            match app.upstreams.all().iter().find(is_away) {
                Some(upstream) => Err(not_connected(&upstream.server.name).into()),
                None => Err(none(wanted)),
            }
        }
        several => {
            let candidates = several.iter().map(
                |console| json!({"server": console["server"], "id": console["id"], "name": console["name"]}),
            );
            let why = "several consoles are called so: name one by its server and id";
            Err(Problem::new(StatusCode::CONFLICT, "ambiguous", why).with_candidates(candidates.collect()))
        }
    }
}

fn none(wanted: &str) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "no-such-console", &format!("there is no console {wanted}"))
}

/// The concentrator of this name.
pub(super) fn upstream<'a>(app: &'a App, name: &str) -> Result<&'a Arc<Upstream>, Problem> {
    app.upstreams.all().iter().find(|upstream| upstream.server.name == name).ok_or_else(|| {
        Problem::new(StatusCode::NOT_FOUND, "no-such-server", "there is no concentrator of this name")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vm_that_is_meant_as_a_whole_is_its_own_console_where_that_is_one() {
        let all = |suffixes: &[&str]| suffixes.iter().map(|suffix| json!({"suffix": suffix})).collect();
        let mut of_guest: Vec<Value> = all(&["/shell", "/log/syslog"]);
        of_guest.insert(1, json!({"name": "web01"}));
        assert_eq!(whole(of_guest), [json!({"name": "web01"})]);
        for several in [&["", ""][..], &["_com1", "_com2"], &[]] {
            assert_eq!(whole(all(several)).len(), several.len());
        }
    }
}
