//! `load garbage` and `load half-open`: peers that are none, and whether anybody else notices.
//!
//! Meanwhile a probe types keys on a VM of its own; afterwards a new VM must be served as if nothing had
//! been, and the server's memory is read again.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::LoadError;
use super::link::{ClientKind, PATIENCE, VmLink, is_timeout, meet, numbered_vm};
use super::pattern::Noise;
use super::probe::Probe;
use super::process::{Meter, require_descriptors};
use super::report::Report;
use super::stats::Samples;
use super::way::{Common, Open, Way, read};
use crate::fake_vm::duration::parse_duration;
use crate::tunnel::Port;

/// Options of `load garbage`.
#[derive(clap::Args, Clone, Debug)]
pub struct GarbageArgs {
    #[command(flatten)]
    pub(super) common: Common,
    /// Connections of garbage to the VM port, and as many to a VM's client port
    #[arg(long, value_name = "N", default_value_t = 32)]
    connections: usize,
    /// For how long
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    seconds: f64,
    /// How much garbage, in MB per second
    #[arg(long, value_name = "MB", default_value_t = 10.0)]
    rate: f64,
    /// Where the noise starts from; the same number makes the same noise
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// How long after the end the server's memory is read
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = parse_duration)]
    settle: Duration,
}

/// Options of `load half-open`.
#[derive(clap::Args, Clone, Debug)]
pub struct HalfOpenArgs {
    #[command(flatten)]
    pub(super) common: Common,
    /// Connections that stop somewhere in their session start
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    connections: usize,
    /// How long they are held
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    seconds: f64,
    /// How long after their end the server's memory is read
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = parse_duration)]
    settle: Duration,
}

/// Runs `load garbage`.
pub fn garbage(args: &GarbageArgs) -> Result<Report, LoadError> {
    require_descriptors(args.common.tls.descriptors(args.connections * 2 + 8))?;
    let open = Open::server(&args.common, 64)?;
    let mut probe = Probe::open(&open.way)?;
    // The VM at whose client port the other half of the garbage goes.
    let mut victim = VmLink::open(&open.way, numbered_vm(1))?;
    let at = meet(&mut victim, &open.way, ClientKind::Telnet, 1)?.remove(0).at;
    let stop = AtomicBool::new(false);
    let mut before = probe.run(KEY_EVERY, WARM_UP, &stop)?;
    let meter = open.meter()?;
    let time = Duration::from_secs_f64(args.seconds);
    let (keys, bytes, reading) = thread::scope(|scope| {
        let stop = &stop;
        let vms = open.way.vms();
        let rate = args.rate * 1e6 / 2.0;
        let noise = |port, at, seed| {
            let dial = open.way.dial();
            let connect = move || dial.connect(port, at, PATIENCE);
            scope.spawn(move || spray(connect, args.connections, rate, seed, stop))
        };
        let (first, second) = (noise(Port::Vm, vms, args.seed), noise(Port::Client, at, args.seed ^ 0xFF));
        let reader = scope.spawn(move || keep_reading(victim, stop));
        let keys = probe.run(KEY_EVERY, time, stop);
        stop.store(true, Ordering::Relaxed);
        let bytes = first.join().unwrap_or(0) + second.join().unwrap_or(0);
        (keys, bytes, reader.join().unwrap_or(true))
    });
    let mut report = Report::new();
    report.say(format!(
        "{:.1} MB of garbage through {} connections",
        bytes as f64 / 1e6,
        args.connections * 2
    ));
    report.put("garbage_bytes", bytes);
    report.put("connections", args.connections * 2);
    if !reading {
        report.problem("the VM whose client port got the garbage lost its connection");
    }
    conclude(report, &open, &mut probe, keys, &mut before, args.settle, meter.as_ref())
}

/// Runs `load half-open`.
pub fn half_open(args: &HalfOpenArgs) -> Result<Report, LoadError> {
    require_descriptors(args.common.tls.descriptors(args.connections + 8))?;
    let open = Open::server(&args.common, 64)?;
    let mut probe = Probe::open(&open.way)?;
    let stop = AtomicBool::new(false);
    let mut before = probe.run(KEY_EVERY, WARM_UP, &stop)?;
    let meter = open.meter()?;
    let way = &open.way;
    let time = Duration::from_secs_f64(args.seconds);
    let (keys, (made, closed)) = thread::scope(|scope| {
        let stop = &stop;
        let crowd = scope.spawn(move || crowd(way, args.connections, stop));
        let keys = probe.run(KEY_EVERY, time, stop);
        stop.store(true, Ordering::Relaxed);
        (keys, crowd.join().unwrap_or((0, 0)))
    });
    let mut report = Report::new();
    report.say(format!(
        "{made} of {} half-open session starts, {closed} closed by the server",
        args.connections
    ));
    report.put("connections", args.connections);
    report.put("made", made);
    report.put("closed_by_server", closed);
    conclude(report, &open, &mut probe, keys, &mut before, args.settle, meter.as_ref())
}

/// What both tell: the keys meanwhile, whether the server is well, its memory.
fn conclude(
    mut report: Report,
    open: &Open,
    probe: &mut Probe,
    keys: Result<Samples, LoadError>,
    before: &mut Samples,
    settle: Duration,
    meter: Option<&Meter>,
) -> Result<Report, LoadError> {
    match keys {
        Ok(mut keys) => {
            report.say(format!("another VM's key {}", keys.words()));
            report.say(format!("before {}", before.words()));
            report.put("key", keys.json());
            report.put("key_before", before.json());
        }
        Err(error) => report.problem(format!("another VM noticed: {error}")),
    }
    thread::sleep(settle);
    if let Err(error) = probe.key() {
        report.problem(format!("afterwards: {error}"));
    }
    match VmLink::open(&open.way, numbered_vm(2))
        .and_then(|mut vm| meet(&mut vm, &open.way, ClientKind::Telnet, 1).map(drop))
    {
        Ok(()) => report.say("a new VM is served afterwards"),
        Err(error) => report.problem(format!("a new VM is not served afterwards: {error}")),
    }
    if let Some(cost) = read(meter)? {
        report.say(cost.words());
        report.put("cost", cost.json());
    }
    Ok(report)
}

/// Keeps `count` connections busy with `rate` bytes of noise per second, drops some, opens others; returns
/// how many bytes went out.
fn spray(
    connect: impl Fn() -> io::Result<TcpStream>,
    count: usize,
    rate: f64,
    seed: u64,
    stop: &AtomicBool,
) -> u64 {
    let began = Instant::now();
    let mut noise = Noise::new(seed);
    let mut streams: Vec<Option<TcpStream>> = (0..count).map(|_| None).collect();
    let (mut sent, mut chunk, mut scratch) = (0, Vec::new(), vec![0; 1 << 16]);
    while !stop.load(Ordering::Relaxed) {
        for place in &mut streams {
            let Some(stream) = place else {
                *place = connect().ok().filter(|stream| stream.set_nonblocking(true).is_ok());
                continue;
            };
            make_noise(&mut noise, &mut chunk);
            let alive = match stream.write(&chunk) {
                Ok(n) => {
                    sent += n as u64;
                    true
                }
                Err(error) => is_timeout(&error),
            };
            // One in eight never reads.
            let alive = alive
                && (noise.next().is_multiple_of(8)
                    || stream.read(&mut scratch).map_or_else(|error| is_timeout(&error), |n| n > 0));
            if !alive || noise.next().is_multiple_of(64) {
                *place = None;
            }
            // Leaves the processors to those whom it is to disturb.
            while sent as f64 > began.elapsed().as_secs_f64() * rate && !stop.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(1));
            }
        }
        // Whoever cannot write gives way too.
        thread::sleep(Duration::from_micros(200));
    }
    sent
}

/// Something that a broken or hostile peer might say.
fn make_noise(noise: &mut Noise, chunk: &mut Vec<u8>) {
    chunk.clear();
    let kind = noise.next() % 5;
    let length = 1 + (noise.next() % 2000) as usize;
    match kind {
        // Anything.
        0 => chunk.extend((0..length).map(|_| noise.next() as u8)),
        // Telnet commands of all sorts, right and wrong.
        1 => {
            for _ in 0..length / 3 {
                chunk.extend_from_slice(&[255, 236 + (noise.next() % 20) as u8, noise.next() as u8]);
            }
        }
        // Messages of option 232 with any code and any contents.
        2 => {
            for _ in 0..length / 20 {
                chunk.extend_from_slice(&[255, 250, 232, (noise.next() % 96) as u8]);
                let parameters = noise.next() % 24;
                chunk.extend((0..parameters).map(|_| (noise.next() % 255) as u8));
                chunk.extend_from_slice(&[255, 240]);
            }
        }
        // A session start, so that what follows meets a console.
        3 => {
            chunk.extend_from_slice(&[255, 251, 232]);
            chunk.extend_from_slice(&[255, 250, 232, 80]);
            let uuid = noise.next() % 32;
            chunk.extend_from_slice(
                format!("00 00 00 00 00 00 00 00-00 00 00 00 00 00 00 {uuid:02x}").as_bytes(),
            );
            chunk.extend_from_slice(&[255, 240, 255, 250, 232, 70, b'S', 255, 240]);
        }
        // A subnegotiation without end.
        _ => {
            chunk.extend_from_slice(&[255, 250, 232]);
            chunk.resize(length * 8, b'x');
        }
    }
}

/// Reads what a VM gets, whatever it is; whether the connection lasted.
fn keep_reading(mut vm: VmLink, stop: &AtomicBool) -> bool {
    while !stop.load(Ordering::Relaxed) {
        if vm.receive().is_err() {
            return false;
        }
        vm.typed.clear();
    }
    true
}

/// Opens connections that stop at some point of the session start and holds them until `stop`; returns how
/// many were made, and how many of them the server has closed.
fn crowd(way: &Way, count: usize, stop: &AtomicBool) -> (usize, usize) {
    // What a host says, up to where this one stops.
    let said: [&[u8]; 6] = [
        b"",
        b"\xFF\xFB\x25",
        b"\xFF\xFB",
        b"\xFF\xFB\xE8",
        b"\xFF\xFB\xE8\xFF\xFA\xE8\x00\x00\x01\xFF\xF0",
        b"\xFF\xFB\xE8\xFF\xFA\xE8\x50\x30\x31 32",
    ];
    let (mut streams, dial) = (Vec::new(), way.dial());
    for number in 0..count {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        // Nonblocking: with a server that is out of descriptors they wait in its queue.
        if let Ok(stream) = dial.begin(Port::Vm, way.vms()) {
            streams.push((stream, said[number % said.len()]));
        }
        if number % 64 == 63 {
            // Below the rate at which the queue of a server that accepts would overflow.
            thread::sleep(Duration::from_millis(2));
        }
    }
    while !stop.load(Ordering::Relaxed) {
        for (stream, say) in &mut streams {
            if !say.is_empty()
                && let Ok(n) = stream.write(say)
            {
                *say = &say[n..];
            }
        }
        thread::sleep(Duration::from_millis(100));
    }
    let mut scratch = [0; 4096];
    let mut is_closed = |stream: &mut mio::net::TcpStream| loop {
        match stream.read(&mut scratch) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return !is_timeout(&error) && error.kind() != ErrorKind::NotConnected,
        }
    };
    let closed = streams.iter_mut().map(|(stream, _)| usize::from(is_closed(stream))).sum();
    (streams.len(), closed)
}

/// Time between two keys of the probe.
const KEY_EVERY: Duration = Duration::from_millis(3);
/// How long the probe types before the disturbance.
const WARM_UP: Duration = Duration::from_secs(1);
