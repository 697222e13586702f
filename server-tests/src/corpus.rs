//! The corpus of transcripts against a server, over TCP.
//!
//! Client ports are found as those of any server are: by what the VMs print.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use vspc_conformance::check::{self, Case, Selection, Verdict};
use vspc_conformance::drive::{ClientPort, LiveOptions, Ports};
use vspc_conformance::transcript::{Setting, Transcript, corpus};
use vspc_conformance::tunnel::{TlsArgs, VmForm};

use super::process::{PORT_STRETCH, Server};

/// Plays what does not take long to `server`: one process for each set of settings that transcripts ask for.
///
/// # Panics
///
/// A transcript is not played as it is written.
pub fn play(server: &str) {
    play_all(server, |transcript| !transcript.is_slow(), &[], &TlsArgs::default());
}

/// Plays the rest: the timers of the protocol in real time, which takes a minute.
///
/// # Panics
///
/// A transcript is not played as it is written.
pub fn play_slow(server: &str) {
    play_all(server, Transcript::is_slow, &[], &TlsArgs::default());
}

/// Plays moves, reboots, resets and clients on connections that became TLS by option 37; and the certificate
/// that the server's own subcommand makes is the one that it shows. (All of the corpus is played so to the
/// core.)
///
/// # Panics
///
/// A transcript is not played as it is written, or the server makes no certificate.
pub fn play_behind_tls(server: &str) {
    let folder = std::env::temp_dir().join(format!("vspc-corpus-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = |name: &str| folder.join(name).display().to_string();
    let files = ["--cert".to_owned(), file("cert"), "--key".to_owned(), file("key")];
    let made = Command::new(server)
        .args(["cert", "--ip", "127.0.0.1"])
        .args(&files)
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(made.success());
    let mut more = files.to_vec();
    more.extend(["--in-band-tls", "require", "--client-tls"].map(str::to_owned));
    let tls = TlsArgs {
        tls: VmForm::InBand,
        client_tls: true,
        ca: Some(folder.join("cert")),
        ..TlsArgs::default()
    };
    let choose = |transcript: &Transcript| transcript.config.is_empty() && !transcript.is_slow();
    play_all(server, choose, &more, &tls);
    std::fs::remove_dir_all(&folder).unwrap();
}

/// Plays what `choose` says, to servers that are started with `more` and reached as `tls` says. `ONLY` in the
/// environment chooses further, by a part of the id.
fn play_all(server: &str, choose: impl Fn(&Transcript) -> bool, more: &[String], tls: &TlsArgs) {
    /// Clients are looked for on all client ports, so there must be one server at a time.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let corpus = corpus().unwrap_or_else(|error| panic!("{error}"));
    let only = std::env::var("ONLY").unwrap_or_default();
    let all = Selection { own: true, slow: true, only: Vec::new() }.choose(&corpus);
    let mut by_settings: BTreeMap<String, Vec<&Transcript>> = BTreeMap::new();
    for transcript in all.into_iter().filter(|t| choose(t) && t.id.contains(&only)) {
        by_settings.entry(format!("{:?}", transcript.config)).or_default().push(transcript);
    }
    let (mut failures, mut passed) = (Vec::new(), 0);
    for transcripts in by_settings.values() {
        let settings = transcripts[0].config.clone();
        let options = settings.iter().flat_map(option).chain(more.iter().cloned());
        let (process, first_port) = Server::with_client_ports(server, 20_000, &options.collect::<Vec<_>>());
        let dial = tls.open(&process.vms.to_string()).unwrap();
        let ports = Arc::new(Ports::new(LOCALHOST, first_port, PORT_STRETCH, dial.clone()));
        let clients = ClientPort::Among(ports);
        let server = check::Server {
            live: LiveOptions {
                target: process.vms,
                clients,
                client_host: LOCALHOST,
                admin: Some(process.admin_port()),
                dial,
            },
            config: settings,
            service_uri: "vSPC.py".to_owned(),
            // Tests share the machine with other tests.
            slack: 5,
            uuid: [0; 16],
        };
        for case in server.check(transcripts, AT_ONCE, u64::from(std::process::id()), |_| {}).cases {
            match failure(&case) {
                Some(failure) => failures.push(failure),
                None => passed += 1,
            }
        }
    }
    assert!(failures.is_empty(), "{} fail, {passed} pass:\n\n{}", failures.len(), failures.join("\n\n"));
}

/// The option by which a server is told.
fn option(setting: &Setting) -> Vec<String> {
    let (name, value) = match setting {
        Setting::MultiConsole => return vec!["--multi-console".to_owned()],
        Setting::ServiceUri(uri) => ("--service-uri", uri.clone()),
        Setting::IdentifyTimeout(time) => ("--identify-timeout", time.as_secs().to_string()),
        Setting::VmExpire(time) => ("--vm-expire-time", time.as_secs().to_string()),
        Setting::MaxClients(n) => ("--max-clients", n.to_string()),
        Setting::Scrollback(n) => ("--vm-port-scrollback", n.to_string()),
    };
    vec![name.to_owned(), value]
}

fn failure(case: &Case<'_>) -> Option<String> {
    let (id, log) = (&case.transcript.id, case.log.join("\n    "));
    match &case.verdict {
        Verdict::Pass => None,
        Verdict::Fail(failure) => Some(format!("{id}\n{failure}\n    {log}")),
        // The server is not set up to go over to TLS; the core is, in memory.
        Verdict::NotOffered(_) if case.transcript.is_about_upgrade() => None,
        Verdict::NotOffered(why) => Some(format!("{id}: not offered: {why}")),
        Verdict::NotRun => Some(format!("{id}: not run: the server has gone")),
    }
}

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// How many transcripts are played at a time: most of the time they wait.
const AT_ONCE: usize = 16;
