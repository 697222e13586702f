//! `load garbage`: bytes that no VM and no client sends, on the VM port and on a client port, and whether
//! anybody else notices.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::LoadError;
use super::bystanders::Bystanders;
use super::link::{ClientKind, PATIENCE, VmLink, is_timeout, meet, numbered_vm};
use super::process::require_descriptors;
use super::report::Report;
use super::subject::{Common, Opened};
use crate::fake_vm::duration::parse_duration;
use crate::random::Random;
use crate::tunnel::Port;

/// Options of `load garbage`.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct GarbageArgs {
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
    /// Where chance starts from; the same number makes the same garbage
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// How long after the end the server's memory is read
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = parse_duration)]
    settle: Duration,
}

/// Runs `load garbage`.
pub(super) fn run(args: &GarbageArgs) -> Result<Report, LoadError> {
    require_descriptors(args.common.tls.descriptors(args.connections * 2 + 8))?;
    let opened = Opened::server(&args.common, 64)?;
    let mut bystanders = Bystanders::meet(&opened)?;
    // The VM at whose client port the other half of the garbage goes.
    let mut victim = VmLink::open(&opened.subject, numbered_vm(1))?;
    let at = meet(&mut victim, &opened.subject, ClientKind::Telnet, 1)?.remove(0).at;
    let (bytes, is_reading) = bystanders.watch(Duration::from_secs_f64(args.seconds), |stop| {
        thread::scope(|scope| {
            let garbage = |port, at, seed| {
                let dial = opened.subject.dial();
                let connect = move || dial.connect(port, at, PATIENCE);
                scope.spawn(move || spray(connect, args.connections, args.rate * 1e6 / 2.0, seed, stop))
            };
            let to_vms = garbage(Port::Vm, opened.subject.vms(), args.seed);
            let to_clients = garbage(Port::Client, at, args.seed ^ 0xFF);
            let is_reading = keep_reading(victim, stop);
            (to_vms.join().unwrap_or(0) + to_clients.join().unwrap_or(0), is_reading)
        })
    });
    let mut report = Report::new();
    let connections = args.connections * 2;
    report.say(format!("{:.1} MB of garbage through {connections} connections", bytes as f64 / 1e6));
    report.put("garbage_bytes", bytes);
    report.put("connections", connections);
    if !is_reading {
        report.problem("the VM whose client port got the garbage lost its connection");
    }
    bystanders.conclude(&mut report, args.settle)?;
    Ok(report)
}

/// Keeps `count` connections busy with `rate` bytes of garbage per second, drops some, opens others; returns
/// how many bytes went out.
fn spray(
    connect: impl Fn() -> io::Result<TcpStream>,
    count: usize,
    rate: f64,
    seed: u64,
    stop: &AtomicBool,
) -> u64 {
    let began = Instant::now();
    let mut random = Random::new(seed);
    let mut streams: Vec<Option<TcpStream>> = (0..count).map(|_| None).collect();
    let (mut sent, mut chunk, mut scratch) = (0, Vec::new(), vec![0; 1 << 16]);
    while !stop.load(Ordering::Relaxed) {
        for place in &mut streams {
            let Some(stream) = place else {
                *place = connect().ok().filter(|stream| stream.set_nonblocking(true).is_ok());
                continue;
            };
            make_garbage(&mut random, &mut chunk);
            let alive = match stream.write(&chunk) {
                Ok(n) => {
                    sent += n as u64;
                    true
                }
                Err(error) => is_timeout(&error),
            };
            // One in eight never reads.
            let alive = alive
                && (random.next().is_multiple_of(8)
                    || stream.read(&mut scratch).map_or_else(|error| is_timeout(&error), |n| n > 0));
            if !alive || random.next().is_multiple_of(64) {
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
pub(super) fn make_garbage(random: &mut Random, chunk: &mut Vec<u8>) {
    chunk.clear();
    let kind = random.next() % 5;
    let length = 1 + (random.next() % 2000) as usize;
    match kind {
        // Anything.
        0 => chunk.extend((0..length).map(|_| random.next() as u8)),
        // Telnet commands of all sorts, right and wrong.
        1 => {
            for _ in 0..length / 3 {
                chunk.extend_from_slice(&[255, 236 + (random.next() % 20) as u8, random.next() as u8]);
            }
        }
        // Messages of option 232 with any code and any contents.
        2 => {
            for _ in 0..length / 20 {
                chunk.extend_from_slice(&[255, 250, 232, (random.next() % 96) as u8]);
                let parameters = random.next() % 24;
                chunk.extend((0..parameters).map(|_| (random.next() % 255) as u8));
                chunk.extend_from_slice(&[255, 240]);
            }
        }
        // A session start, so that what follows meets a console.
        3 => {
            chunk.extend_from_slice(&[255, 251, 232]);
            chunk.extend_from_slice(&[255, 250, 232, 80]);
            let uuid = random.next() % 32;
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
