//! The console that a path means, and the concentrator that a query means.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Path};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde_json::{Value, json};

use super::App;
use super::asked::{Words, bad};
use super::problem::Problem;
use crate::upstream::attach::Attach;
use crate::upstream::{Upstream, not_connected};

/// A console, and who has it.
pub(super) struct Found {
    upstream: Arc<Upstream>,
    id: String,
}

impl FromRequestParts<App> for Found {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let Path(name): Path<String> =
            Path::from_request_parts(parts, app).await.map_err(|rejection| bad(&rejection.body_text()))?;
        let words = Words::from_request_parts(parts, app).await?;
        find(app, &name, &words)
    }
}

impl Found {
    /// Its concentrator's name.
    pub(super) fn server(&self) -> &str {
        &self.upstream.server.name
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

    /// Opens a stream: `attach` or `log`.
    pub(super) async fn open(&self, op: &str, mut fields: Value) -> Result<Attach, Problem> {
        let link = self.upstream.link().ok_or_else(|| not_connected(self.server()))?;
        fields["console"] = self.id.as_str().into();
        Ok(link.open(op, fields).await?)
    }
}

/// The console that is meant: by its id, its name, or its UUID; and `?server=`, or the server before a slash.
pub(super) fn find(app: &App, name: &str, words: &Words) -> Result<Found, Problem> {
    let mut wanted = name;
    let mut server = words.get("server");
    if let Some(name) = server {
        upstream(app, name)?;
    } else if let Some((before, behind)) = name.split_once('/')
        && upstream(app, before).is_ok()
    {
        (server, wanted) = (Some(before), behind);
    }
    let uuid: String = wanted.chars().filter(|c| !" -".contains(*c)).flat_map(char::to_lowercase).collect();
    let found = app.fleet.consoles(|console| {
        server.is_none_or(|name| console["server"] == name)
            && (console["id"] == wanted
                || (!wanted.is_empty() && console["name"] == wanted)
                || (uuid.len() == 32 && console["uuid"] == uuid.as_str()))
    });
    match &found[..] {
        [console] => {
            let text = |field: &str| console[field].as_str().unwrap_or_default();
            let upstream = Arc::clone(upstream(app, text("server"))?);
            if upstream.link().is_none() {
                return Err(not_connected(&upstream.server.name).into());
            }
            Ok(Found { upstream, id: text("id").to_owned() })
        }
        [] => {
            let is_away =
                |of: &&Arc<Upstream>| server.is_none_or(|name| of.server.name == name) && of.link().is_none();
            match app.upstreams.all().iter().find(is_away) {
                Some(upstream) => Err(not_connected(&upstream.server.name).into()),
                None => {
                    let why = format!("there is no console {wanted}");
                    Err(Problem::new(StatusCode::NOT_FOUND, "no-such-console", &why))
                }
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

/// The concentrator of this name.
pub(super) fn upstream<'a>(app: &'a App, name: &str) -> Result<&'a Arc<Upstream>, Problem> {
    app.upstreams.all().iter().find(|upstream| upstream.server.name == name).ok_or_else(|| {
        Problem::new(StatusCode::NOT_FOUND, "no-such-server", "there is no concentrator of this name")
    })
}
