//! State in a Redis that is reached by TLS (docs/state.md §4).

use std::net::TcpListener;
use std::process::Command;

use super::peer::Peer;
use super::process::Server;
use super::program;
use super::programs::Folder;
use super::redis::{Redis, refs};
use super::state::Kept;

pub(super) fn tls_leads_to_a_redis_whose_certificate_is_trusted_and_to_no_other() {
    let files = Folder::new("redis-tls-files");
    let at = |name: &str| files.0.join(name).display().to_string();
    let (cert, key) = (at("cert.pem"), at("key.pem"));
    let make = ["cert", "--hostname", "localhost", "--cert", &cert, "--key", &key];
    assert!(Command::new(program()).args(make).output().unwrap().status.success());
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let mut options = vec!["--tls-port", &port, "--tls-cert-file", &cert, "--tls-key-file", &key];
    options.extend(["--tls-ca-cert-file", &cert, "--tls-auth-clients", "no"]);
    let Some(redis) = Redis::start("tls", &options) else { return };
    let url = format!("rediss://localhost:{port}");
    let options = redis.options(&url, "a");
    let mut kept = Kept::of(Server::keeping_with_ca(&refs(&options), cert.as_ref()));
    let _vm = Peer::vm(&kept.server, 1);
    kept.wait_for(1);
    let why = redis.refused(&url, "b");
    assert!(why.contains("certificate"), "{why}");
}
