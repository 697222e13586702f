//! S2 beside yamux, in one process, over the same pipe in memory: throughput, latency of a small stream
//! beside a bulk one, bytes per idle stream. `cargo bench -p vspc-conformance --bench mux`
//!
//! One thread drives both ends, so a figure is what one core does for both; throughput counts that thread's
//! processor time, so that a busy machine blurs it less. Both get the same pipe, the same schedule (write,
//! move, read, in turn), the same reader with the same checks, and their own defaults.
//!
//! A reader *copies* what arrives into a buffer of its own, or only *looks* at it where it lies: S2 lends it
//! out of the bytes just read, yamux hands out owned packets. A reader that comes *later* finds it stored;
//! yamux stores it always.

use std::alloc::System;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Instant as Clock;

use futures::Stream as _;
use futures::io::{AsyncRead, AsyncWrite};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use vspc_core::mux::{Config, Event, Received, Role, Session, StreamId};
use vspc_core::time::Instant;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The pipe's size each way: what a Linux virtio or socket buffer comes to.
const PIPE: usize = 256 * 1024;
/// What the applications write and read at a time.
const CHUNK: usize = 64 * 1024;
const ROUNDS: usize = 3;

/// A ring of bytes.
struct Ring {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl Ring {
    fn new() -> Self {
        Self { bytes: vec![0; PIPE], start: 0, len: 0 }
    }

    fn write(&mut self, data: &[u8]) -> usize {
        let n = data.len().min(PIPE - self.len);
        let at = (self.start + self.len) % PIPE;
        let first = n.min(PIPE - at);
        self.bytes[at..at + first].copy_from_slice(&data[..first]);
        self.bytes[..n - first].copy_from_slice(&data[first..n]);
        self.len += n;
        n
    }

    fn read(&mut self, buf: &mut [u8]) -> usize {
        let n = buf.len().min(self.len);
        let first = n.min(PIPE - self.start);
        buf[..first].copy_from_slice(&self.bytes[self.start..self.start + first]);
        buf[first..n].copy_from_slice(&self.bytes[..n - first]);
        self.start = (self.start + n) % PIPE;
        self.len -= n;
        n
    }
}

/// Two ends of something that carries streams, driven in turn.
trait Pair {
    /// Opens a stream from the first end; both ends know it afterwards.
    fn open(&mut self) -> usize;
    /// Writes on a stream at one end.
    fn write(&mut self, end: usize, stream: usize, data: &[u8]) -> usize;
    /// Reads on a stream at one end.
    fn read(&mut self, end: usize, stream: usize, buf: &mut [u8]) -> usize;
    /// Moves bytes both ways.
    fn step(&mut self);
    /// The same, while `reader` takes what the second end has of `stream`.
    fn step_reading(&mut self, stream: usize, reader: &mut Reader);
}

/// How a [`Reader`] takes what arrives.
#[derive(Clone, Copy, PartialEq)]
enum Taking {
    Copies,
    Looks,
    /// Copies, but only when everything has been moved.
    Later,
}

/// What `CHUNK` bytes of the stream look like; the next `CHUNK` look the same.
fn pattern() -> Vec<u8> {
    (0..CHUNK).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

/// Counts and checks what it is given: the ends of every piece, for a check of every byte would be all that
/// is measured.
struct Reader {
    taking: Taking,
    buf: Vec<u8>,
    filled: usize,
    pattern: Vec<u8>,
    read: u64,
}

impl Reader {
    fn new(taking: Taking) -> Self {
        Self { taking, buf: vec![0; CHUNK], filled: 0, pattern: pattern(), read: 0 }
    }

    /// Where it lies, or copied to the free part of the buffer, which the application has used up once it is
    /// full.
    fn take(&mut self, mut bytes: &[u8]) {
        if self.taking == Taking::Looks {
            return self.check(bytes);
        }
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(CHUNK - self.filled));
            let at = self.filled;
            self.buf[at..at + now.len()].copy_from_slice(now);
            self.filled = (at + now.len()) % CHUNK;
            let buf = std::mem::take(&mut self.buf);
            self.check(&buf[at..at + now.len()]);
            self.buf = buf;
            bytes = later;
        }
    }

    /// Reads into the buffer until there is nothing left.
    fn fill(&mut self, mut read: impl FnMut(&mut [u8]) -> usize) {
        let mut buf = std::mem::take(&mut self.buf);
        loop {
            let n = read(&mut buf);
            if n == 0 {
                break;
            }
            self.check(&buf[..n]);
        }
        self.buf = buf;
    }

    fn check(&mut self, bytes: &[u8]) {
        let at = |offset: u64| self.pattern[(offset % CHUNK as u64) as usize];
        let last = self.read + bytes.len() as u64 - 1;
        assert_eq!((bytes[0], bytes[bytes.len() - 1]), (at(self.read), at(last)));
        self.read = last + 1;
    }
}

struct Ours {
    ends: [Session; 2],
    lines: [Ring; 2],
    scratch: Vec<u8>,
    ids: Vec<StreamId>,
    now: Instant,
}

impl Ours {
    fn new(streams: u32) -> Self {
        let now = Instant::from_micros(0);
        let ends = [Role::Host, Role::Guest].map(|role| {
            let mut config = Config::new(role);
            config.max_streams = streams;
            Session::new(config, now).unwrap()
        });
        let mut pair =
            Self { ends, lines: [Ring::new(), Ring::new()], scratch: vec![0; CHUNK], ids: Vec::new(), now };
        pair.step();
        pair.step();
        pair
    }
}

impl Pair for Ours {
    fn open(&mut self) -> usize {
        let id = self.ends[0].open().unwrap();
        self.ids.push(id);
        self.ids.len() - 1
    }

    fn write(&mut self, end: usize, stream: usize, data: &[u8]) -> usize {
        self.ends[end].write(self.ids[stream], data).unwrap_or(0)
    }

    fn read(&mut self, end: usize, stream: usize, buf: &mut [u8]) -> usize {
        self.ends[end].read(self.ids[stream], buf).unwrap_or(0)
    }

    fn step(&mut self) {
        self.step_with(&mut |_, _| 0);
    }

    fn step_reading(&mut self, stream: usize, reader: &mut Reader) {
        let id = self.ids[stream];
        if reader.taking == Taking::Later {
            self.step();
            return reader.fill(|buf| self.read(1, stream, buf));
        }
        self.step_with(&mut |at, bytes| {
            if at == id {
                reader.take(bytes);
                return bytes.len();
            }
            0
        });
        // What came before the stream was announced.
        while let Ok(Received::Bytes(bytes)) = self.ends[1].received(id) {
            let n = bytes.len();
            reader.take(bytes);
            self.ends[1].consume(id, n).unwrap();
        }
    }
}

impl Ours {
    /// Moves bytes both ways; `taker` says how much of what arrives at the second end it has used.
    fn step_with(&mut self, taker: &mut dyn FnMut(StreamId, &[u8]) -> usize) {
        for from in 0..2 {
            let line = &mut self.lines[from];
            loop {
                let mut runs = [IoSlice::new(&[]); 64];
                let filled = self.ends[from].transmit(&mut runs);
                // writev
                let mut n = 0;
                for run in &runs[..filled] {
                    let taken = line.write(run);
                    n += taken;
                    if taken < run.len() {
                        break;
                    }
                }
                if n == 0 {
                    break;
                }
                self.ends[from].handle_sent(n, self.now);
            }
            let to = &mut self.ends[1 - from];
            loop {
                let window = to.receive_window().min(CHUNK);
                let n = line.read(&mut self.scratch[..window]);
                if n == 0 {
                    break;
                }
                if from == 1 {
                    to.handle_received(&self.scratch[..n], self.now);
                    continue;
                }
                let mut input = &self.scratch[..n];
                while let Some(mut payload) = to.poll_received(&mut input, self.now) {
                    payload.consume(taker(payload.id(), payload.bytes()));
                }
            }
            while let Some(event) = self.ends[1 - from].poll_event() {
                assert!(!matches!(event, Event::Closed(_) | Event::Reset(..)), "{event:?}");
            }
        }
    }
}

#[derive(Clone)]
struct Socket {
    read: Arc<Mutex<Ring>>,
    write: Arc<Mutex<Ring>>,
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        match self.read.lock().unwrap().read(buf) {
            0 => Poll::Pending,
            n => Poll::Ready(Ok(n)),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        match self.write.lock().unwrap().write(data) {
            0 => Poll::Pending,
            n => Poll::Ready(Ok(n)),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        runs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut line = self.write.lock().unwrap();
        match runs.iter().map(|run| line.write(run)).sum() {
            0 => Poll::Pending,
            n => Poll::Ready(Ok(n)),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

struct Yamux {
    ends: [yamux::Connection<Socket>; 2],
    streams: [Vec<yamux::Stream>; 2],
    inbound: Rc<RefCell<VecDeque<yamux::Stream>>>,
}

impl Yamux {
    fn new(streams: u32) -> Self {
        let (a, b) = (Arc::new(Mutex::new(Ring::new())), Arc::new(Mutex::new(Ring::new())));
        let mut config = yamux::Config::default();
        // In this order: a limit on the connection must allow for every stream.
        config.set_max_connection_receive_window(None);
        config.set_max_num_streams(streams as usize);
        let socket = |read: &Arc<Mutex<Ring>>, write: &Arc<Mutex<Ring>>| Socket {
            read: read.clone(),
            write: write.clone(),
        };
        let ends = [
            yamux::Connection::new(socket(&b, &a), config.clone(), yamux::Mode::Client),
            yamux::Connection::new(socket(&a, &b), config, yamux::Mode::Server),
        ];
        Self { ends, streams: [Vec::new(), Vec::new()], inbound: Rc::default() }
    }
}

fn context() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

impl Pair for Yamux {
    fn open(&mut self) -> usize {
        let stream = loop {
            match self.ends[0].poll_new_outbound(&mut context()) {
                Poll::Ready(stream) => break stream.unwrap(),
                Poll::Pending => self.step(),
            }
        };
        self.streams[0].push(stream);
        self.streams[0].len() - 1
    }

    fn write(&mut self, end: usize, stream: usize, data: &[u8]) -> usize {
        let Some(stream) = self.streams[end].get_mut(stream) else { return 0 };
        match Pin::new(stream).poll_write(&mut context(), data) {
            Poll::Ready(n) => n.unwrap(),
            Poll::Pending => 0,
        }
    }

    fn read(&mut self, end: usize, stream: usize, buf: &mut [u8]) -> usize {
        let Some(stream) = self.streams[end].get_mut(stream) else { return 0 };
        match Pin::new(stream).poll_read(&mut context(), buf) {
            Poll::Ready(n) => n.unwrap(),
            Poll::Pending => 0,
        }
    }

    fn step(&mut self) {
        for end in 0..2 {
            while let Poll::Ready(Some(stream)) = self.ends[end].poll_next_inbound(&mut context()) {
                self.inbound.borrow_mut().push_back(stream.unwrap());
            }
        }
        // Streams are opened in order and arrive in order.
        self.streams[1].extend(self.inbound.borrow_mut().drain(..));
    }

    fn step_reading(&mut self, stream: usize, reader: &mut Reader) {
        self.step();
        if reader.taking != Taking::Looks {
            return reader.fill(|buf| self.read(1, stream, buf));
        }
        if let Some(stream) = self.streams[1].get_mut(stream) {
            while let Poll::Ready(Some(packet)) = Pin::new(&mut *stream).poll_next(&mut context()) {
                reader.take(packet.unwrap().as_ref());
            }
        }
    }
}

/// Seconds of processor time this thread has used.
fn cpu() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Bytes per second through one stream.
fn throughput(pair: &mut dyn Pair, taking: Taking, total: u64) -> f64 {
    let stream = pair.open();
    let (data, mut reader) = (pattern(), Reader::new(taking));
    let (mut written, mut warm, mut start) = (0u64, 0, cpu());
    while reader.read < total {
        loop {
            let at = (written % CHUNK as u64) as usize;
            let n = pair.write(0, stream, &data[at..]);
            if n == 0 {
                break;
            }
            written += n as u64;
        }
        pair.step_reading(stream, &mut reader);
        // The first 64 MiB are for windows to grow and caches to warm.
        if warm == 0 && reader.read >= 64 << 20 {
            warm = reader.read;
            start = cpu();
        }
    }
    (reader.read - warm) as f64 / (cpu() - start)
}

/// Microseconds from a key on a small stream to its echo, beside a bulk stream that is never idle: median and
/// 99th.
fn latency(pair: &mut dyn Pair, keys: usize) -> (f64, f64) {
    let (bulk, small) = (pair.open(), pair.open());
    let (data, mut buf) = (vec![7u8; CHUNK], vec![0u8; CHUNK]);
    let mut times = Vec::with_capacity(keys);
    let mut one = [0u8; 1];
    // Both streams exist at both ends, and the bulk is under way.
    let mut echoed = 0;
    pair.write(0, bulk, &data);
    pair.write(0, small, b"k");
    while echoed == 0 {
        pair.step();
        if pair.read(1, small, &mut one) > 0 {
            pair.write(1, small, &one);
        }
        echoed = pair.read(0, small, &mut one);
    }
    while times.len() < keys {
        let start = Clock::now();
        let mut sent = pair.write(0, small, b"k");
        loop {
            while pair.write(0, bulk, &data) > 0 {}
            if sent == 0 {
                sent = pair.write(0, small, b"k");
            }
            pair.step();
            while pair.read(1, bulk, &mut buf) > 0 {}
            if pair.read(1, small, &mut one) > 0 {
                assert_eq!(pair.write(1, small, &one), 1);
            }
            if pair.read(0, small, &mut one) > 0 {
                break;
            }
        }
        times.push(start.elapsed().as_nanos() as f64 / 1000.0);
    }
    times.sort_by(f64::total_cmp);
    (times[keys / 2], times[keys * 99 / 100])
}

/// Heap bytes per stream that was used once and is idle, at one end.
fn idle(pair: &mut dyn Pair, count: usize) -> f64 {
    let mut buf = [0u8; 16];
    pair.step();
    let region = Region::new(ALLOCATOR);
    for _ in 0..count {
        let stream = pair.open();
        assert_eq!(pair.write(0, stream, b"x"), 1);
        while pair.read(1, stream, &mut buf) == 0 {
            pair.step();
        }
        // Answered, for yamux opens no more than 256 streams that the other end has not answered.
        assert_eq!(pair.write(1, stream, b"y"), 1);
        while pair.read(0, stream, &mut buf) == 0 {
            pair.step();
        }
    }
    for _ in 0..4 {
        pair.step();
    }
    let stats = region.change();
    let bytes = stats.bytes_allocated as f64 - stats.bytes_deallocated as f64;
    bytes / (2 * count) as f64
}

fn main() {
    // `cargo test --benches` only wants to know that it runs.
    let total: u64 = if std::env::args().any(|arg| arg == "--bench") { 4 << 30 } else { 256 << 20 };
    println!(
        "one thread drives both ends; pipe {} KiB, chunks {} KiB, best of {ROUNDS}",
        PIPE >> 10,
        CHUNK >> 10
    );
    let best = |run: &mut dyn FnMut() -> f64| (0..ROUNDS).map(|_| run()).fold(0.0, f64::max);
    for (taking, name) in [
        (Taking::Copies, "throughput, copied  "),
        (Taking::Looks, "  looked at         "),
        (Taking::Later, "  copied later      "),
    ] {
        let ours = best(&mut || throughput(&mut Ours::new(16), taking, total));
        let yamux = best(&mut || throughput(&mut Yamux::new(16), taking, total));
        println!("{name}  s2 {:>6.2} GB/s   yamux {:>6.2} GB/s", ours / 1e9, yamux / 1e9);
    }
    let (ours, yamux) = (latency(&mut Ours::new(16), 20_000), latency(&mut Yamux::new(16), 20_000));
    println!("key beside bulk, p50  s2 {:>6.1} us     yamux {:>6.1} us", ours.0, yamux.0);
    println!("                 p99  s2 {:>6.1} us     yamux {:>6.1} us", ours.1, yamux.1);
    for count in [1000, 10_000] {
        let mut pair = Ours::new(count as u32);
        let ours = idle(&mut pair, count);
        let yamux = idle(&mut Yamux::new(count as u32), count);
        println!("idle, {count:>6} streams  s2 {ours:>6.0} B      yamux {yamux:>6.0} B   per stream and end");
    }
}
