//! Two ends over a simulated line: bulk streams, keys with an echo, readers that stall; every byte verified.

use std::collections::VecDeque;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use vspc_core::mux::link::{Link, LinkCounters};
use vspc_core::mux::{CloseReason, Event, Received, Role, Session, StreamId};
use vspc_core::time::Instant;

use super::simulation::{Damage, End, Line, World};
use super::{LinkChoice, byte_at, session_config};
use crate::random::Random;

/// A line, and what is to go over it.
#[derive(Args, Clone, Debug)]
pub struct PlayArgs {
    /// Chance that the line drops a byte.
    #[arg(long, value_name = "CHANCE", default_value_t = 0.0)]
    pub drop: f64,
    /// Chance that it turns a bit of a byte.
    #[arg(long, value_name = "CHANCE", default_value_t = 0.0)]
    pub flip: f64,
    /// Chance that it inserts a byte before a byte.
    #[arg(long, value_name = "CHANCE", default_value_t = 0.0)]
    pub insert: f64,
    /// All three: half turned bits, a quarter drops, a quarter insertions.
    #[arg(long, value_name = "CHANCE", conflicts_with_all = ["drop", "flip", "insert"])]
    pub errors: Option<f64>,
    /// One-way delay in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 1)]
    pub delay: u64,
    /// Bytes the line takes at a time: a UART's FIFO.
    #[arg(long, value_name = "BYTES", default_value_t = 16)]
    pub chunk: usize,
    /// Where chance starts: the same seed, the same run.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Bits per second, ten to a byte.
    #[arg(long, default_value_t = 115_200)]
    pub baud: u32,
    /// SL is not told the line's speed, and has to learn it.
    #[arg(long)]
    pub untold: bool,
    /// The layer under the streams; by default SL with selective repeat where the line damages bytes, else
    /// none.
    #[arg(long)]
    pub link: Option<LinkChoice>,
    /// SL's largest payload.
    #[arg(long, value_name = "BYTES", default_value_t = 256)]
    pub payload: u16,
    /// SL's window in frames.
    #[arg(long, value_name = "FRAMES", default_value_t = 16)]
    pub link_window: u16,
    /// Largest DATA payload.
    #[arg(long, value_name = "BYTES", default_value_t = 4096)]
    pub max_frame: u16,
    /// Bytes per stream under way; 0: one frame at a time.
    #[arg(long, value_name = "BYTES", default_value_t = 65536)]
    pub window: u32,
    /// Bulk streams from host to guest.
    #[arg(long, default_value_t = 1)]
    pub bulk: usize,
    /// Bytes on each bulk stream.
    #[arg(long, default_value_t = 200_000)]
    pub bytes: u64,
    /// Streams with a key now and then, echoed by the guest.
    #[arg(long, default_value_t = 0)]
    pub keys: usize,
    /// Milliseconds between two keys, 80 to 120 % of it.
    #[arg(long, value_name = "MS", default_value_t = 150)]
    pub key_interval: u64,
    /// Streams whose reader never reads.
    #[arg(long, default_value_t = 0)]
    pub stalled: usize,
    /// Seconds of simulated time after which a run counts as stuck.
    #[arg(long, value_name = "SECONDS", default_value_t = 100_000)]
    pub limit: u64,
    /// The report as JSON.
    #[arg(long)]
    pub json: bool,
}

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// Simulated seconds until the last bulk byte was read.
    pub seconds: f64,
    /// Bulk payload bytes per second, all streams together.
    pub goodput: f64,
    /// `goodput` as a part of the bytes per second of the line.
    pub share: f64,
    /// Milliseconds a full frame occupies the line.
    pub frame_ms: f64,
    /// Bytes the line carried, host to guest and back.
    pub carried: [u64; 2],
    /// Bytes it damaged.
    pub damaged: u64,
    /// Payload bytes that S2 sent again.
    pub repeated: u64,
    /// What SL did at the host and at the guest, where there is one.
    pub link: Option<[LinkCounters; 2]>,
    /// Per stream.
    pub streams: Vec<StreamReport>,
}

/// What a run came to on one stream.
#[derive(Clone, Debug)]
pub struct StreamReport {
    /// `bulk`, `keys` or `stalled`.
    pub kind: &'static str,
    /// Its id.
    pub id: StreamId,
    /// Bytes the guest read and verified.
    pub bytes: u64,
    /// Milliseconds from write to read, sorted: of each key; of one byte in 1000 of a bulk.
    pub latency: Vec<f64>,
    /// Milliseconds from a key to its echo, sorted.
    pub echo: Vec<f64>,
}

struct Flow {
    report: StreamReport,
    total: u64,
    written: u64,
    finished: bool,
    /// When the marked bytes were written, and where they are.
    marks: VecDeque<(u64, Instant)>,
    echoes: VecDeque<Instant>,
    echoed: u64,
    ended: bool,
    next_key: Instant,
}

/// Bulk bytes between two whose latency is taken.
const MARK: u64 = 1000;

/// Plays and prints.
pub(super) fn run(args: &PlayArgs) -> ExitCode {
    match play(args) {
        Ok(report) => {
            if args.json {
                println!("{}", report.to_json());
            } else {
                print!("{report}");
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            if args.json {
                println!("{}", json!({ "ok": false, "error": error }));
            }
            eprintln!("error: {error}; replay with --seed {}", args.seed);
            ExitCode::FAILURE
        }
    }
}

/// Plays; `Err` says what went wrong: a wrong byte, a stuck stream, an end that gave up.
pub fn play(args: &PlayArgs) -> Result<Report, String> {
    Play::new(args)?.run()
}

struct Play<'a> {
    args: &'a PlayArgs,
    world: World,
    flows: Vec<Flow>,
}

impl<'a> Play<'a> {
    fn new(args: &'a PlayArgs) -> Result<Self, String> {
        let damage = match args.errors {
            Some(rate) => Damage { drop: rate / 4.0, flip: rate / 2.0, insert: rate / 4.0 },
            None => Damage { drop: args.drop, flip: args.flip, insert: args.insert },
        };
        let total = damage.drop + damage.flip + damage.insert;
        if ![damage.drop, damage.flip, damage.insert].iter().all(|rate| (0.0..=1.0).contains(rate))
            || total > 1.0
        {
            return Err("chances are from 0 to 1, and so is their sum".into());
        }
        if args.baud == 0 {
            return Err("a line of 0 baud carries nothing".into());
        }
        let choice = args.link.unwrap_or(if total > 0.0 { LinkChoice::Selective } else { LinkChoice::None });
        let mut chance = Random::new(args.seed);
        let now = Instant::from_micros(0);
        let mut end = |role| -> Result<End, String> {
            let config = session_config(role, args.max_frame, args.window);
            let session = Session::new(config, now).map_err(|error| error.to_string())?;
            let told = if args.untold { 0 } else { args.baud };
            let link =
                choice.config(chance.next() as u32, told, args.payload, args.link_window).map(Link::new);
            Ok(End { session, link })
        };
        let ends = [end(Role::Host)?, end(Role::Guest)?];
        let line =
            || Line::new(f64::from(args.baud) / 10.0, Duration::from_millis(args.delay), args.chunk, damage);
        let world = World { now, ends, lines: [line(), line()], chance };
        Ok(Self { args, world, flows: Vec::new() })
    }

    fn run(mut self) -> Result<Report, String> {
        if let Some(link) = &mut self.world.ends[0].link {
            link.open(self.world.now);
        }
        let kinds = [("bulk", self.args.bulk), ("keys", self.args.keys), ("stalled", self.args.stalled)];
        for (kind, count) in kinds {
            for _ in 0..count {
                let id = self.world.ends[0].session.open().map_err(|error| error.to_string())?;
                let total = if kind == "bulk" { self.args.bytes } else { u64::MAX };
                let report = StreamReport { kind, id, bytes: 0, latency: Vec::new(), echo: Vec::new() };
                self.flows.push(Flow {
                    report,
                    total,
                    written: 0,
                    finished: false,
                    marks: VecDeque::new(),
                    echoes: VecDeque::new(),
                    echoed: 0,
                    ended: false,
                    next_key: Instant::from_micros(1_000_000),
                });
            }
        }
        let limit = Instant::from_micros(self.args.limit.saturating_mul(1_000_000));
        loop {
            self.world.step()?;
            self.events()?;
            self.write()?;
            self.read()?;
            self.world.send();
            if self.flows.iter().all(|flow| flow.ended || flow.report.kind != "bulk") {
                break;
            }
            let keys =
                self.flows.iter().filter(|flow| flow.report.kind == "keys").map(|flow| flow.next_key).min();
            let next = [self.world.next(), keys].into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next <= limit) else {
                let at: Vec<_> = self.flows.iter().map(|flow| (flow.report.id, flow.report.bytes)).collect();
                return Err(format!("stuck after {} s, at {at:?}", self.world.now.as_micros() / 1_000_000));
            };
            self.world.now = next;
        }
        Ok(self.report())
    }

    fn events(&mut self) -> Result<(), String> {
        for end in &mut self.world.ends {
            while let Some(event) = end.session.poll_event() {
                match event {
                    Event::Reset(id, reason) => return Err(format!("stream {id} was reset: {reason:?}")),
                    Event::Closed(CloseReason::Silent) => return Err("an end went silent".into()),
                    Event::Closed(reason) => return Err(format!("the session ended: {reason:?}")),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), String> {
        let now = self.world.now;
        let host = &mut self.world.ends[0].session;
        for flow in &mut self.flows {
            let id = flow.report.id;
            let wanted = match flow.report.kind {
                "keys" if flow.next_key > now => 0,
                "keys" => 1,
                _ => (host.send_window(id) as u64).min(flow.total - flow.written),
            };
            if wanted > 0 {
                let bytes: Vec<u8> = (0..wanted).map(|i| byte_at(id.0, true, flow.written + i)).collect();
                let n = host.write(id, &bytes).map_err(|error| format!("stream {id}: {error}"))? as u64;
                if flow.report.kind == "keys" {
                    let interval = self.args.key_interval * 1000;
                    let jitter = self.world.chance.next() % (interval * 2 / 5 + 1);
                    flow.next_key = now + Duration::from_micros(interval * 4 / 5 + jitter);
                    flow.marks.extend((n > 0).then_some((flow.written, now)));
                    flow.echoes.extend((n > 0).then_some(now));
                } else {
                    let first = flow.written.next_multiple_of(MARK);
                    flow.marks.extend((first..flow.written + n).step_by(MARK as usize).map(|at| (at, now)));
                }
                flow.written += n;
            }
            if flow.written == flow.total && !flow.finished {
                flow.finished = true;
                host.finish(id).map_err(|error| format!("stream {id}: {error}"))?;
            }
        }
        Ok(())
    }

    fn read(&mut self) -> Result<(), String> {
        let now = self.world.now;
        let [host, guest] = &mut self.world.ends;
        for flow in &mut self.flows {
            let id = flow.report.id;
            if flow.report.kind == "stalled" {
                continue;
            }
            while let Ok(received) = guest.session.received(id) {
                let Received::Bytes(bytes) = received else {
                    flow.ended |= received == Received::End;
                    break;
                };
                let bytes = bytes.to_vec();
                verify(id, true, flow.report.bytes, &bytes)?;
                flow.report.bytes += bytes.len() as u64;
                let read = flow.report.bytes;
                while let Some(&(offset, at)) = flow.marks.front() {
                    if offset >= read {
                        break;
                    }
                    flow.marks.pop_front();
                    flow.report.latency.push(now.duration_since(at).as_secs_f64() * 1000.0);
                }
                guest.session.consume(id, bytes.len()).map_err(|error| error.to_string())?;
                if flow.report.kind == "keys" {
                    let from = read - bytes.len() as u64;
                    let echo: Vec<u8> = (from..read).map(|at| byte_at(id.0, false, at)).collect();
                    guest.session.write(id, &echo).map_err(|error| error.to_string())?;
                }
            }
            if flow.ended && flow.report.bytes != flow.total {
                return Err(format!("stream {id} ended at {} of {}", flow.report.bytes, flow.total));
            }
            while let Ok(Received::Bytes(bytes)) = host.session.received(id) {
                verify(id, false, flow.echoed, bytes)?;
                let n = bytes.len();
                flow.echoed += n as u64;
                for at in flow.echoes.drain(..n.min(flow.echoes.len())) {
                    flow.report.echo.push(now.duration_since(at).as_secs_f64() * 1000.0);
                }
                host.session.consume(id, n).map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    }

    fn report(self) -> Report {
        let seconds = self.world.now.as_micros() as f64 / 1e6;
        let mut streams: Vec<StreamReport> = self.flows.into_iter().map(|flow| flow.report).collect();
        for stream in &mut streams {
            stream.latency.sort_by(f64::total_cmp);
            stream.echo.sort_by(f64::total_cmp);
        }
        let bulk: u64 =
            streams.iter().filter(|stream| stream.kind == "bulk").map(|stream| stream.bytes).sum();
        let raw = f64::from(self.args.baud) / 10.0;
        let [host, guest] = &self.world.ends;
        let link = host.link.as_ref().zip(guest.link.as_ref()).map(|(a, b)| [a.counters(), b.counters()]);
        let frame = f64::from(self.args.max_frame) + 12.0;
        Report {
            seconds,
            goodput: bulk as f64 / seconds,
            share: bulk as f64 / seconds / raw,
            frame_ms: frame / raw * 1000.0,
            carried: [self.world.lines[0].carried, self.world.lines[1].carried],
            damaged: self.world.lines.iter().map(|line| line.damaged).sum(),
            repeated: host.session.counters().repeated + guest.session.counters().repeated,
            link,
            streams,
        }
    }
}

fn verify(id: StreamId, from_host: bool, offset: u64, bytes: &[u8]) -> Result<(), String> {
    match bytes.iter().enumerate().find(|(i, byte)| **byte != byte_at(id.0, from_host, offset + *i as u64)) {
        Some((i, byte)) => Err(format!("stream {id}: wrong byte {byte:#04x} at {}", offset + i as u64)),
        None => Ok(()),
    }
}

/// The value below which `part` of the sorted values lie.
fn quantile(sorted: &[f64], part: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    Some(sorted[((sorted.len() as f64 * part) as usize).min(last)])
}

impl Report {
    /// As one JSON object.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let times = |sorted: &[f64]| {
            json!({
                "count": sorted.len(),
                "p50": quantile(sorted, 0.5),
                "p99": quantile(sorted, 0.99),
                "max": sorted.last(),
            })
        };
        let streams: Vec<Value> = self
            .streams
            .iter()
            .map(|stream| {
                json!({
                    "kind": stream.kind,
                    "id": stream.id.0,
                    "bytes": stream.bytes,
                    "latency_ms": times(&stream.latency),
                    "echo_ms": times(&stream.echo),
                })
            })
            .collect();
        let link = self.link.as_ref().map(|ends| {
            ends.iter()
                .map(|end| {
                    json!({
                        "frames": end.frames, "repeated": end.repeated, "duplicates": end.duplicates,
                        "bad_checksum": end.bad_checksum, "short": end.short, "long": end.long,
                        "aborted": end.aborted, "malformed": end.malformed,
                    })
                })
                .collect::<Vec<_>>()
        });
        json!({
            "ok": true,
            "seconds": self.seconds,
            "goodput": self.goodput,
            "share_of_line": self.share,
            "frame_ms": self.frame_ms,
            "carried": self.carried,
            "damaged": self.damaged,
            "repeated": self.repeated,
            "link": link,
            "streams": streams,
        })
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "time      {:.3} s simulated", self.seconds)?;
        writeln!(f, "goodput   {:.0} B/s, {:.2} % of the line", self.goodput, self.share * 100.0)?;
        writeln!(
            f,
            "line      {} B out, {} B back, {} damaged",
            self.carried[0], self.carried[1], self.damaged
        )?;
        writeln!(f, "repeated  {} B by S2", self.repeated)?;
        if let Some(ends) = &self.link {
            for (name, end) in ["host", "guest"].iter().zip(ends) {
                writeln!(
                    f,
                    "SL {name:<6} {} frames, {} repeated, {} for nothing, \
                     {} bad checksums, {} short, {} long",
                    end.frames, end.repeated, end.duplicates, end.bad_checksum, end.short, end.long
                )?;
            }
        }
        for stream in &self.streams {
            write!(f, "{:<8} {:>3}  {:>9} B verified", stream.kind, stream.id.to_string(), stream.bytes)?;
            for (name, sorted) in [("latency", &stream.latency), ("echo", &stream.echo)] {
                if let (Some(p50), Some(p99), Some(max)) =
                    (quantile(sorted, 0.5), quantile(sorted, 0.99), sorted.last())
                {
                    write!(f, "  {name} p50 {p50:.1} p99 {p99:.1} max {max:.1} ms")?;
                    if stream.kind == "keys" {
                        write!(f, " ({:.2} frame times)", p99 / self.frame_ms)?;
                    }
                }
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
