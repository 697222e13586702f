//! The host's end of a line: a session of the core's on a descriptor, and calls that wait.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use vspc_core::mux::link::{Link, LinkConfig, LinkEvent, carry};
use vspc_core::mux::{CloseReason, Config, Event, Received, ResetReason, Role, Session, StreamId};
use vspc_core::time::Instant;
use vspc_guest::{Announcement, Code, Greeting, Guest, Header, Key, Next, Refusal, Secret, answer};

/// Directions of the line.
const TO_GUEST: usize = 0;
const TO_HOST: usize = 1;
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(40);

/// What a line does to what is on it.
pub(crate) trait Noise {
    fn damage(&mut self, bytes: Vec<u8>) -> Vec<u8>;
}

/// The host.
pub(crate) struct Host {
    fd: OwnedFd,
    pub(crate) session: Session,
    link: Option<Link>,
    noise: Option<Box<dyn Noise>>,
    /// What the line has not taken yet.
    out: Vec<u8>,
    started: std::time::Instant,
    /// What has come and was not asked for yet.
    came: BTreeMap<StreamId, Vec<u8>>,
    ended: BTreeSet<StreamId>,
    resets: BTreeMap<StreamId, ResetReason>,
    /// Streams that are not read.
    pub(crate) unread: BTreeSet<StreamId>,
    /// Streams of the guest's, in their order, that nobody has taken.
    pub(crate) opened: Vec<StreamId>,
    hung_up: bool,
    /// Bytes that are read of the line in a turn.
    pub(crate) reads: usize,
    /// Bytes that were.
    pub(crate) have_read: usize,
    /// The guest has ended the session.
    pub(crate) closed: Option<CloseReason>,
    /// How often a session has begun.
    pub(crate) sessions: u32,
    /// What the line carries each way in a second, and what it has carried.
    pace: Option<(u64, [u64; 2])>,
    patience: Duration,
}

impl Host {
    /// On a line that loses nothing.
    pub(crate) fn raw(fd: impl Into<OwnedFd>) -> Self {
        Self::new(fd.into(), None)
    }

    /// On one that may lose bytes.
    pub(crate) fn sl(fd: impl Into<OwnedFd>) -> Self {
        Self::new(fd.into(), Some(Link::new(LinkConfig::new(number()))))
    }

    fn new(fd: OwnedFd, mut link: Option<Link>) -> Self {
        rustix::io::ioctl_fionbio(&fd, true).unwrap();
        let config = Config { nonce: number(), ..Config::new(Role::Host) };
        if let Some(link) = &mut link {
            link.open(Instant::ZERO);
        }
        Self {
            fd,
            session: Session::new(config, Instant::ZERO).unwrap(),
            link,
            noise: None,
            out: Vec::new(),
            started: std::time::Instant::now(),
            came: BTreeMap::new(),
            ended: BTreeSet::new(),
            resets: BTreeMap::new(),
            unread: BTreeSet::new(),
            opened: Vec::new(),
            hung_up: false,
            reads: 8192,
            have_read: 0,
            closed: None,
            sessions: 0,
            pace: None,
            patience: PATIENCE,
        }
    }

    /// With one that may take long.
    pub(crate) const fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The carrier says that whoever was at the other end is gone, and another one there.
    pub(crate) fn begin_anew(&mut self) {
        let now = self.now();
        self.out.clear();
        self.session.line_reopened(now);
        self.handle_events();
    }

    /// From now on the line carries so many bytes a second each way.
    pub(crate) fn set_pace(&mut self, bytes: u64) {
        let so_far = self.started.elapsed().as_micros() as u64 * bytes / 1_000_000;
        self.pace = Some((bytes, [so_far; 2]));
    }

    /// How many bytes the line can carry now.
    fn room(&self, which: usize) -> usize {
        let Some((bytes, carried)) = self.pace else { return usize::MAX };
        let so_far = self.started.elapsed().as_micros() as u64 * bytes / 1_000_000;
        so_far.saturating_sub(carried[which]) as usize
    }

    fn note_carried(&mut self, which: usize, n: usize) {
        if let Some((_, carried)) = &mut self.pace {
            carried[which] += n as u64;
        }
    }

    /// Another port has the name of the line. What was on its way is lost.
    pub(crate) fn replace_line(&mut self, fd: OwnedFd) {
        rustix::io::ioctl_fionbio(&fd, true).unwrap();
        self.fd = fd;
        self.out.clear();
        self.hung_up = false;
    }

    pub(crate) fn with_noise(mut self, noise: impl Noise + 'static) -> Self {
        self.noise = Some(Box::new(noise));
        self
    }

    fn now(&self) -> Instant {
        Instant::from_micros(self.started.elapsed().as_micros() as u64)
    }

    /// One turn: waits for the line, at most for a moment.
    pub(crate) fn turn(&mut self) {
        let now = self.now();
        self.session.handle_timeout(now);
        if let Some(link) = &mut self.link {
            link.handle_timeout(now);
        }
        self.transmit(now);
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::IN, self.room(TO_HOST) > 0);
        flags.set(PollFlags::OUT, !self.out.is_empty() && self.room(TO_GUEST) > 0);
        let mut fds = [PollFd::from_borrowed_fd(self.fd.as_fd(), flags)];
        let wait = Timespec { tv_sec: 0, tv_nsec: if self.pace.is_some() { 1_000_000 } else { 20_000_000 } };
        let _ = rustix::event::poll(&mut fds, Some(&wait));
        let now = self.now();
        let mut bytes = vec![0; self.reads.min(self.room(TO_HOST))];
        if bytes.is_empty() {
            return;
        }
        match rustix::io::read(&self.fd, &mut bytes) {
            Ok(0) => self.hung_up = true,
            Ok(n) => {
                bytes.truncate(n);
                self.have_read += n;
                self.note_carried(TO_HOST, n);
                if let Some(noise) = &mut self.noise {
                    bytes = noise.damage(bytes);
                }
                match &mut self.link {
                    None => self.session.handle_received(&bytes, now),
                    Some(link) => link.handle_received(&bytes, now),
                }
            }
            Err(Errno::AGAIN) => {}
            Err(_) => self.hung_up = true,
        }
        if let Some(link) = &mut self.link {
            while let Some(event) = link.poll_event() {
                if let LinkEvent::Restarted | LinkEvent::Closed(_) = event {
                    self.session.line_reopened(now);
                    link.open(now);
                }
            }
            carry(&mut self.session, link, now);
        }
        self.handle_events();
    }

    fn transmit(&mut self, now: Instant) {
        loop {
            if !self.out.is_empty() {
                let room = self.out.len().min(self.room(TO_GUEST));
                if room == 0 {
                    return;
                }
                match rustix::io::write(&self.fd, &self.out[..room]) {
                    Ok(n) => {
                        self.out.drain(..n);
                        self.note_carried(TO_GUEST, n);
                    }
                    Err(Errno::AGAIN) => return,
                    Err(_) => {
                        self.hung_up = true;
                        return;
                    }
                }
                continue;
            }
            let mut out = Vec::new();
            match &mut self.link {
                None => {
                    self.session.transmit_with(now, |runs| {
                        runs.iter().for_each(|run| out.extend_from_slice(run));
                        out.len()
                    });
                }
                Some(link) => {
                    carry(&mut self.session, link, now);
                    link.transmit_with(now, |run| {
                        out.extend_from_slice(run);
                        run.len()
                    });
                }
            }
            if out.is_empty() {
                return;
            }
            self.out = match &mut self.noise {
                Some(noise) => noise.damage(out),
                None => out,
            };
        }
    }

    fn handle_events(&mut self) {
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::Closed(why) => self.closed = Some(why),
                Event::Started(_) | Event::Restarted(_) => {
                    self.sessions += 1;
                    self.opened.clear();
                }
                Event::Opened(id) => {
                    self.forget(id);
                    self.opened.push(id);
                }
                Event::Reset(id, why) => {
                    self.resets.insert(id, why);
                }
                Event::Readable(id) if !self.unread.contains(&id) => self.take(id),
                _ => {}
            }
        }
    }

    fn take(&mut self, id: StreamId) {
        loop {
            match self.session.received(id) {
                Ok(Received::Bytes(bytes)) => {
                    let n = bytes.len();
                    self.came.entry(id).or_default().extend_from_slice(bytes);
                    self.session.consume(id, n).unwrap();
                }
                Ok(Received::End) => {
                    self.ended.insert(id);
                    return;
                }
                _ => return,
            }
        }
    }

    /// A stream that was not read is read from now on.
    pub(crate) fn read(&mut self, id: StreamId) {
        self.unread.remove(&id);
        self.take(id);
    }

    /// Turns until something is so.
    pub(crate) fn until<T>(&mut self, what: &str, mut so: impl FnMut(&mut Self) -> Option<T>) -> T {
        let begun = std::time::Instant::now();
        loop {
            if let Some(it) = so(self) {
                return it;
            }
            assert!(begun.elapsed() < self.patience, "waited too long for {what}");
            assert!(!self.hung_up, "the line is gone while waiting for {what}");
            self.turn();
        }
    }

    /// Whether the agent has let go of the line.
    pub(crate) fn until_hung_up(&mut self) {
        let begun = std::time::Instant::now();
        while !self.hung_up {
            assert!(begun.elapsed() < PATIENCE, "the line stays");
            self.turn();
        }
    }

    /// The next stream that the guest has announced, and what it is.
    pub(crate) fn announced(&mut self) -> (StreamId, Announcement) {
        let id =
            self.until("an announcement", |host| (!host.opened.is_empty()).then(|| host.opened.remove(0)));
        let line = self.line(id);
        (id, Announcement::parse(&line).unwrap())
    }

    /// The stream that is announced under this name; others are refused.
    pub(crate) fn announced_as(&mut self, name: &str) -> (StreamId, Announcement) {
        loop {
            let (id, announcement) = self.announced();
            if announcement.name().as_str() == name {
                return (id, announcement);
            }
            self.write(id, &Refusal::new(Code::UNSUPPORTED, "not now").line());
            self.finish(id);
        }
    }

    /// Takes what was announced on a stream.
    pub(crate) fn accept(&mut self, id: StreamId) {
        self.write(id, &answer::ok(&answer::Done {}));
    }

    /// Opens a stream with this header.
    pub(crate) fn open(&mut self, header: &[u8]) -> StreamId {
        let id = self.session.open().unwrap();
        self.forget(id);
        self.write(id, header);
        id
    }

    /// The stream that had this number in an earlier session is another one.
    fn forget(&mut self, id: StreamId) {
        self.came.remove(&id);
        self.ended.remove(&id);
        self.resets.remove(&id);
    }

    /// Writes all of it.
    pub(crate) fn write(&mut self, id: StreamId, bytes: &[u8]) {
        let mut at = 0;
        self.until("room to write", |host| {
            at += host.session.write(id, &bytes[at..]).unwrap_or(bytes.len());
            (at >= bytes.len()).then_some(())
        });
    }

    pub(crate) fn finish(&mut self, id: StreamId) {
        self.session.finish(id).unwrap();
    }

    /// The next line of a stream.
    pub(crate) fn line(&mut self, id: StreamId) -> Vec<u8> {
        self.until("a line", |host| {
            let gone = host.ended.contains(&id) || host.resets.contains_key(&id);
            let came = host.came.entry(id).or_default();
            let end = came.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
            assert!(end.is_some() || !gone, "the stream ended: {}", String::from_utf8_lossy(came));
            end.map(|end| came.drain(..end).collect())
        })
    }

    /// The answer to a header.
    pub(crate) fn answer<T: serde::de::DeserializeOwned>(&mut self, id: StreamId) -> Result<T, Refusal> {
        let line = self.line(id);
        answer::parse(&line)
    }

    /// What comes up to the end of a stream.
    pub(crate) fn rest(&mut self, id: StreamId) -> Vec<u8> {
        self.until("the end of a stream", |host| {
            let why = host.resets.get(&id);
            assert!(why.is_none() || host.ended.contains(&id), "the stream was reset: {why:?}");
            host.ended.contains(&id).then(|| host.came.remove(&id).unwrap_or_default())
        })
    }

    /// What comes until it holds this text.
    pub(crate) fn until_text(&mut self, id: StreamId, text: &str) -> String {
        let what = format!("{text:?}");
        self.until(&what, |host| {
            let came = String::from_utf8_lossy(host.came.entry(id).or_default()).into_owned();
            came.contains(text).then(|| {
                host.came.remove(&id);
                came
            })
        })
    }

    /// What has come up to now.
    pub(crate) fn take_all(&mut self, id: StreamId) -> Vec<u8> {
        self.came.remove(&id).unwrap_or_default()
    }

    /// How many bytes have come that nobody has asked for.
    pub(crate) fn waiting(&self, id: StreamId) -> usize {
        self.came.get(&id).map_or(0, Vec::len)
    }

    pub(crate) fn until_reset(&mut self, id: StreamId) -> ResetReason {
        self.until("a reset", |host| host.resets.get(&id).copied())
    }

    /// Says hello.
    pub(crate) fn hello(&mut self, secret: Option<Secret>) -> Result<Guest, Refusal> {
        let mut greeting = Greeting::new(secret, [number() as u8; 32]);
        let id = self.open(&greeting.header("test 1"));
        let line = self.line(id);
        let (guest, next) = match greeting.handle_line(&line) {
            Ok(came) => came,
            Err(refusal) => {
                self.session.reset(id).unwrap();
                return Err(refusal);
            }
        };
        if let Next::Say(proof) = next {
            self.write(id, &proof);
            let line = self.line(id);
            greeting.handle_line(&line)?;
        }
        self.finish(id);
        self.rest(id);
        Ok(guest.unwrap())
    }

    /// Says hello to a guest that has a key, and proves another one.
    pub(crate) fn hello_with_wrong_proof(&mut self) -> Refusal {
        let id = self.open(&Greeting::new(None, [1; 32]).header("test 1"));
        self.line(id);
        self.write(id, format!("{{\"proof\":\"{}\"}}\n", "00".repeat(32)).as_bytes());
        self.answer::<answer::Done>(id).unwrap_err()
    }

    /// The refusal of a header.
    pub(crate) fn refusal(&mut self, header: &Header) -> Refusal {
        let id = self.open(&header.line());
        let refusal = self.answer::<answer::Done>(id).unwrap_err();
        self.finish(id);
        self.rest(id);
        refusal
    }
}

/// Another one each time.
pub(crate) fn number() -> u32 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0) as u32 | 1
}

/// A key that no other process has.
pub(crate) fn key() -> Key {
    let mut bytes = [0; 16];
    for four in bytes.chunks_exact_mut(4) {
        four.copy_from_slice(&number().to_be_bytes());
    }
    Key::random(bytes)
}
