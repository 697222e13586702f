//! The tunnel's thread: one event loop for all connections that are carried.

use std::collections::{HashMap, VecDeque};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token, Waker};

use super::Secure;
use super::carrier::{Carrier, Progress, Waiting};

/// A connection to carry.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) near: TcpStream,
    pub(super) far: TcpStream,
    pub(super) to: SocketAddr,
    pub(super) secure: Secure,
    pub(super) waiting: Waiting,
}

/// All connections and the loop they share.
#[derive(Debug)]
pub(super) struct Porter {
    poll: Poll,
    orders: Receiver<Order>,
    stop: Arc<AtomicBool>,
    places: Vec<Option<Place>>,
    free: Vec<usize>,
    /// Places to look at without being told.
    again: Vec<usize>,
    /// When which connection must be up; the same time for all, so in order.
    limits: VecDeque<(Instant, usize, u64)>,
    serial: u64,
    /// What went wrong, and how often.
    failures: HashMap<String, u64>,
    /// For one read; nothing stays in it.
    scratch: Vec<u8>,
}

#[derive(Debug)]
struct Place {
    carrier: Carrier,
    to: SocketAddr,
    serial: u64,
    /// It stands in the list of those to be looked at.
    queued: bool,
}

impl Porter {
    pub(super) fn new(orders: Receiver<Order>, stop: Arc<AtomicBool>) -> io::Result<(Self, Waker)> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKE)?;
        let porter = Self {
            poll,
            orders,
            stop,
            places: Vec::new(),
            free: Vec::new(),
            again: Vec::new(),
            limits: VecDeque::new(),
            serial: 0,
            failures: HashMap::new(),
            scratch: vec![0; READ],
        };
        Ok((porter, waker))
    }

    /// Carries until it is told to stop, and then what is on its way.
    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(1024);
        let mut last = None;
        loop {
            let wait = if self.again.is_empty() { self.wait(last) } else { Some(Duration::ZERO) };
            match self.poll.poll(&mut events, wait) {
                Err(error) if error.kind() != ErrorKind::Interrupted => {
                    return eprintln!("tls: event queue: {error}");
                }
                _ => {}
            }
            for event in events.iter().filter(|event| event.token() != WAKE) {
                let Token(token) = event.token();
                if let Some(Some(place)) = self.places.get_mut(token / 2) {
                    place.carrier.wake(token % 2, event);
                    if !std::mem::replace(&mut place.queued, true) {
                        self.again.push(token / 2);
                    }
                }
            }
            for index in std::mem::take(&mut self.again) {
                self.visit(index);
            }
            self.give_up();
            // Last: a place that was left in this batch is not filled before the next, so that no event of
            // the old connection is taken for one of the new.
            while let Ok(order) = self.orders.try_recv() {
                self.take(order);
            }
            if let Some(until) = last
                && (Instant::now() >= until || !self.carriers().any(Carrier::is_busy))
            {
                return self.conclude();
            }
            if last.is_none() && self.stop.load(Ordering::Relaxed) {
                last = Some(Instant::now() + LAST);
                // Once more for what the near ends said last.
                self.again.extend(0..self.places.len());
            }
        }
    }

    fn carriers(&self) -> impl Iterator<Item = &Carrier> {
        self.places.iter().flatten().map(|place| &place.carrier)
    }

    fn wait(&self, last: Option<Instant>) -> Option<Duration> {
        let limit = self.limits.front().map(|(limit, ..)| *limit);
        limit.into_iter().chain(last).min().map(|at| at.saturating_duration_since(Instant::now()))
    }

    fn take(&mut self, order: Order) {
        let Order { near, far, to, secure, waiting } = order;
        let mut carrier = Carrier::new(near, far, secure, waiting);
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            self.places.len() - 1
        });
        let registry = self.poll.registry();
        let both = Interest::READABLE | Interest::WRITABLE;
        let [near, far] = carrier.sockets();
        let registered = registry.register(near, Token(index * 2), both);
        if let Err(error) = registered.and_then(|()| registry.register(far, Token(index * 2 + 1), both)) {
            self.free.push(index);
            return self.ended(carrier, to, &Progress::Failed(error.to_string()));
        }
        self.serial += 1;
        self.limits.push_back((Instant::now() + UP_WITHIN, index, self.serial));
        self.places[index] = Some(Place { carrier, to, serial: self.serial, queued: true });
        self.again.push(index);
    }

    fn visit(&mut self, index: usize) {
        let Some(Some(place)) = self.places.get_mut(index) else { return };
        place.queued = false;
        match place.carrier.work(&mut self.scratch) {
            Progress::Waits => {}
            Progress::Again => {
                place.queued = true;
                self.again.push(index);
            }
            progress => self.leave(index, &progress),
        }
    }

    /// Ends what should be up and is not.
    fn give_up(&mut self) {
        let now = Instant::now();
        while let Some((limit, index, serial)) = self.limits.front().copied() {
            let place = self.places[index].as_ref().filter(|place| place.serial == serial);
            let is_late = place.is_some_and(|place| !place.carrier.is_up());
            if is_late && now < limit {
                return;
            }
            self.limits.pop_front();
            if is_late {
                self.leave(index, &Progress::Failed(format!("not up within {} s", UP_WITHIN.as_secs())));
            }
        }
    }

    fn leave(&mut self, index: usize, progress: &Progress) {
        if let Some(place) = self.places[index].take() {
            self.free.push(index);
            self.ended(place.carrier, place.to, progress);
        }
    }

    fn ended(&mut self, carrier: Carrier, to: SocketAddr, progress: &Progress) {
        let report = carrier.is_reported();
        carrier.finish(progress);
        if let (Progress::Failed(why), true) = (progress, report) {
            let why = format!("{to}: {why}");
            let count = self.failures.entry(why.clone()).or_default();
            *count += 1;
            if *count == 1 {
                eprintln!("tls: {why}");
            }
        }
    }

    /// Tells what happened more than once.
    fn conclude(self) {
        for (why, count) in self.failures.iter().filter(|(_, count)| **count > 1) {
            eprintln!("tls: {why} ({count} times)");
        }
    }
}

/// The token of the wake-up; all others are those of places.
const WAKE: Token = Token(usize::MAX);
/// Bytes of one read: with bulk, a system call for several records.
const READ: usize = 256 << 10;
/// How long connecting, the upgrade and the handshake may take. Longer than any tool waits for what follows.
const UP_WITHIN: Duration = Duration::from_secs(30);
/// How long what is on its way is carried after the last tool has gone.
const LAST: Duration = Duration::from_secs(1);
