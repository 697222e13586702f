//! `load hosts`: VMs that move between two hosts in network namespaces of their own, without a relay, through
//! one at an appliance, and through one on each host that they reach by a unix socket.
//!
//! All three move in turn, so that they meet the same machine. It counts how long each waits for GOAHEAD, and
//! checks every line both ways. The server is in the appliance's namespace, where its clients are, too.

mod guest;
mod spaces;

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use vspc_relay::{Relay, Settings, Stopper};

use self::guest::{Client, Guest, Lines, Place, Shared};
use self::spaces::{HOSTS, Space, Spaces};
use super::LoadError;
use super::folder::Folder;
use super::process::{Launch, Started, free_port};
use super::report::Report;
use super::stats::{micros, round};

/// Options of `load hosts`.
#[derive(clap::Args, Clone, Debug)]
pub struct HostsArgs {
    /// The server to start: a command line such as "target/release/vspc-mio"
    #[arg(long, value_name = "COMMAND")]
    pub spawn: String,
    /// The relay's program; without it relays run within this process
    #[arg(long, value_name = "PROGRAM")]
    pub relay: Option<PathBuf>,
    /// How often each VM moves
    #[arg(long, value_name = "N", default_value_t = 2000)]
    pub moves: usize,
    /// Fail if GOAHEAD takes more than so many times as long through a relay as without, at p50 or p95
    #[arg(long, value_name = "TIMES")]
    pub limit: Option<f64>,
    /// Print one JSON object instead of a line
    #[arg(long)]
    pub json: bool,
}

/// Runs `load hosts`.
pub fn run(args: &HostsArgs) -> Result<Report, LoadError> {
    let Some(spaces) = Spaces::open() else {
        let mut report = Report::new();
        report.say("skipped: no network namespaces");
        report.put("skipped", true);
        return Ok(report);
    };
    spaces
        .within(Space::Appliance, || play(args, &spaces))
        .map_err(|error| LoadError::Usage(format!("cannot enter a network namespace: {error}")))?
}

/// A way from the hosts to the server.
struct Way {
    name: &'static str,
    guest: Guest,
    shared: Arc<Shared>,
    client: thread::JoinHandle<std::io::Result<Lines>>,
}

/// What is called from within the appliance.
fn play(args: &HostsArgs, spaces: &Spaces) -> Result<Report, LoadError> {
    let folder = Folder::new("hosts", None)?;
    let port = || free_port().map_err(|error| LoadError::Usage(format!("no free port: {error}")));
    let (vms, relayed) = (port()?, port()?);
    let launch = Launch {
        command: &args.spawn,
        ports: 8,
        options: vec!["--no-banner".to_owned(), "--vm-listen".to_owned(), format!("0.0.0.0:{vms}")],
        ..Launch::default()
    };
    let (_server, _, first): (Started, _, _) = launch.start()?;
    let on_wire = |host, port| SocketAddr::from((Spaces::appliance_seen_by(host), port));
    let mut relays = vec![Running::start(
        spaces,
        Space::Appliance,
        args.relay.as_deref(),
        &format!("tcp://0.0.0.0:{relayed}"),
        &format!("tcp://127.0.0.1:{vms}"),
    )?];
    let mut sockets = Vec::new();
    for host in 0..HOSTS {
        let socket = folder.path(&format!("host{host}.sock"));
        let (listen, to) = (format!("unix:{}", socket.display()), format!("tcp://{}", on_wire(host, vms)));
        relays.push(Running::start(spaces, Space::Host(host), args.relay.as_deref(), &listen, &to)?);
        sockets.push(socket);
    }
    wait_for(|| TcpStream::connect((Ipv4Addr::LOCALHOST, relayed)).is_ok(), "the relay")?;
    wait_for(|| sockets.iter().all(|socket| socket.exists()), "the hosts' relays")?;
    let tcp = |port| (0..HOSTS).map(|host| Place::Tcp(on_wire(host, port))).collect::<Vec<_>>();
    let places = [
        ("direct", tcp(vms)),
        ("tcp", tcp(relayed)),
        ("unix", sockets.iter().cloned().map(Place::Unix).collect()),
    ];
    let mut ways = Vec::new();
    for (number, (name, places)) in places.into_iter().enumerate() {
        // The namespace is new, so a fresh server gives its ports in their order.
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, first + number as u16));
        ways.push(Way::start(name, number, places, spaces, at)?);
    }
    for _ in 0..args.moves {
        for way in &mut ways {
            way.guest.migrate(spaces)?;
            way.guest.listen(Duration::from_millis(1), u64::MAX)?;
        }
    }
    tell(args, ways)
}

impl Way {
    fn start(
        name: &'static str,
        number: usize,
        places: Vec<Place>,
        spaces: &Spaces,
        at: SocketAddr,
    ) -> Result<Self, LoadError> {
        let failed = |error| LoadError::Unreachable(format!("the client of the VM {name}: {error}"));
        let mut guest = Guest::start(number, places, spaces)?;
        let mut client = Client::attach(at).map_err(failed)?;
        // It is said until it is heard: who attaches sees what is printed from then on.
        let until = Instant::now() + PATIENCE;
        let mut word = 0;
        loop {
            word += 1;
            let text = format!("!vspc-load {number} {word}\n");
            guest.say(text.as_bytes())?;
            guest.listen(Duration::from_millis(1), 0)?;
            if client.has_met(text.as_bytes()).map_err(failed)? {
                break;
            }
            if Instant::now() > until {
                return Err(LoadError::Unreachable(format!("the client of the VM {name} hears nothing")));
            }
        }
        let shared = Shared::new();
        let its = Arc::clone(&shared);
        let client = thread::spawn(move || client.talk(&its.is_over, &its.printed, &its.typed));
        Ok(Self { name, guest, shared, client })
    }

    /// Ends the talk; returns the guest, with all that it was to hear, and what the client has read.
    fn finish(mut self) -> Result<(Guest, Lines, u64), LoadError> {
        self.shared.printed.store(self.guest.printed(), Ordering::Release);
        self.shared.is_over.store(true, Ordering::Release);
        let seen =
            self.client.join().map_err(|_| LoadError::Violation("a client has panicked".to_owned()))?;
        let seen = seen.map_err(|error| LoadError::Violation(format!("a client: {error}")))?;
        let typed = self.shared.typed.load(Ordering::Acquire);
        self.guest.listen(PATIENCE, typed)?;
        Ok((self.guest, seen, typed))
    }
}

fn tell(args: &HostsArgs, ways: Vec<Way>) -> Result<Report, LoadError> {
    let mut report = Report::new();
    report.say(format!("{} moves by each way", args.moves));
    report.put("moves", args.moves);
    let mut direct = None;
    for way in ways {
        let name = way.name;
        let (mut guest, seen, typed) = way.finish()?;
        let [p50, p95] = [50.0, 95.0].map(|percent| micros(guest.goahead.percentile(percent)));
        let still = micros(guest.still.percentile(50.0));
        report.say(format!(
            "{name}: GOAHEAD p50 {p50} p95 {p95} us, stood still p50 {still} us, \
             {} lines printed, {typed} typed",
            guest.printed()
        ));
        let mut fields = json!({
            "goahead_p50_us": p50, "goahead_p95_us": p95, "still_p50_us": still,
            "printed": guest.printed(), "typed": typed,
        });
        match direct {
            None => direct = Some((p50, p95)),
            Some((direct50, direct95)) => {
                let times = [round(p50 / direct50, 2), round(p95 / direct95, 2)];
                report.say(format!("that is {} and {} times direct", times[0], times[1]));
                fields["times_direct"] = json!(times);
                if let Some(limit) = args.limit.filter(|limit| times.iter().any(|times| times > limit)) {
                    report
                        .problem(format!("{name}: GOAHEAD takes more than {limit} times as long as direct"));
                }
            }
        }
        report.put(name, fields);
        for (whose, lines, said) in [("printed", &seen, guest.printed()), ("typed", guest.heard(), typed)] {
            if let Some(wrong) = &lines.wrong {
                report.problem(format!("{name}: of the lines that are {whose}: {wrong}"));
            }
            if lines.count() != said {
                report.problem(format!("{name}: {} of {said} lines that are {whose} came", lines.count()));
            }
        }
        if guest.misdirected > 0 {
            report.problem(format!("{name}: {} bytes to the wrong connection", guest.misdirected));
        }
    }
    Ok(report)
}

/// A relay that runs until it is dropped.
enum Running {
    Program(Child),
    Here(Stopper),
}

impl Running {
    fn start(
        spaces: &Spaces,
        space: Space,
        program: Option<&Path>,
        listen: &str,
        to: &str,
    ) -> Result<Self, LoadError> {
        let failed = |error: String| LoadError::Usage(format!("cannot start a relay: {error}"));
        let Some(program) = program else {
            let text = format!("[[relay]]\nlisten = '{listen}'\nto = '{to}'");
            let settings = Settings::parse(&text).map_err(failed)?;
            let (opened, is_open) = std::sync::mpsc::sync_channel(1);
            spaces.spawn(space, move || {
                let relay = Relay::open(&settings).map_err(|error| error.to_string());
                let (stopper, relay) = match relay {
                    Ok(relay) => (Ok(relay.stopper()), Some(relay)),
                    Err(error) => (Err(error), None),
                };
                let _ = opened.send(stopper);
                relay.map(Relay::run)
            });
            let stopper = is_open.recv().map_err(|error| failed(error.to_string()))?;
            return stopper.map(Self::Here).map_err(failed);
        };
        let start = || {
            let mut command = Command::new(program);
            command.args(["--listen", listen, "--to", to]).stdin(Stdio::null()).stderr(Stdio::null()).spawn()
        };
        let child = spaces.within(space, start).and_then(|child| child);
        child.map(Self::Program).map_err(|error| failed(format!("{}: {error}", program.display())))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        match self {
            Self::Program(child) => {
                let _ = child.kill();
                let _ = child.wait();
            }
            Self::Here(stopper) => stopper.stop(),
        }
    }
}

fn wait_for(is_there: impl Fn() -> bool, what: &str) -> Result<(), LoadError> {
    let until = Instant::now() + PATIENCE;
    while !is_there() {
        if Instant::now() > until {
            return Err(LoadError::Unreachable(format!("{what} does not listen")));
        }
        thread::yield_now();
    }
    Ok(())
}

const PATIENCE: Duration = Duration::from_secs(10);
