//! `vspc-web`: consoles of one or many concentrators in a browser and over HTTP (docs/web.md).
//!
//! `upstream` speaks with the concentrators, `fleet` knows what they have, `http` answers; `auth` knows who
//! asks, `views` what each person sees, and `entrance` lets requests in. Nothing here is part of a
//! concentrator: it is one more of its clients.

#![forbid(unsafe_code)]

mod assets;
mod auth;
mod chance;
mod connections;
mod entrance;
mod fleet;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzz;
mod http;
mod links;
mod manual;
mod options;
mod passwd;
mod remembered;
mod tls;
mod upstream;
mod views;

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::auth::Auth;
use crate::entrance::Entrance;
use crate::options::{Command, Options};
use crate::tls::Tls;
use crate::upstream::Target;
use crate::views::Views;

/// What the program does.
pub fn run_program() -> ExitCode {
    let options = Options::parse();
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info")).init();
    let done = match &options.command {
        Some(Command::Passwd { name, role }) => Some(passwd::run(name, *role)),
        Some(Command::Man { folder }) => Some(manual::put(folder.as_deref())),
        None => None,
    };
    if let Some(done) = done {
        return done.map_or_else(|why| fail(&why), |()| ExitCode::SUCCESS);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("threads cannot be started: {error}")),
    };
    match runtime.block_on(run(options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => fail(&message),
    }
}

async fn run(options: Options) -> Result<(), String> {
    options.check()?;
    let servers = options.servers()?;
    raise_descriptors();
    let targets = servers.into_iter().map(Target::load).collect::<Result<Vec<_>, _>>()?;
    let tls = match options.tls() {
        Some(files) => Some(Arc::new(Tls::load(files).map_err(|fault| fault.to_string())?)),
        None => None,
    };
    let generation = tls.as_ref().map(|tls| tls.generation()).unwrap_or_default();
    let auth = Auth::new(auth::Config { generation, ..options.auth()? })?;
    let listener = TcpListener::bind(options.listen)
        .await
        .map_err(|error| format!("cannot listen on {}: {error}", options.listen))?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    log::info!("listening on {address}");
    if assets::FILES.is_empty() {
        log::warn!(
            "this build has no page (npm ci && npm run build in web/page makes it); all else is served"
        );
    }
    let entrance =
        Arc::new(Entrance::new(auth, Views::new(targets, http::router, http::router_of_share), options.host));
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    let serving = connections::serve(listener, tls.clone(), Arc::clone(&entrance), options.max_connections);
    tokio::select! {
        () = serving => Ok(()),
        ended = reload(tls, &entrance) => ended,
        () = entrance.sweep() => Ok(()),
        _ = terminate.recv() => Ok(()),
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

/// A websocket takes a descriptor; the soft limit of most systems is 1024 for the sake of select(2), which is
/// not used here.
fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// Reads files again whenever that is asked for.
async fn reload(tls: Option<Arc<Tls>>, entrance: &Entrance) -> Result<(), String> {
    let mut hangup = signal(SignalKind::hangup()).map_err(|error| error.to_string())?;
    while hangup.recv().await.is_some() {
        match tls.as_ref().map(|tls| tls.reload()) {
            Some(Ok(())) => log::info!("the certificate was read again"),
            Some(Err(fault)) => log::error!("{fault}: the certificate from before stays"),
            None => {}
        }
        entrance.reload();
    }
    Ok(())
}

fn fail(message: &str) -> ExitCode {
    eprintln!("vspc-web: {message}");
    ExitCode::from(2)
}
