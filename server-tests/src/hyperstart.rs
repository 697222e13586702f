//! A guest that speaks hyperstart's protocol on two unix sockets, and the real `vspc`.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::thread;

use super::client_tour::Client;
use super::process::Server;
use super::programs::Folder;
use guest::V1Guest;

#[allow(dead_code, reason = "the core's tests use the rest")]
#[path = "../../core/tests/hyperstart/guest.rs"]
mod guest;

/// Reads a channel, has the guest hear it, and says what it has to say on both; until the server is gone.
fn serve(
    mut from: UnixStream,
    mut channels: [UnixStream; 2],
    guest: &Mutex<V1Guest>,
    hear: impl Fn(&mut V1Guest, &[u8]),
) {
    let mut buffer = [0; 4096];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        let mut guest = guest.lock().unwrap();
        hear(&mut guest, &buffer[..n]);
        run(&mut guest);
        let said = [std::mem::take(&mut guest.says), std::mem::take(&mut guest.streams)];
        for (channel, said) in channels.iter_mut().zip(said) {
            let _ = channel.write_all(&said);
        }
    }
}

/// What its programs do.
fn run(guest: &mut V1Guest) {
    for (seq, running) in guest.running.clone() {
        match running.args.first().map(String::as_str) {
            Some("fail") => {
                guest.print(seq, b"out\n");
                guest.print(running.stderr, b"err\n");
                guest.exit(seq, 7);
            }
            Some("cat") => {
                let came = guest.came.remove(&seq).unwrap_or_default();
                guest.print(seq, &came);
                if guest.ended.contains(&seq) {
                    guest.exit(seq, 0);
                }
            }
            _ => {}
        }
    }
}

pub(super) fn programs_run_in_a_guest_that_speaks_hyperstarts_protocol() {
    let folder = Folder::new("hyperstart");
    let at = folder.0.to_str().unwrap().to_owned();
    for mux in ["v1", "auto"] {
        let (streams, control) = (format!("{at}/{mux}.streams"), format!("{at}/{mux}.control"));
        let server = Server::start(&[
            "--line",
            &format!("pod1=unix:{streams}?listen&mux={mux}"),
            "--line",
            &format!("pod1=unix:{control}?listen&mux=v1-control"),
        ]);
        let Some(client) = Client::new(&["--server", &server.admin_port().to_string()]) else { return };
        server.line_with(&format!("listening on {control}"));
        let channels = || [&control, &streams].map(|path| UnixStream::connect(path).unwrap());
        let channels = channels();
        let guest = Arc::new(Mutex::new(V1Guest::new()));
        thread::scope(|scope| {
            for (which, hear) in [V1Guest::handle_control as fn(&mut V1Guest, &[u8]), V1Guest::handle_stream]
                .into_iter()
                .enumerate()
            {
                let from = channels[which].try_clone().unwrap();
                let to = channels.each_ref().map(|channel| channel.try_clone().unwrap());
                let guest = Arc::clone(&guest);
                scope.spawn(move || serve(from, to, &guest, hear));
            }
            server.line_with("the guest's agent is there");
            let failed = client.run(&["exec", "pod1", "--", "fail"]);
            let shown = (failed.status.code(), &failed.stdout[..], &failed.stderr[..]);
            assert_eq!(shown, (Some(7), &b"out\n"[..], &b"err\n"[..]), "{mux}");
            // Several bursts of what a process' input has room for.
            let said = "a line of sixteen\n".repeat(100);
            let mut cat = client.command(&["exec", "pod1", "--", "cat"]);
            let mut cat = cat.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            cat.stdin.take().unwrap().write_all(said.as_bytes()).unwrap();
            let copied = cat.wait_with_output().unwrap();
            assert!(copied.status.success() && copied.stdout == said.as_bytes(), "{mux}: {copied:?}");
            let copy = client.run(&["cp", "pod1:/etc/passwd", "-"]);
            assert!(!copy.status.success() && copy.stdout.is_empty());
            for channel in &channels {
                let _ = channel.shutdown(Shutdown::Both);
            }
        });
    }
}
