//! `vspc-web`: consoles of one or many concentrators in a browser and over HTTP (docs/web.md).
//!
//! `upstream` speaks with the concentrators, `fleet` knows what they have, `http` answers. Nothing here is
//! part of a concentrator: it is one more of its clients.

#![forbid(unsafe_code)]

mod assets;
mod chance;
mod connections;
mod entrance;
mod fleet;
mod http;
mod options;
mod tls;
mod upstream;

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::entrance::Entrance;
use crate::fleet::Fleet;
use crate::options::Options;
use crate::tls::Tls;
use crate::upstream::Upstreams;

fn main() -> ExitCode {
    let options = Options::parse();
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info")).init();
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
    let fleet = Arc::new(Fleet::new(servers.iter().map(|server| server.name.clone()).collect()));
    let upstreams = Upstreams::start(servers, &fleet)?;
    let tls = match options.tls() {
        Some(files) => Some(Arc::new(Tls::load(files).map_err(|fault| fault.to_string())?)),
        None => None,
    };
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
    let entrance = Arc::new(Entrance::new(http::router(upstreams, fleet, options.host)));
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    tokio::select! {
        () = connections::serve(listener, tls.clone(), entrance, options.max_connections) => Ok(()),
        ended = reload(tls) => ended,
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
async fn reload(tls: Option<Arc<Tls>>) -> Result<(), String> {
    let mut hangup = signal(SignalKind::hangup()).map_err(|error| error.to_string())?;
    while hangup.recv().await.is_some() {
        match tls.as_ref().map(|tls| tls.reload()) {
            Some(Ok(())) => log::info!("the certificate was read again"),
            Some(Err(fault)) => log::error!("{fault}: the certificate from before stays"),
            None => {}
        }
    }
    Ok(())
}

fn fail(message: &str) -> ExitCode {
    eprintln!("vspc-web: {message}");
    ExitCode::from(2)
}
