//! A VM whose port moves between two hosts, and the lines that go both ways meanwhile.
//!
//! **Owns** the proof: a line that is lost, doubled, cut or out of its turn is told of once, and ends the
//! check.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use vspc_core::vmware::{Resume, VmConfig, VmEvent, VmSession};

use super::spaces::{Space, Spaces};
use crate::load::LoadError;
use crate::load::link::{ANSWERS, numbered_vm};
use crate::load::stats::Samples;

/// Where a host's VMs connect.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// From within the host's namespace.
    Tcp(std::net::SocketAddr),
    Unix(std::path::PathBuf),
}

/// A connection of either kind.
#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// The VM.
#[derive(Debug)]
pub(super) struct Guest {
    number: usize,
    /// Where it connects on each host.
    places: Vec<Place>,
    host: usize,
    leg: Leg,
    printed: u64,
    heard: Lines,
    sequence: u32,
    pub(super) goahead: Samples,
    pub(super) still: Samples,
    /// Bytes that came to a connection that had no right to them.
    pub(super) misdirected: usize,
}

#[derive(Debug)]
struct Leg {
    stream: Stream,
    session: VmSession,
    typed: Vec<u8>,
}

/// Numbered lines as they come in.
#[derive(Debug, Default)]
pub(super) struct Lines {
    next: u64,
    begun: Vec<u8>,
    /// The first that is not the one whose turn it is.
    pub(super) wrong: Option<String>,
}

impl Lines {
    pub(super) fn line(number: u64) -> String {
        format!("line {number:012}\n")
    }

    fn take(&mut self, bytes: &[u8]) {
        self.begun.extend_from_slice(bytes);
        let length = Self::line(0).len();
        let whole = self.begun.len() / length * length;
        for line in self.begun[..whole].chunks(length) {
            if self.wrong.is_none() && line != Self::line(self.next).as_bytes() {
                self.wrong = Some(format!(
                    "{:?} instead of {:?}",
                    String::from_utf8_lossy(line),
                    Self::line(self.next)
                ));
            }
            self.next += 1;
        }
        self.begun.drain(..whole);
    }

    pub(super) const fn count(&self) -> u64 {
        self.next
    }
}

impl Guest {
    /// Connects on the first host, and introduces itself.
    pub(super) fn start(number: usize, places: Vec<Place>, spaces: &Spaces) -> Result<Self, LoadError> {
        let mut leg = Leg::open(&places[0], 0, spaces, numbered_vm(number))?;
        leg.wait_for(|event| matches!(event, VmEvent::ProxyAgreed).then_some(()))?;
        Ok(Self {
            number,
            places,
            host: 0,
            leg,
            printed: 0,
            heard: Lines::default(),
            sequence: u32::MAX,
            goahead: Samples::default(),
            still: Samples::default(),
            misdirected: 0,
        })
    }

    /// Prints something that is no line, for the client to count from.
    pub(super) fn say(&mut self, words: &[u8]) -> Result<(), LoadError> {
        self.leg.session.print(words);
        self.leg.flush()
    }

    pub(super) fn print_lines(&mut self, count: u64) -> Result<(), LoadError> {
        for number in self.printed..self.printed + count {
            self.leg.session.print(Lines::line(number).as_bytes());
        }
        self.printed += count;
        self.leg.flush()
    }

    /// How many lines it has printed.
    pub(super) const fn printed(&self) -> u64 {
        self.printed
    }

    pub(super) const fn heard(&self) -> &Lines {
        &self.heard
    }

    /// Reads what is typed for so long at most, or until that many lines are in.
    pub(super) fn listen(&mut self, patience: Duration, lines: u64) -> Result<(), LoadError> {
        let until = Instant::now() + patience;
        loop {
            self.heard.take(&std::mem::take(&mut self.leg.typed));
            if self.heard.count() >= lines || Instant::now() >= until {
                return Ok(());
            }
            self.leg.receive()?;
        }
    }

    /// Moves to the other host: it prints to its last moment there and at once here.
    pub(super) fn migrate(&mut self, spaces: &Spaces) -> Result<(), LoadError> {
        self.print_lines(LINES)?;
        self.sequence = self.sequence.wrapping_mul(0x0019_660D).wrapping_add(0x3C6E_F35F);
        let begun = Instant::now();
        self.leg.session.begin(&self.sequence.to_be_bytes());
        self.leg.flush()?;
        let resume = self.leg.wait_for(|event| match event {
            VmEvent::Goahead { sequence, secret } => Some(Resume { sequence, secret }),
            _ => None,
        })?;
        self.goahead.push(begun.elapsed());
        self.heard.take(&std::mem::take(&mut self.leg.typed));
        self.host = (self.host + 1) % self.places.len();
        let config = VmConfig { resume: Some(resume), ..numbered_vm(self.number) };
        let mut target = Leg::open(&self.places[self.host], self.host, spaces, config)?;
        target.wait_for(|event| matches!(event, VmEvent::PeerOk { .. }).then_some(()))?;
        let mut source = std::mem::replace(&mut self.leg, target);
        self.leg.session.complete();
        self.leg.flush()?;
        self.still.push(begun.elapsed());
        self.print_lines(LINES)?;
        source.stream.set_patience(Duration::from_millis(1)).map_err(|error| failed(&error))?;
        source.receive()?;
        self.misdirected += source.typed.len();
        Ok(())
    }
}

impl Leg {
    fn open(place: &Place, host: usize, spaces: &Spaces, config: VmConfig) -> Result<Self, LoadError> {
        let stream = match place {
            Place::Tcp(at) => {
                let stream = spaces.within(Space::Host(host), || TcpStream::connect(at));
                let stream = stream.and_then(|stream| stream).map_err(|error| failed(&error))?;
                stream.set_nodelay(true).map_err(|error| failed(&error))?;
                Stream::Tcp(stream)
            }
            Place::Unix(path) => Stream::Unix(UnixStream::connect(path).map_err(|error| failed(&error))?),
        };
        stream.set_patience(LOOK).map_err(|error| failed(&error))?;
        Ok(Self { stream, session: VmSession::new(config), typed: Vec::new() })
    }

    fn flush(&mut self) -> Result<(), LoadError> {
        self.stream.write_all(self.session.pending()).map_err(|error| failed(&error))?;
        self.session.transmit(<[u8]>::len);
        Ok(())
    }

    /// Reads once, and answers.
    fn receive(&mut self) -> Result<(), LoadError> {
        let mut buffer = [0; 16 << 10];
        match self.stream.read(&mut buffer) {
            Ok(0) => return Err(LoadError::Violation("a VM's connection has ended".to_owned())),
            Ok(n) => self.session.handle_received(&buffer[..n], &mut self.typed),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(failed(&error)),
        }
        self.flush()
    }

    fn wait_for<T>(&mut self, mut wanted: impl FnMut(VmEvent) -> Option<T>) -> Result<T, LoadError> {
        let until = Instant::now() + PATIENCE;
        loop {
            while let Some(event) = self.session.poll_event() {
                if let Some(found) = wanted(event) {
                    return Ok(found);
                }
            }
            if Instant::now() > until {
                return Err(LoadError::Violation("the server does not answer a VM's host".to_owned()));
            }
            self.receive()?;
        }
    }
}

impl Stream {
    fn set_patience(&self, patience: Duration) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_read_timeout(Some(patience)),
            Self::Unix(stream) => stream.set_read_timeout(Some(patience)),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A client that types numbered lines, and reads those of its VM.
#[derive(Debug)]
pub(super) struct Client {
    stream: TcpStream,
    /// What came before the word.
    seen: Vec<u8>,
    lines: Lines,
}

impl Client {
    /// Attaches. The VM says a word then that [`meet`](Self::meet) waits for.
    pub(super) fn attach(at: std::net::SocketAddr) -> io::Result<Self> {
        let until = Instant::now() + PATIENCE;
        // A client port opens a moment after its VM is served.
        let mut stream = loop {
            match TcpStream::connect(at) {
                Ok(stream) => break stream,
                Err(error) if Instant::now() > until => return Err(error),
                Err(_) => std::thread::yield_now(),
            }
        };
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LOOK))?;
        stream.write_all(&ANSWERS)?;
        Ok(Self { stream, seen: Vec::new(), lines: Lines::default() })
    }

    /// Reads up to the word, if it comes in a moment.
    pub(super) fn has_met(&mut self, word: &[u8]) -> io::Result<bool> {
        let mut buffer = [0; 16 << 10];
        match self.stream.read(&mut buffer) {
            Ok(n) => self.seen.extend_from_slice(&buffer[..n]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
        let Some(at) = memchr::memmem::find(&self.seen, word) else { return Ok(false) };
        self.lines.take(&self.seen[at + word.len()..]);
        Ok(true)
    }

    /// Types until `is_over`, and reads until so many lines have come as `printed` says then. Returns how
    /// many lines it has typed, and those that it has read.
    pub(super) fn talk(
        self,
        is_over: &AtomicBool,
        printed: &AtomicU64,
        typed: &AtomicU64,
    ) -> io::Result<Lines> {
        let Self { mut stream, mut lines, .. } = self;
        let mut writer = stream.try_clone()?;
        let mut next = Instant::now();
        let mut buffer = [0; 64 << 10];
        stream.set_read_timeout(Some(Duration::from_millis(1)))?;
        let mut until = None;
        loop {
            if !is_over.load(Ordering::Acquire) && Instant::now() >= next {
                next = Instant::now() + TYPE_EVERY;
                let number = typed.fetch_add(1, Ordering::AcqRel);
                writer.write_all(Lines::line(number).as_bytes())?;
            }
            match stream.read(&mut buffer) {
                Ok(0) => {
                    return Err(io::Error::new(ErrorKind::UnexpectedEof, "a client's connection has ended"));
                }
                Ok(n) => lines.take(&buffer[..n]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => return Err(error),
            }
            if is_over.load(Ordering::Acquire) {
                let until = *until.get_or_insert_with(|| Instant::now() + PATIENCE);
                if lines.count() >= printed.load(Ordering::Acquire) || Instant::now() >= until {
                    return Ok(lines);
                }
            }
        }
    }
}

/// What a client and its VM share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) is_over: AtomicBool,
    pub(super) printed: AtomicU64,
    pub(super) typed: AtomicU64,
}

impl Shared {
    pub(super) fn new() -> Arc<Self> {
        let shared = Self::default();
        // Nobody knows yet how many there will be.
        shared.printed.store(u64::MAX, Ordering::Release);
        Arc::new(shared)
    }
}

fn failed(error: &io::Error) -> LoadError {
    LoadError::Violation(format!("a VM's connection: {error}"))
}

/// Lines that a VM prints right before a move and right behind it.
const LINES: u64 = 3;

const TYPE_EVERY: Duration = Duration::from_millis(2);

const LOOK: Duration = Duration::from_millis(20);

const PATIENCE: Duration = Duration::from_secs(10);
