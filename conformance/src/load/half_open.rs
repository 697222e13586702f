//! `load half-open`: connections that stop in the middle of their session start, and whether anybody else
//! notices.

use std::io::{ErrorKind, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::LoadError;
use super::bystanders::Bystanders;
use super::link::is_timeout;
use super::process::require_descriptors;
use super::report::Report;
use super::subject::{Common, Opened, Subject};
use crate::fake_vm::duration::parse_duration;
use crate::tunnel::Port;

/// Options of `load half-open`.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct HalfOpenArgs {
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

/// Runs `load half-open`.
pub(super) fn run(args: &HalfOpenArgs) -> Result<Report, LoadError> {
    require_descriptors(args.common.tls.descriptors(args.connections + 8))?;
    let opened = Opened::server(&args.common, 64)?;
    let mut bystanders = Bystanders::meet(&opened)?;
    let time = Duration::from_secs_f64(args.seconds);
    let (made, closed) = bystanders.watch(time, |stop| crowd(&opened.subject, args.connections, stop));
    let mut report = Report::new();
    let asked = args.connections;
    report.say(format!("{made} of {asked} half-open session starts, {closed} closed by the server"));
    report.put("connections", asked);
    report.put("made", made);
    report.put("closed_by_server", closed);
    bystanders.conclude(&mut report, args.settle)?;
    Ok(report)
}

/// Opens connections that stop at some point of the session start and holds them until `stop`; returns how
/// many were made, and how many of them the server has closed.
fn crowd(subject: &Subject, count: usize, stop: &AtomicBool) -> (usize, usize) {
    // What a host says, up to where this one stops.
    let said: [&[u8]; 6] = [
        b"",
        b"\xFF\xFB\x25",
        b"\xFF\xFB",
        b"\xFF\xFB\xE8",
        b"\xFF\xFB\xE8\xFF\xFA\xE8\x00\x00\x01\xFF\xF0",
        b"\xFF\xFB\xE8\xFF\xFA\xE8\x50\x30\x31 32",
    ];
    let (mut streams, dial) = (Vec::new(), subject.dial());
    for number in 0..count {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        // Nonblocking: with a server that is out of descriptors they wait in its queue.
        if let Ok(stream) = dial.begin(Port::Vm, subject.vms()) {
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
