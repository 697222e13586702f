//! This project's servers as processes, and what each of them is put to by `runtime-*/tests`: the corpus of
//! transcripts and the captures, over TCP.
//!
//! The functions take the path of a server's program and panic with everything that is not as it must be, as
//! tests do. Client ports are found as those of any server are: by what the VMs print.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;

use crate::check::{Case, Selection, Server, Verdict};
use crate::drive::{ClientPort, LiveOptions, Ports};
use crate::load::attaches::{self, AttachesArgs};
use crate::load::hostile;
use crate::replay::play::Speed;
use crate::replay::{ReplayArgs, report};
use crate::transcript::{Setting, Transcript, corpus};
use crate::tunnel::{TlsArgs, VmForm};

/// Plays what does not take long to `server`: one process for each set of settings that transcripts ask for.
///
/// # Panics
///
/// A transcript is not played as it is written.
pub fn play_corpus(server: &str) {
    play_all(server, |transcript| !transcript.is_slow(), &[], &TlsArgs::default());
}

/// Plays the rest: the timers of the protocol in real time, which takes a minute.
///
/// # Panics
///
/// A transcript is not played as it is written.
pub fn play_slow_corpus(server: &str) {
    play_all(server, Transcript::is_slow, &[], &TlsArgs::default());
}

/// Plays moves, reboots, resets and clients on connections that became TLS by option 37; and the certificate
/// that the server's own subcommand makes is the one that it shows. (All of the corpus is played so to the
/// core.)
///
/// # Panics
///
/// A transcript is not played as it is written, or the server makes no certificate.
pub fn play_corpus_behind_tls(server: &str) {
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

/// Replays the captures that come with the program, at their own speed and as fast as the answers come. The
/// same VM comes back for each, to the port that it has by then.
///
/// # Panics
///
/// The server broke a rule, or lost something.
pub fn replay_captures(server: &str) {
    let process = Process::start(server, 28_000, &[]);
    let captures = Path::new(env!("CARGO_MANIFEST_DIR")).join("captures");
    for (name, typed) in [
        ("moved.ethernet.pcap", 12),
        ("aborted.sll2.pcap.gz", 8),
        ("refused.sll.pcap.gz", 8),
        ("all.ipv6.pcap.gz", 18),
    ] {
        for speed in [Speed::Times(1.0), Speed::Max] {
            let args = ReplayArgs {
                capture: captures.join(name),
                port: 13370,
                target: Some(process.vms.to_string()),
                client_port: process.first_port,
                client_ports: PORTS,
                speed,
                multi_console: false,
                json: false,
                verbose: false,
                tls: TlsArgs::default(),
            };
            let report = report(&args, |_, _| {}).unwrap();
            let [vm] = &report.vms[..] else { panic!("{report}") };
            assert!(report.is_good() && vm.typed == (typed, typed), "{name} {speed:?}: {report}");
        }
    }
}

/// Plays some of the drills of `load hostile` for a second each: each has figures of everything that it
/// watches. What those are is no matter of a test beside others on a busy machine.
///
/// # Panics
///
/// A drill cannot be played, or nobody was there to be watched.
pub fn play_drills(server: &str) {
    for (drill, moves) in [("takeover", true), ("connects", false), ("garbage", false)] {
        let figures = hostile::figures(drill, server, Duration::from_secs(1))
            .unwrap_or_else(|error| panic!("{drill}: {error}"));
        for count in ["/key/n", "/new_vm/n", "/lines", "/attackers/connections", "/cost/rss_after_kib"] {
            let count_is = figures.pointer(count).and_then(Value::as_u64);
            assert!(count_is > Some(0), "{drill}: {count}: {figures:#}");
        }
        assert!(!moves || figures["moves"].as_u64() > Some(0), "{drill}: {figures:#}");
        assert!(figures["ok"].is_boolean() && figures["drill"] == drill, "{figures:#}");
    }
}

/// Has each of some consoles read by a telnet client, and then by an attach of one operator connection.
///
/// # Panics
///
/// A line was lost, or came twice.
pub fn read_by_attaches(server: &str) {
    let report = attaches::run(&AttachesArgs::brief(server)).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(report.problems(), [""; 0], "{:?}", report.fields());
}

/// A running server, killed when dropped.
struct Process {
    child: Child,
    vms: SocketAddr,
    admin: SocketAddr,
    first_port: u16,
}

impl Process {
    /// Starts it with client ports from about `first_port` on. A server skips what is taken, so that other
    /// processes in the same stretch do no harm.
    fn start(server: &str, first_port: u16, options: &[String]) -> Self {
        let first_port = first_port + (std::process::id() % 80) as u16 * 100;
        let mut child = Command::new(server)
            .args(["--proxy-port", "0", "--proxy-iface", "127.0.0.1", "--admin-port", "0"])
            .args(["--port-range-start", &first_port.to_string()])
            .args(options)
            .env_remove("RUST_LOG")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut address = |words| loop {
            let mut line = String::new();
            assert_ne!(stderr.read_line(&mut line).unwrap(), 0, "the server ended at once");
            if let Some((_, address)) = line.split_once(words) {
                break address.trim().parse().unwrap();
            }
        };
        let (vms, admin) = (address("listening on "), address("admin port open on "));
        // Somebody must go on reading, or the server's log has nowhere to go.
        std::thread::spawn(move || stderr.lines().map_while(Result::ok).for_each(drop));
        Self { child, vms, admin, first_port }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
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
        let process = Process::start(server, 20_000, &options.collect::<Vec<_>>());
        let dial = tls.open(&process.vms.to_string()).unwrap();
        let ports = Arc::new(Ports::new(LOCALHOST, process.first_port, PORTS, dial.clone()));
        let clients = ClientPort::Among(ports);
        let server = Server {
            live: LiveOptions {
                target: process.vms,
                clients,
                client_host: LOCALHOST,
                admin: Some(process.admin),
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

/// How many client ports are looked at: more than one server has consoles in one run.
const PORTS: u16 = 2000;

/// How many transcripts are played at a time: most of the time they wait.
const AT_ONCE: usize = 16;
