//! `load bulk`: one stream through one console, every byte of it checked.
//!
//! Two threads: one writes from a single precomputed period (it stays in the cache), one reads all the
//! receiving ends and compares. Neither copies anything in user space.

use std::io::{self, IoSlice, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};
use serde_json::json;

use super::LoadError;
use super::link::{ClientKind, PATIENCE, VmLink, is_timeout, meet, numbered_vm};
use super::pattern::{Content, Fault, MARK, Pattern, Totals, Verifier, mark};
use super::process::{Cost, require_descriptors};
use super::report::Report;
use super::stats::{median, round};
use super::subject::{Beside, Common, Opened, read};

/// Options of `load bulk`.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct BulkArgs {
    #[command(flatten)]
    pub(super) common: Common,
    #[command(flatten)]
    beside: Beside,
    /// What is sent
    #[arg(long, value_enum, default_value_t = Content::Text)]
    content: Content,
    /// From the VM to its clients, or from a client to the VM
    #[arg(long, value_enum, default_value_t = Direction::FromVm)]
    direction: Direction,
    /// Clients that watch (with --direction to-vm: one, and it types)
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    clients: u16,
    /// What the clients are
    #[arg(long, value_enum, default_value_t = ClientKind::Telnet)]
    client: ClientKind,
    /// How long to send
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0)]
    seconds: f64,
    /// How much to send, if that is reached before the time
    #[arg(long, value_name = "BYTES")]
    bytes: Option<u64>,
    /// Losses are told but are no failure (for a server that skips ahead for slow clients)
    #[arg(long)]
    allow_loss: bool,
}

/// Which way the bytes go.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(super) enum Direction {
    /// The VM prints.
    FromVm,
    /// A client types (pastes).
    ToVm,
}

/// One run's outcome.
#[derive(Clone, Debug)]
struct Outcome {
    seconds: f64,
    sent_wire: u64,
    received_wire: u64,
    received_guest: u64,
    totals: Totals,
    faults: Vec<Fault>,
    closed: usize,
    cost: Option<Cost>,
}

/// Runs `load bulk`.
pub(super) fn run(args: &BulkArgs) -> Result<Report, LoadError> {
    require_descriptors(args.common.tls.descriptors(usize::from(args.clients) + 2))?;
    let runs = args.beside.runs(&args.common, 1, |opened| once(args, opened))?;
    let mut report = Report::new();
    let clients = if args.direction == Direction::FromVm { args.clients } else { 1 };
    let to = if args.direction == Direction::FromVm { "VM to" } else { "to VM from" };
    report.say(format!("{} {to} {clients} client(s)", args.content));
    report.put("content", args.content.to_string());
    report.put("direction", if args.direction == Direction::FromVm { "from-vm" } else { "to-vm" });
    report.put("clients", clients);
    let server = tell(&mut report, "server", &runs.server, args.allow_loss);
    let relay = tell(&mut report, "relay", &runs.relay, false);
    if let (Some((rate, cpu)), Some((relay_rate, relay_cpu))) = (server, relay) {
        report.say(format!("{:.2} x the relay's rate", rate / relay_rate));
        report.put("ratio", round(rate / relay_rate, 3));
        if let (Some(cpu), Some(relay_cpu)) = (cpu, relay_cpu) {
            report.say(format!("{:.2} x its CPU per GB", cpu / relay_cpu));
            report.put("cpu_ratio", round(cpu / relay_cpu, 3));
        }
    }
    Ok(report)
}

/// Tells the median of some runs; returns guest MB/s and CPU-s/GB.
fn tell(report: &mut Report, name: &str, runs: &[Outcome], allow_loss: bool) -> Option<(f64, Option<f64>)> {
    if runs.is_empty() {
        return None;
    }
    let guest: Vec<f64> = runs.iter().map(|run| run.received_guest as f64 / 1e6 / run.seconds).collect();
    let wire: Vec<f64> = runs.iter().map(|run| run.received_wire as f64 / 1e6 / run.seconds).collect();
    let cpu: Vec<f64> = runs.iter().filter_map(|run| Some(run.cost?.cpu() / (run.gigabytes()))).collect();
    let cpu_per_gb = (!cpu.is_empty()).then(|| median(&cpu));
    report.say(format!("{name} {:.0} MB/s ({:.0} on the wire)", median(&guest), median(&wire)));
    let lost: Vec<u64> = runs.iter().map(|run| run.totals.lost).collect();
    let mut object = json!({
        "mb_s": round(median(&guest), 1), "wire_mb_s": round(median(&wire), 1),
        "runs_mb_s": guest.iter().map(|&rate| round(rate, 1)).collect::<Vec<_>>(),
        "lost_bytes": &lost, "sent_bytes": runs.iter().map(|run| run.sent_wire).collect::<Vec<_>>(),
    });
    if let Some(cpu_per_gb) = cpu_per_gb {
        report.say(format!("{cpu_per_gb:.2} CPU-s/GB"));
        object["cpu_s_per_gb"] = json!(round(cpu_per_gb, 3));
    }
    if let Some(cost) = runs.last().and_then(|run| run.cost) {
        report.say(format!("RSS {} -> {} KiB", cost.rss_before, cost.rss_peak));
        object["cost"] = cost.json();
    }
    report.say(format!("{} bytes lost", lost.iter().sum::<u64>()));
    for run in runs {
        let Totals { lost, repeated, foreign, faults } = run.totals;
        if !run.totals.clean() || run.closed > 0 {
            let first = run.faults.first().map_or(String::new(), |fault| format!("; first: {fault}"));
            let what = format!(
                "through the {name}: of {} wire bytes sent {lost} lost, {repeated} repeated, \
                 {foreign} foreign in {faults} places, {} receiver(s) disconnected{first}",
                run.sent_wire, run.closed
            );
            if !allow_loss || repeated > 0 {
                report.problem(what);
            }
        }
    }
    report.put(name, object);
    Some((median(&guest), cpu_per_gb))
}

impl Outcome {
    /// Guest bytes delivered, in GB.
    fn gigabytes(&self) -> f64 {
        (self.received_guest as f64 / 1e9).max(1e-9)
    }
}

/// One run through one way.
fn once(args: &BulkArgs, opened: &Opened) -> Result<Outcome, LoadError> {
    let mut vm = VmLink::open(&opened.subject, numbered_vm(0))?;
    let count = if args.direction == Direction::FromVm { usize::from(args.clients) } else { 1 };
    let clients = meet(&mut vm, &opened.subject, args.client, count)?;
    // A raw client of a server sends and gets bytes as they are; everything else travels in wire form, and a
    // relay changes nothing, so that it carries exactly what a server would.
    let raw = args.client == ClientKind::Raw && opened.subject.is_server();
    let wire = Pattern::wire(args.content);
    let client_form = if raw { Pattern::guest(args.content) } else { wire.clone() };
    let received: Vec<Vec<u8>> = match args.direction {
        Direction::FromVm => clients.iter().map(|client| client.received.clone()).collect(),
        Direction::ToVm => vec![Vec::new()],
    };
    let clients: Vec<TcpStream> = clients.into_iter().map(|client| client.stream).collect();
    let (mut writer, readers, sent_form, read_form) = match args.direction {
        Direction::FromVm => (vm.stream, clients, &wire, &client_form),
        Direction::ToVm => {
            let Some(client) = clients.into_iter().next() else {
                return Err(LoadError::Usage("no client".into()));
            };
            (client, vec![vm.stream], &client_form, &wire)
        }
    };
    let meter = opened.meter()?;
    let plan = Plan {
        periods: args.bytes.map_or(u64::MAX, |bytes| bytes.div_ceil(sent_form.period())),
        until: Duration::from_secs_f64(args.seconds),
        rate: None,
    };
    let Carried { ends, seconds, periods } =
        carry((&mut writer, sent_form), (readers, read_form), received, plan)?;
    let cost = read(meter.as_ref())?;
    let matched: u64 = ends.iter().map(|end| end.matched).sum();
    Ok(Outcome {
        seconds,
        sent_wire: periods * sent_form.period(),
        received_wire: matched,
        received_guest: read_form.guest_bytes(matched),
        totals: ends.iter().map(|end| end.totals).sum(),
        faults: ends.iter().flat_map(|end| end.faults.iter().copied()).collect(),
        closed: ends.iter().filter(|end| end.closed).count(),
        cost,
    })
}

/// What became of a stream.
#[derive(Debug)]
pub(super) struct Carried {
    /// Of each reader.
    pub(super) ends: Vec<End>,
    /// From the first write until the last byte came.
    pub(super) seconds: f64,
    /// Periods that were written.
    pub(super) periods: u64,
}

/// Writes one stream as planned while all readers, who have `received` this much of it, read and check it.
/// Writer and readers each have the form in which the pattern travels at their end. Nobody need read.
pub(super) fn carry(
    (writer, sent_form): (&mut TcpStream, &Pattern),
    (readers, read_form): (Vec<TcpStream>, &Pattern),
    received: Vec<Vec<u8>>,
    plan: Plan,
) -> Result<Carried, LoadError> {
    let (sent, broken) = (AtomicU64::new(u64::MAX), AtomicBool::new(false));
    let started = Instant::now();
    let Received { ends, last } = thread::scope(|scope| {
        let (sent, broken) = (&sent, &broken);
        // The stream stays open until the readers are done: its end would be the server's to interpret.
        let writing =
            scope.spawn(move || sent.store(send(writer, sent_form, plan, broken), Ordering::Release));
        if readers.is_empty() {
            let _ = writing.join();
            return Ok(Received { ends: Vec::new(), last: Instant::now() });
        }
        receive(readers, received, read_form, sent, broken)
    })?;
    let seconds = (last - started).as_secs_f64().max(1e-6);
    Ok(Carried { ends, seconds, periods: sent.load(Ordering::Acquire) })
}

/// How long a writer goes on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// Periods after which it is done.
    pub(super) periods: u64,
    /// Time after which it is done.
    pub(super) until: Duration,
    /// Bytes per second; `None`: as many as are taken.
    pub(super) rate: Option<f64>,
}

/// Writes whole periods until the plan is fulfilled or the other end is gone; returns how many.
fn send(stream: &mut TcpStream, pattern: &Pattern, plan: Plan, broken: &AtomicBool) -> u64 {
    let started = Instant::now();
    let mut source = Source::new(pattern);
    let _ = stream.set_write_timeout(Some(PATIENCE));
    loop {
        let enough = source.serial >= plan.periods || started.elapsed() >= plan.until;
        let most = if enough { usize::from(source.at > 0) } else { BATCH };
        if most == 0 || broken.load(Ordering::Relaxed) {
            break;
        }
        let mut most = most.min(usize::try_from(plan.periods - source.serial).unwrap_or(BATCH));
        if let Some(rate) = plan.rate {
            if source.position() as f64 > started.elapsed().as_secs_f64() * rate {
                thread::sleep(Duration::from_millis(1));
                continue;
            }
            most = 1;
        }
        match source.write(stream, most) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => {
                // Nothing taken for a long time, or the end of the connection.
                broken.store(true, Ordering::Relaxed);
                break;
            }
        }
    }
    source.serial + u64::from(source.at > 0)
}

/// Where a writer is in its stream.
#[derive(Debug)]
pub(super) struct Source<'p> {
    pattern: &'p Pattern,
    pub(super) serial: u64,
    pub(super) at: usize,
}

impl<'p> Source<'p> {
    pub(super) fn new(pattern: &'p Pattern) -> Self {
        Self { pattern, serial: 0, at: 0 }
    }

    /// Bytes written so far.
    fn position(&self) -> u64 {
        self.serial * self.pattern.period() + self.at as u64
    }

    /// One write of at most `periods` (and at most [`BATCH`]) periods, all from the same body.
    pub(super) fn write(&mut self, stream: &mut impl Write, periods: usize) -> io::Result<usize> {
        let mut marks = [[0; MARK]; BATCH];
        for (serial, line) in (self.serial..).zip(&mut marks) {
            *line = mark(serial);
        }
        let mut slices = [IoSlice::new(&[]); BATCH * 2];
        for (pair, line) in slices.chunks_exact_mut(2).zip(&marks) {
            pair[0] = IoSlice::new(line);
            pair[1] = IoSlice::new(self.pattern.body());
        }
        slices[0] = IoSlice::new(&marks[0][self.at.min(MARK)..]);
        slices[1] = IoSlice::new(&self.pattern.body()[self.at.saturating_sub(MARK)..]);
        let n = stream.write_vectored(&slices[..2 * periods.clamp(1, BATCH)])?;
        let period = self.pattern.period();
        let position = self.at as u64 + n as u64;
        self.serial += position / period;
        self.at = (position % period) as usize;
        Ok(n)
    }
}

/// How one receiving end fared.
#[derive(Debug)]
pub(super) struct End {
    pub(super) matched: u64,
    pub(super) totals: Totals,
    pub(super) faults: Vec<Fault>,
    pub(super) closed: bool,
}

/// How all of them fared.
#[derive(Debug)]
struct Received {
    ends: Vec<End>,
    /// When the last byte came.
    last: Instant,
}

/// Reads and checks all ends until each has what was sent, is closed, or gets nothing more.
fn receive(
    streams: Vec<TcpStream>,
    received: Vec<Vec<u8>>,
    pattern: &Pattern,
    sent_periods: &AtomicU64,
    broken: &AtomicBool,
) -> Result<Received, LoadError> {
    let failed = |error: io::Error| LoadError::Usage(format!("event queue: {error}"));
    let mut poll = Poll::new().map_err(failed)?;
    let now = Instant::now();
    let mut ends = Vec::new();
    for (index, (stream, first)) in streams.into_iter().zip(received).enumerate() {
        stream.set_nonblocking(true).map_err(failed)?;
        let mut stream = mio::net::TcpStream::from_std(stream);
        poll.registry().register(&mut stream, Token(index), Interest::READABLE).map_err(failed)?;
        let mut verifier = Verifier::new(pattern);
        verifier.feed(&first);
        ends.push(Reader { stream, verifier, ready: true, ending: false, closed: false });
    }
    let mut events = Events::with_capacity(64);
    let mut scratch = vec![0; READ];
    let mut progress = now;
    loop {
        let wait = if ends.iter().any(|end| end.ready) { Duration::ZERO } else { LOOK_AROUND };
        if let Err(error) = poll.poll(&mut events, Some(wait))
            && !is_timeout(&error)
        {
            return Err(failed(error));
        }
        for event in &events {
            let end = &mut ends[event.token().0];
            end.ready = true;
            end.ending |= event.is_read_closed() || event.is_error();
        }
        let mut read_any = false;
        for end in &mut ends {
            read_any |= end.ready && end.read(&mut scratch);
        }
        let now = Instant::now();
        if read_any {
            progress = now;
            if !ends.iter().any(|end| end.ready) {
                // Whoever writes to a sleeper that does not wait for it need not wake it up each time.
                thread::sleep(GATHER);
            }
            continue;
        }
        let periods = sent_periods.load(Ordering::Acquire);
        let due = periods.saturating_mul(pattern.period());
        let all = ends.iter().all(|end| end.closed || end.verifier.position() >= due);
        let silent = now - progress;
        if all || silent > PATIENCE + SILENCE || (periods != u64::MAX && silent > SILENCE) {
            break;
        }
    }
    // Whatever made us stop, the writer must not wait for readers that are gone.
    broken.store(true, Ordering::Relaxed);
    let deadline = Instant::now() + PATIENCE;
    while sent_periods.load(Ordering::Acquire) == u64::MAX && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(1));
    }
    let sent = sent_periods.load(Ordering::Acquire);
    let sent = if sent == u64::MAX { 0 } else { sent * pattern.period() };
    let ends = ends.into_iter().map(|mut end| End {
        totals: end.verifier.finish(sent),
        matched: end.verifier.matched(),
        faults: end.verifier.faults().to_vec(),
        closed: end.closed,
    });
    Ok(Received { ends: ends.collect(), last: progress })
}

/// A receiving end at work.
struct Reader<'p> {
    stream: mio::net::TcpStream,
    verifier: Verifier<'p>,
    ready: bool,
    /// The other side has said its last byte; reads go on until they say so too.
    ending: bool,
    closed: bool,
}

impl Reader<'_> {
    /// One read; whether there was anything.
    fn read(&mut self, scratch: &mut [u8]) -> bool {
        match self.stream.read(scratch) {
            Ok(0) => self.closed = true,
            Ok(n) => {
                self.ready = self.ending || n == scratch.len();
                self.verifier.feed(&scratch[..n]);
                return true;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return false,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.closed = true,
        }
        self.ready = false;
        false
    }
}

/// Periods in one write: enough to make the call cheap, few enough slices for the kernel to take at once.
const BATCH: usize = 16;
/// One read: what stays in the second-level cache together with the period it is compared with.
const READ: usize = 256 << 10;
/// How long a reader lets bytes gather in the kernel before it looks again.
const GATHER: Duration = Duration::from_micros(30);
/// How often a reader with nothing to read looks whether the writer is done.
const LOOK_AROUND: Duration = Duration::from_millis(20);
/// How long a stream that was sent completely may stand still before what is missing counts as lost.
const SILENCE: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::load::probe::Probe;
    use crate::load::relay::{BUFFER, Relay};
    use crate::load::subject::Subject;

    fn opened() -> Opened {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let relay = Relay::bind(any, any, BUFFER).unwrap();
        let subject = Subject::Relay { vms: relay.vms_at, clients: relay.clients_at };
        thread::spawn(move || relay.run(false));
        Opened::of(subject)
    }

    fn args(words: &[&str]) -> BulkArgs {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            args: BulkArgs,
        }
        let words = ["bulk", "--bytes", "3000000"].iter().chain(words);
        <Line as clap::Parser>::parse_from(words).args
    }

    #[test]
    fn every_content_goes_through_a_relay_unharmed_both_ways() {
        for content in ["text", "binary", "ff"] {
            for direction in ["from-vm", "to-vm"] {
                let outcome =
                    once(&args(&["--content", content, "--direction", direction]), &opened()).unwrap();
                assert!(outcome.totals.clean(), "{content} {direction}: {outcome:?}");
                assert!(outcome.received_wire >= 3_000_000 && outcome.received_wire == outcome.sent_wire);
            }
        }
    }

    #[test]
    fn all_of_several_clients_get_everything() {
        let outcome = once(&args(&["--clients", "4"]), &opened()).unwrap();
        assert!(outcome.totals.clean());
        assert_eq!(outcome.received_wire, outcome.sent_wire * 4);
    }

    #[test]
    fn a_vm_side_that_ends_is_told_and_not_waited_for() {
        let (near, far) = {
            let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
            let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            (near, listener.accept().unwrap().0)
        };
        let pattern = Pattern::wire(Content::Text);
        let mut source = Source::new(&pattern);
        let mut far = far;
        while source.serial == 0 {
            source.write(&mut far, 1).unwrap();
        }
        drop(far);
        let (sent, broken) = (AtomicU64::new(3), AtomicBool::new(false));
        let received = receive(vec![near], vec![Vec::new()], &pattern, &sent, &broken).unwrap();
        assert!(received.ends[0].closed);
        assert!(received.ends[0].totals.lost > pattern.period());
    }

    #[test]
    fn keys_come_back_through_a_relay() {
        let opened = opened();
        let mut probe = Probe::open(&opened.subject).unwrap();
        for _ in 0..100 {
            probe.key().unwrap();
        }
    }
}
