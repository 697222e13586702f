//! The corpus against a server over TCP: one definition for both servers, run by `runtime-*/tests/corpus.rs`.
//!
//! One server is started for each set of settings that transcripts ask for. Its client ports are found as
//! those of any server are: by what the VMs print.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use vspc_conformance::check::{Case, Selection, Server, Verdict};
use vspc_conformance::drive::{ClientPort, LiveOptions, Ports};
use vspc_conformance::transcript::{Setting, Transcript, corpus};
use vspc_conformance::tunnel::TlsArgs;

/// A running server, killed when dropped.
struct Process {
    child: Child,
    vms: SocketAddr,
    first_port: u16,
}

/// Below the system's own range, and apart from what other runs of these tests use; a server skips what is
/// taken, so a collision costs nothing.
fn first_port() -> u16 {
    20_000 + (std::process::id() % 80) as u16 * 100
}

const PORTS: u16 = 2000;

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

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

impl Process {
    fn start(settings: &[Setting], more: &[String]) -> Self {
        let first_port = first_port();
        let mut child = Command::new(crate::SERVER)
            .args(["--proxy-port", "0", "--proxy-iface", "127.0.0.1"])
            .args(["--port-range-start", &first_port.to_string()])
            .args(settings.iter().flat_map(option))
            .args(more)
            .env_remove("RUST_LOG")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let vms = loop {
            let mut line = String::new();
            assert_ne!(stderr.read_line(&mut line).unwrap(), 0, "the server ended at once");
            if let Some((_, address)) = line.split_once("listening on ") {
                break address.trim().parse().unwrap();
            }
        };
        // Somebody must go on reading, or the server's log has nowhere to go.
        std::thread::spawn(move || stderr.lines().map_while(Result::ok).for_each(drop));
        Self { child, vms, first_port }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Plays what `choose` says, to servers that are started with `more` and reached as `tls` says.
fn play_all(choose: impl Fn(&Transcript) -> bool, more: &[String], tls: &TlsArgs) {
    const AT_ONCE: usize = 16;
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
    let mut failures = Vec::new();
    let mut passed = 0;
    for transcripts in by_settings.values() {
        let settings = transcripts[0].config.clone();
        let process = Process::start(&settings, more);
        let dial = tls.open(&process.vms.to_string()).unwrap();
        let ports = Ports::new(LOCALHOST, process.first_port, PORTS, dial.clone());
        let server = Server {
            live: LiveOptions {
                target: process.vms,
                clients: ClientPort::Among(Arc::new(ports)),
                client_host: LOCALHOST,
                dial,
            },
            config: settings,
            service_uri: "vSPC.py".to_owned(),
            // Tests share the machine with other tests.
            slack: 5,
            uuid: [0; 16],
        };
        for case in server.check(transcripts, AT_ONCE, u64::from(std::process::id()), |_| {}).cases {
            match told(&case) {
                Some(failure) => failures.push(failure),
                None => passed += 1,
            }
        }
    }
    assert!(failures.is_empty(), "{} fail, {passed} pass:\n\n{}", failures.len(), failures.join("\n\n"));
}

fn told(case: &Case<'_>) -> Option<String> {
    let (id, log) = (&case.transcript.id, case.log.join("\n    "));
    match &case.verdict {
        Verdict::Pass => None,
        Verdict::Fail(failure) => Some(format!("{id}\n{failure}\n    {log}")),
        // The server is not set up to go over to TLS; the core is, in memory.
        Verdict::NotOffered(_) if case.transcript.expects_option(37) => None,
        Verdict::NotOffered(why) => Some(format!("{id}: not offered: {why}")),
        Verdict::NotRun => Some(format!("{id}: not run: the server has gone")),
    }
}

#[test]
fn the_server_plays_the_corpus() {
    play_all(|transcript| !transcript.is_slow(), &[], &TlsArgs::default());
}

#[test]
#[ignore = "waits for a minute: the timers of the protocol in real time"]
fn the_server_plays_the_slow_part_of_the_corpus() {
    play_all(Transcript::is_slow, &[], &TlsArgs::default());
}

/// Moves, reboots, resets and clients, on connections that became TLS by option 37; and the certificate that
/// the server's own subcommand makes is the one that it shows. All of the corpus is played so to the core.
#[cfg(feature = "tls")]
#[test]
fn the_server_plays_the_corpus_behind_tls() {
    use vspc_conformance::tunnel::VmForm;

    let folder = std::env::temp_dir().join(format!("vspc-corpus-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = |name: &str| folder.join(name).display().to_string();
    let files = ["--cert".to_owned(), file("cert"), "--key".to_owned(), file("key")];
    let made = Command::new(crate::SERVER)
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
    play_all(choose, &more, &tls);
    std::fs::remove_dir_all(&folder).unwrap();
}
