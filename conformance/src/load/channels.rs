//! `load channels`: the ways from a guest's serial port to a client, side by side: what each carries, what a
//! gigabyte costs the processes in between, and how long a key takes there and back (docs/channels.md).
//!
//! Each run opens all of them in turn, so that all meet the same machine; the medians are told. `relay` and
//! `raw-relay` are relays alone, without a server: what `vspc-relay` costs beside [`relay`](super::relay),
//! which looks at nothing.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::LoadError;
use super::folder::Folder;
use super::link::{ANSWERS, TICK, VmLink, numbered_vm};
use super::process::{Cost, Launch, Meter, Started, free_port, start_relay};
use super::program::Program;
use super::proof::Proof;
use super::relay::BUFFER;
use super::report::Report;
use super::stats::{Samples, median, micros, round};

/// Options of `load channels`.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct ChannelsArgs {
    /// The server to start: a command line such as "target/release/vspc-mio --slow-client wait". One that
    /// leaves out what a slow client misses fails here
    #[arg(long, value_name = "COMMAND")]
    spawn: String,
    /// The relay's program
    #[arg(long, value_name = "PROGRAM")]
    relay: PathBuf,
    /// How much each guest prints
    #[arg(long, value_name = "MB", default_value_t = 1000)]
    megabytes: usize,
    /// Keys, each of which is waited for
    #[arg(long, value_name = "N", default_value_t = 2000)]
    keys: usize,
    /// Runs; the median of each figure is told
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    runs: u16,
    /// These alone
    #[arg(long, value_name = "CHANNEL", value_enum)]
    only: Vec<Channel>,
    /// Lines that are silent, for the relay's memory
    #[arg(long, value_name = "N", default_value_t = 1000)]
    lines: usize,
    /// Print one JSON object instead of a line
    #[arg(long)]
    json: bool,
}

/// A way from a guest to a client.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum Channel {
    /// The client connects to the serial port itself
    Network,
    /// A VM's host connects to the server
    Vspc,
    /// The same, through a relay
    VspcRelay,
    /// A unix socket, for which a relay speaks
    SpeakingRelay,
    /// A unix socket that the server connects to
    DirectLine,
    /// As vspc, and the server connects to the client
    Forward,
    /// A relay alone
    Relay,
    /// The raw relay alone
    RawRelay,
}

/// All of them.
const CHANNELS: [Channel; 8] = [
    Channel::Network,
    Channel::Vspc,
    Channel::VspcRelay,
    Channel::SpeakingRelay,
    Channel::DirectLine,
    Channel::Forward,
    Channel::Relay,
    Channel::RawRelay,
];

impl ChannelsArgs {
    /// Whether it is told as one object.
    #[must_use]
    pub(super) fn is_json(&self) -> bool {
        self.json
    }
}

/// Runs `load channels`.
pub(super) fn run(args: &ChannelsArgs) -> Result<Report, LoadError> {
    let channels = if args.only.is_empty() { &CHANNELS[..] } else { &args.only };
    let mut figures: Vec<Vec<Figures>> = channels.iter().map(|_| Vec::new()).collect();
    for _ in 0..args.runs {
        for (channel, figures) in channels.iter().zip(&mut figures) {
            figures.push(Rig::open(*channel, args)?.measure(args)?);
        }
    }
    let mut report = Report::new();
    report.say(format!("{} MB, {} keys, median of {}", args.megabytes, args.keys, args.runs));
    let mut rates = Vec::new();
    for (channel, figures) in channels.iter().zip(&figures) {
        let middle = |of: fn(&Figures) -> f64| median(&figures.iter().map(of).collect::<Vec<_>>());
        let name = clap::ValueEnum::to_possible_value(channel);
        let name = name.as_ref().map_or("?", |name| name.get_name()).to_owned();
        let (rate, cost) = (middle(|it| it.megabytes_per_second), middle(|it| it.cpu_per_gigabyte));
        let (p50, p99) = (middle(|it| it.p50), middle(|it| it.p99));
        report.say(format!(
            "{name}: {rate:.0} MB/s, {cost:.2} s of CPU per GB, key p50 {p50:.0} p99 {p99:.0} us"
        ));
        report.put(
            &name,
            json!({
                "mb_per_s": round(rate, 1), "cpu_s_per_gb": round(cost, 3),
                "key_p50_us": round(p50, 1), "key_p99_us": round(p99, 1),
            }),
        );
        rates.push((*channel, rate));
    }
    let rate = |wanted| rates.iter().find(|(channel, _)| *channel == wanted).map(|(_, rate)| *rate);
    if let (Some(ours), Some(raw)) = (rate(Channel::Relay), rate(Channel::RawRelay)) {
        report.say(format!("the relay carries {:.2} times what the raw one does", ours / raw));
        report.put("relay_beside_raw", round(ours / raw, 3));
    }
    if args.lines > 0 {
        let (carried, spoken) = (memory_of_carried(args)?, memory_of_spoken(args)?);
        report.say(format!(
            "{} lines: {carried} bytes each that is carried, {spoken} each that is spoken for",
            args.lines
        ));
        report.put("bytes_per_carried_line", carried);
        report.put("bytes_per_spoken_line", spoken);
    }
    Ok(report)
}

/// What one run gave.
#[derive(Debug)]
struct Figures {
    megabytes_per_second: f64,
    /// Of all processes between the guest and its client.
    cpu_per_gigabyte: f64,
    p50: f64,
    p99: f64,
}

/// A guest and its client, and what is between them.
struct Rig {
    guest: VmLink,
    client: TcpStream,
    _folder: Folder,
    _server: Vec<Started>,
    _relay: Option<Program>,
    pids: Vec<u32>,
}

impl Rig {
    fn open(channel: Channel, args: &ChannelsArgs) -> Result<Self, LoadError> {
        let folder = Folder::new("channels", None)?;
        let socket = folder.path("vm.sock");
        let mut pids = Vec::new();
        let mut servers = Vec::new();
        let mut server = |options: Vec<String>| -> Result<(SocketAddr, SocketAddr), LoadError> {
            let options = [vec!["--no-banner".to_owned()], options].concat();
            let launch = Launch { command: &args.spawn, ports: 4, options, ..Launch::default() };
            let (started, vms, first) = launch.start()?;
            pids.push(started.pid());
            servers.push(started);
            Ok((vms, SocketAddr::from((Ipv4Addr::LOCALHOST, first))))
        };
        let mut relay = None;
        let (guest, client) = match channel {
            Channel::Network => pair()?,
            Channel::Vspc => {
                let (vms, port) = server(Vec::new())?;
                (introduce(dial(vms)?)?, dial(port)?)
            }
            Channel::VspcRelay => {
                let (vms, port) = server(Vec::new())?;
                let at = local(free_port().map_err(|error| failed(&error))?);
                relay = Some(Program::start(
                    &args.relay,
                    &["--listen", &at.to_string(), "--to", &vms.to_string()],
                )?);
                (introduce(dial(at)?)?, dial(port)?)
            }
            Channel::SpeakingRelay => {
                let (vms, port) = server(Vec::new())?;
                let listener = UnixListener::bind(&socket).map_err(|error| failed(&error))?;
                let line = format!("unix:{}", socket.display());
                relay = Some(Program::start(&args.relay, &["--line", &line, "--to", &vms.to_string()])?);
                (accept(&listener).map_err(|error| failed(&error))?, dial(port)?)
            }
            Channel::DirectLine => {
                let listener = UnixListener::bind(&socket).map_err(|error| failed(&error))?;
                let line = format!("vm=unix:{}", socket.display());
                let (_, port) = server(vec!["--line".to_owned(), line])?;
                (accept(&listener).map_err(|error| failed(&error))?, dial(port)?)
            }
            Channel::Forward => {
                let listener = TcpListener::bind(local(0)).map_err(|error| failed(&error))?;
                let at = listener.local_addr().map_err(|error| failed(&error))?;
                let (vms, _) = server(vec!["--forward".to_owned(), format!("*=tcp://{at}")])?;
                let guest = introduce(dial(vms)?)?;
                (guest, listener.accept().map_err(|error| failed(&error))?.0)
            }
            Channel::Relay => {
                let listener = TcpListener::bind(local(0)).map_err(|error| failed(&error))?;
                let to = listener.local_addr().map_err(|error| failed(&error))?;
                let at = local(free_port().map_err(|error| failed(&error))?);
                relay = Some(Program::start(
                    &args.relay,
                    &["--listen", &at.to_string(), "--to", &to.to_string()],
                )?);
                let guest = VmLink::raw(dial(at)?);
                (guest, listener.accept().map_err(|error| failed(&error))?.0)
            }
            Channel::RawRelay => {
                let (started, vms, clients) = start_relay(BUFFER)?;
                pids.push(started.pid());
                servers.push(started);
                let guest = VmLink::raw(dial(vms)?);
                (guest, dial(clients)?)
            }
        };
        pids.extend(relay.as_ref().map(Program::pid));
        let mut rig = Self { guest, client, _folder: folder, _server: servers, _relay: relay, pids };
        rig.meet(!matches!(
            channel,
            Channel::Network | Channel::Forward | Channel::Relay | Channel::RawRelay
        ))
        .map_err(|error| LoadError::Unreachable(format!("{channel:?}: {error}")))?;
        Ok(rig)
    }

    /// Guest and client hear each other, and nothing else is on its way.
    fn meet(&mut self, is_telnet: bool) -> io::Result<()> {
        for (stream, patience) in [(&self.guest.stream, TICK), (&self.client, PATIENCE)] {
            // Fails on a unix socket, which needs it not.
            let _ = stream.set_nodelay(true);
            stream.set_read_timeout(Some(patience))?;
        }
        if is_telnet {
            self.client.write_all(&ANSWERS)?;
        }
        self.client.write_all(b"?\n")?;
        while !self.guest.typed.ends_with(b"?\n") {
            self.guest.await_typed().map_err(io::Error::other)?;
        }
        self.guest.typed.clear();
        self.guest.print(b"\nvspc-load!\n").map_err(io::Error::other)?;
        let mut seen = Vec::new();
        let mut byte = [0];
        while !seen.ends_with(b"\nvspc-load!\n") {
            self.client.read_exact(&mut byte)?;
            seen.push(byte[0]);
        }
        Ok(())
    }

    fn measure(self, args: &ChannelsArgs) -> Result<Figures, LoadError> {
        let Self { guest, mut client, pids, _folder, _server, _relay } = self;
        let violated = |error: io::Error| LoadError::Violation(format!("a channel: {error}"));
        let (mut guest, mut keys) = echo(guest, &client, args.keys).map_err(violated)?;
        let meters = pids.iter().map(|pid| Meter::start(*pid)).collect::<Result<Vec<_>, _>>()?;
        let length = args.megabytes * 1_000_000;
        let begun = Instant::now();
        let printer = thread::spawn(move || -> Result<(), LoadError> {
            let block = block();
            let mut left = length;
            while left > 0 {
                let n = left.min(block.len());
                guest.print(&block[..n])?;
                left -= n;
            }
            Ok(())
        });
        Proof::new(block(), length as u64).read(&mut client, BUFFER).map_err(violated)?;
        let time = begun.elapsed().as_secs_f64();
        printer.join().map_err(|_| LoadError::Violation("a guest has panicked".to_owned()))??;
        let costs = meters.iter().map(Meter::read).collect::<Result<Vec<_>, _>>()?;
        let gigabytes = length as f64 / 1e9;
        Ok(Figures {
            megabytes_per_second: length as f64 / 1e6 / time,
            cpu_per_gigabyte: costs.iter().map(Cost::cpu).fold(0.0, |sum, cpu| sum + cpu) / gigabytes,
            p50: micros(keys.percentile(50.0)),
            p99: micros(keys.percentile(99.0)),
        })
    }
}

/// Types so many keys, one when the one before has come back.
fn echo(mut guest: VmLink, client: &TcpStream, count: usize) -> io::Result<(VmLink, Samples)> {
    let echo = thread::spawn(move || -> Result<VmLink, LoadError> {
        let mut left = count;
        while left > 0 {
            guest.await_typed()?;
            let typed = std::mem::take(&mut guest.typed);
            guest.print(&typed)?;
            left = left.saturating_sub(typed.len());
        }
        Ok(guest)
    });
    let mut samples = Samples::default();
    let mut client = client;
    for _ in 0..count {
        let begun = Instant::now();
        client.write_all(b"k")?;
        client.read_exact(&mut [0])?;
        samples.push(begun.elapsed());
    }
    let guest =
        echo.join().map_err(|_| io::Error::other("a guest has panicked"))?.map_err(io::Error::other)?;
    Ok((guest, samples))
}

/// Lines of text, no two stretches alike.
fn block() -> Vec<u8> {
    let mut block = Vec::new();
    let mut number = 0_u64;
    while block.len() < BLOCK {
        block
            .extend(format!("{number:016x} {:016x}\r\n", number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).bytes());
        number += 1;
    }
    block.truncate(BLOCK);
    block
}

/// A unix socket is read and written as one of TCP.
fn accept(listener: &UnixListener) -> io::Result<VmLink> {
    let (stream, _) = listener.accept()?;
    Ok(VmLink::raw(TcpStream::from(OwnedFd::from(stream))))
}

/// As a VM's host does, until it is served.
fn introduce(stream: TcpStream) -> Result<VmLink, LoadError> {
    stream.set_read_timeout(Some(TICK)).map_err(|error| failed(&error))?;
    VmLink::introduce(stream, numbered_vm(0))
}

/// What a silent line costs that a relay carries.
fn memory_of_carried(args: &ChannelsArgs) -> Result<u64, LoadError> {
    let listener = TcpListener::bind(local(0)).map_err(|error| failed(&error))?;
    let to = listener.local_addr().map_err(|error| failed(&error))?;
    let at = local(free_port().map_err(|error| failed(&error))?);
    let relay = Program::start(&args.relay, &["--listen", &at.to_string(), "--to", &to.to_string()])?;
    let talk = || -> io::Result<(TcpStream, TcpStream)> {
        let mut near = dial(at).map_err(io::Error::other)?;
        let (mut far, _) = listener.accept()?;
        near.write_all(b"login")?;
        far.read_exact(&mut [0; 5])?;
        far.write_all(b"root\r")?;
        near.read_exact(&mut [0; 5])?;
        Ok((near, far))
    };
    let warm = (0..WARM).map(|_| talk()).collect::<io::Result<Vec<_>>>().map_err(|error| failed(&error))?;
    let meter = Meter::start(relay.pid())?;
    let lines =
        (0..args.lines).map(|_| talk()).collect::<io::Result<Vec<_>>>().map_err(|error| failed(&error))?;
    let each = settled(&meter, args.lines);
    drop((warm, lines));
    Ok(each)
}

/// What a silent line costs that a relay speaks for.
fn memory_of_spoken(args: &ChannelsArgs) -> Result<u64, LoadError> {
    let launch = Launch { command: &args.spawn, ports: (args.lines + WARM) as u16, ..Launch::default() };
    let (_server, vms, _) = launch.start()?;
    let folder = Folder::new("channels", None)?;
    let relay = Program::start(
        &args.relay,
        &["--lines", &folder.as_path().display().to_string(), "--to", &vms.to_string()],
    )?;
    let talk = |number: usize| -> io::Result<(UnixListener, VmLink)> {
        let listener = UnixListener::bind(folder.path(&format!("vm{number}.sock")))?;
        let mut end = accept(&listener)?;
        end.print(b"login: ").map_err(io::Error::other)?;
        Ok((listener, end))
    };
    let warm = (0..WARM).map(talk).collect::<io::Result<Vec<_>>>().map_err(|error| failed(&error))?;
    thread::sleep(SETTLED);
    let meter = Meter::start(relay.pid())?;
    let lines = (WARM..WARM + args.lines).map(talk).collect::<io::Result<Vec<_>>>();
    let lines = lines.map_err(|error| failed(&error))?;
    let each = settled(&meter, args.lines);
    drop((warm, lines));
    Ok(each)
}

/// Bytes of each of so many lines, when what they printed is let go of.
fn settled(meter: &Meter, lines: usize) -> u64 {
    thread::sleep(SETTLED);
    match meter.read() {
        Ok(cost) => cost.rss_after.saturating_sub(cost.rss_before) * 1024 / lines.max(1) as u64,
        Err(_) => 0,
    }
}

/// Two ends of one connection.
fn pair() -> Result<(VmLink, TcpStream), LoadError> {
    let listener = TcpListener::bind(local(0)).map_err(|error| failed(&error))?;
    let client = dial(listener.local_addr().map_err(|error| failed(&error))?)?;
    Ok((VmLink::raw(listener.accept().map_err(|error| failed(&error))?.0), client))
}

/// Connects as soon as somebody listens.
fn dial(to: SocketAddr) -> Result<TcpStream, LoadError> {
    let until = Instant::now() + PATIENCE;
    loop {
        match TcpStream::connect(to) {
            Ok(stream) => return Ok(stream),
            Err(error) if Instant::now() > until => {
                return Err(LoadError::Unreachable(format!("cannot connect to {to}: {error}")));
            }
            Err(_) => thread::sleep(Duration::from_millis(1)),
        }
    }
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

fn failed(error: &io::Error) -> LoadError {
    LoadError::Unreachable(format!("a channel: {error}"))
}

const BLOCK: usize = 256 << 10;

/// Lines that a relay has before its memory is measured.
const WARM: usize = 100;

/// How long a relay is given to let go of what lines have printed.
const SETTLED: Duration = Duration::from_secs(2);

const PATIENCE: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_comes_back() {
        let (guest, client) = pair().unwrap();
        let (_, samples) = echo(guest, &client, 50).unwrap();
        assert_eq!(samples.len(), 50);
    }
}
