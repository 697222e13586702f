//! One end of a real line: the host opens streams and verifies what comes back, the guest echoes every
//! stream.
//!
//! Owns two descriptors and a loop around `poll`. Try another implementation by giving it the other end: as a
//! program (`-- COMMAND`, on a socket or with `--pty` on a terminal), on a unix socket, or on standard input
//! and output.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant as Clock};

use clap::{Args, ValueEnum};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::json;
use vspc_core::mux::link::{Link, LinkEvent, carry};
use vspc_core::mux::{Event, Received, Role, Session, StreamId};
use vspc_core::time::Instant;

use super::{LinkChoice, byte_at, session_config};

/// Where the other end is, and what to do with it.
#[derive(Args, Debug)]
pub struct PeerArgs {
    /// Which end to be: the host opens streams and verifies, the guest echoes until the line closes.
    #[arg(long, value_enum, default_value = "host")]
    role: RoleChoice,
    /// The line is standard input and output.
    #[arg(long, group = "line")]
    stdio: bool,
    /// Connect to a unix socket.
    #[arg(long, value_name = "PATH", group = "line")]
    unix: Option<PathBuf>,
    /// Listen on a unix socket, for one connection.
    #[arg(long, value_name = "PATH", group = "line")]
    listen: Option<PathBuf>,
    /// A pseudo-terminal in raw mode: its name is printed, or the command gets it as standard input and
    /// output.
    #[arg(long)]
    pty: bool,
    /// The layer under the streams.
    #[arg(long, value_enum, default_value = "none")]
    link: LinkChoice,
    /// Streams to open (host).
    #[arg(long, default_value_t = 3)]
    streams: usize,
    /// Bytes to send, and to get back, on each (host).
    #[arg(long, default_value_t = 100_000)]
    bytes: u64,
    /// Largest DATA payload.
    #[arg(long, default_value_t = 4096)]
    max_frame: u16,
    /// Bytes per stream under way.
    #[arg(long, default_value_t = 65536)]
    window: u32,
    /// Seconds without progress after which to give up.
    #[arg(long, default_value_t = 10)]
    patience: u64,
    /// The result as JSON, on standard error with --stdio.
    #[arg(long)]
    json: bool,
    /// A program to be the other end, on its standard input and output.
    #[arg(last = true, group = "line")]
    command: Vec<OsString>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum RoleChoice {
    Host,
    Guest,
}

struct Ends {
    read: File,
    write: File,
    child: Option<Child>,
}

pub(super) fn run(args: &PeerArgs) -> ExitCode {
    match connect(args).map_err(|error| error.to_string()).and_then(|ends| converse(args, ends)) {
        Ok((bytes, seconds)) => {
            let report = if args.json {
                json!({ "ok": true, "bytes": bytes, "seconds": seconds }).to_string()
            } else {
                format!("{bytes} bytes verified both ways in {seconds:.3} s")
            };
            say(args, &report);
            ExitCode::SUCCESS
        }
        Err(error) => {
            if args.json {
                say(args, &json!({ "ok": false, "error": error }).to_string());
            }
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Standard output may be the line.
fn say(args: &PeerArgs, text: &str) {
    if args.stdio {
        eprintln!("{text}");
    } else {
        println!("{text}");
    }
}

fn connect(args: &PeerArgs) -> io::Result<Ends> {
    let both = |fd: OwnedFd, child| -> io::Result<Ends> {
        Ok(Ends { read: fd.try_clone()?.into(), write: fd.into(), child })
    };
    if args.pty {
        return pty(args);
    }
    if let Some(path) = &args.unix {
        return both(UnixStream::connect(path)?.into(), None);
    }
    if let Some(path) = &args.listen {
        return both(UnixListener::bind(path)?.accept()?.0.into(), None);
    }
    if !args.command.is_empty() {
        let (ours, theirs) = UnixStream::pair()?;
        let child = spawn(&args.command, theirs.into())?;
        return both(ours.into(), Some(child));
    }
    if !args.stdio {
        let what = "where is the other end? --stdio, --unix, --listen, --pty or -- COMMAND";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    let read = io::stdin().as_fd().try_clone_to_owned()?.into();
    let write = io::stdout().as_fd().try_clone_to_owned()?.into();
    Ok(Ends { read, write, child: None })
}

fn spawn(command: &[OsString], line: OwnedFd) -> io::Result<Child> {
    Command::new(&command[0])
        .args(&command[1..])
        .stdin(Stdio::from(line.try_clone()?))
        .stdout(Stdio::from(line))
        .spawn()
}

fn pty(args: &PeerArgs) -> io::Result<Ends> {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

    let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
    grantpt(&controller)?;
    unlockpt(&controller)?;
    let name = ptsname(&controller, Vec::new())?.into_string().map_err(io::Error::other)?;
    let line: OwnedFd = File::options().read(true).write(true).open(&name)?.into();
    let mut modes = tcgetattr(&line)?;
    modes.make_raw();
    tcsetattr(&line, OptionalActions::Now, &modes)?;
    let child = if args.command.is_empty() {
        println!("{name}");
        // Held open, or reading fails until somebody opens it.
        std::mem::forget(line);
        None
    } else {
        Some(spawn(&args.command, line)?)
    };
    Ok(Ends { read: controller.try_clone()?.into(), write: controller.into(), child })
}

/// One stream as this side knows it.
struct Flow {
    id: StreamId,
    written: u64,
    read: u64,
    ended: bool,
}

struct Peer<'a> {
    args: &'a PeerArgs,
    session: Session,
    link: Option<Link>,
    flows: Vec<Flow>,
    start: Clock,
    /// Payload bytes verified.
    verified: u64,
}

fn converse(args: &PeerArgs, mut ends: Ends) -> Result<(u64, f64), String> {
    let plain = |error: io::Error| error.to_string();
    let nonblocking = rustix::fs::OFlags::NONBLOCK;
    for file in [&ends.read, &ends.write] {
        let flags = rustix::fs::fcntl_getfl(file).map_err(|error| error.to_string())?;
        rustix::fs::fcntl_setfl(file, flags | nonblocking).map_err(|error| error.to_string())?;
    }
    let role = if args.role == RoleChoice::Host { Role::Host } else { Role::Guest };
    let start = Clock::now();
    let session = Session::new(session_config(role, args.max_frame, args.window), Instant::from_micros(0))
        .map_err(|error| error.to_string())?;
    let nonce = std::process::id() ^ start.elapsed().subsec_nanos();
    let mut link = args.link.config(nonce, 0, 256, 16).map(Link::new);
    if let Some(link) = &mut link
        && role == Role::Host
    {
        link.open(Instant::from_micros(0));
    }
    let mut peer = Peer { args, session, link, flows: Vec::new(), start, verified: 0 };
    let outcome = peer.run(role, &mut ends).map_err(plain);
    if let Some(mut child) = ends.child.take() {
        drop((ends.read, ends.write));
        let _ = child.kill();
        let _ = child.wait();
    }
    match outcome? {
        Some(error) => Err(error),
        None => Ok((peer.verified, start.elapsed().as_secs_f64())),
    }
}

impl Peer<'_> {
    fn now(&self) -> Instant {
        Instant::from_micros(u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// Until the host has verified everything or the guest's line closes. `Some`: what went wrong.
    fn run(&mut self, role: Role, ends: &mut Ends) -> io::Result<Option<String>> {
        if role == Role::Host {
            for _ in 0..self.args.streams {
                match self.session.open() {
                    Ok(id) => self.flows.push(Flow { id, written: 0, read: 0, ended: false }),
                    Err(error) => return Ok(Some(error.to_string())),
                }
            }
        }
        let mut scratch = vec![0; 65536];
        // Only verified payload is progress: HELLO and PING go on for ever.
        let mut progress = (self.verified, Clock::now());
        let mut saying_goodbye = false;
        loop {
            let now = self.now();
            self.session.handle_timeout(now);
            if let Some(link) = &mut self.link {
                link.handle_timeout(now);
            }
            if let Some(error) = self.events(role) {
                return Ok(Some(error));
            }
            if let Err(error) = self.move_bytes(role) {
                return Ok(Some(error));
            }
            let done = role == Role::Host && self.flows.iter().all(|flow| flow.ended);
            if done && !saying_goodbye {
                saying_goodbye = true;
                self.session.close();
            }
            self.send(&mut ends.write)?;
            if done && !self.has_output() {
                return Ok(None);
            }
            if self.verified > progress.0 {
                progress = (self.verified, Clock::now());
            } else if progress.1.elapsed() > Duration::from_secs(self.args.patience) {
                let at: Vec<_> = self.flows.iter().map(|flow| (flow.id, flow.read)).collect();
                return Ok(Some(format!("no progress for {} s, at {at:?}", self.args.patience)));
            }
            let mut want = PollFlags::empty();
            if self.window() > 0 {
                want |= PollFlags::IN;
            }
            let output = if self.has_output() { PollFlags::OUT } else { PollFlags::empty() };
            let wait = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
            let mut fds = [PollFd::new(&ends.read, want), PollFd::new(&ends.write, output)];
            poll(&mut fds, Some(&wait))?;
            let readable = fds[0].revents().intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR);
            if readable && self.window() > 0 {
                let room = self.window().min(scratch.len());
                match ends.read.read(&mut scratch[..room]) {
                    Ok(0) if role == Role::Guest => return Ok(None),
                    Ok(0) => return Ok(Some("the line closed".into())),
                    Ok(n) => self.hear(&scratch[..n]),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    // A terminal whose other side is gone says so like this.
                    Err(error) if role == Role::Guest && error.raw_os_error() == Some(5) => return Ok(None),
                    Err(error) => return Err(error),
                }
            }
        }
    }

    fn window(&self) -> usize {
        if self.link.is_some() { 65536 } else { self.session.receive_window() }
    }

    fn has_output(&self) -> bool {
        match &self.link {
            Some(link) => link.has_output() || self.session.has_output(),
            None => self.session.has_output(),
        }
    }

    fn hear(&mut self, bytes: &[u8]) {
        let now = self.now();
        match &mut self.link {
            Some(link) => {
                link.handle_received(bytes, now);
                carry(&mut self.session, link, now);
            }
            None => self.session.handle_received(bytes, now),
        }
    }

    fn send(&mut self, write: &mut File) -> io::Result<()> {
        let now = self.now();
        loop {
            let mut outcome = Ok(0);
            match &mut self.link {
                Some(link) => {
                    carry(&mut self.session, link, now);
                    link.transmit_with(now, |frame| {
                        outcome = write.write(frame);
                        *outcome.as_ref().unwrap_or(&0)
                    });
                }
                None => {
                    self.session.transmit_with(now, |runs| {
                        outcome = write.write_vectored(runs);
                        *outcome.as_ref().unwrap_or(&0)
                    });
                }
            }
            match outcome {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn events(&mut self, role: Role) -> Option<String> {
        while let Some(event) = self.link.as_mut().and_then(Link::poll_event) {
            if matches!(event, LinkEvent::Closed(_) | LinkEvent::Restarted) {
                return Some(format!("the link ended: {event:?}"));
            }
        }
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::Opened(id) if role == Role::Guest => {
                    self.flows.push(Flow { id, written: 0, read: 0, ended: false });
                }
                Event::Retired(id) if role == Role::Guest => self.flows.retain(|flow| flow.id != id),
                Event::Retired(id) => {
                    for flow in self.flows.iter_mut().filter(|flow| flow.id == id) {
                        flow.ended = true;
                        if flow.read != self.args.bytes {
                            return Some(format!(
                                "stream {id} ended at {} of {}",
                                flow.read, self.args.bytes
                            ));
                        }
                    }
                }
                Event::Reset(id, _) if role == Role::Guest => self.flows.retain(|flow| flow.id != id),
                Event::Reset(id, reason) if !self.flows.iter().all(|flow| flow.ended) => {
                    return Some(format!("stream {id} was reset: {reason:?}"));
                }
                Event::Closed(reason) if !self.flows.iter().all(|flow| flow.ended) => {
                    return Some(format!("the session ended: {reason:?}"));
                }
                _ => {}
            }
        }
        None
    }

    fn move_bytes(&mut self, role: Role) -> Result<(), String> {
        let session = &mut self.session;
        for flow in &mut self.flows {
            let id = flow.id;
            if role == Role::Host {
                let n = (session.send_window(id) as u64).min(self.args.bytes - flow.written);
                let bytes: Vec<u8> = (0..n).map(|i| byte_at(id.0, true, flow.written + i)).collect();
                flow.written += session.write(id, &bytes).unwrap_or(0) as u64;
                if flow.written == self.args.bytes {
                    let _ = session.finish(id);
                }
            }
            while let Ok(received) = session.received(id) {
                let bytes = match received {
                    Received::Bytes(bytes) => bytes.to_vec(),
                    Received::Pending => break,
                    Received::End => {
                        if role == Role::Guest {
                            let _ = session.finish(id);
                        } else if flow.read != self.args.bytes {
                            return Err(format!("stream {id} ended at {} of {}", flow.read, self.args.bytes));
                        }
                        flow.ended = true;
                        break;
                    }
                };
                let n = if role == Role::Guest {
                    session.write(id, &bytes).unwrap_or(0)
                } else {
                    for (i, byte) in bytes.iter().enumerate() {
                        let at = flow.read + i as u64;
                        if *byte != byte_at(id.0, true, at) {
                            return Err(format!("stream {id}: wrong byte {byte:#04x} at {at}"));
                        }
                    }
                    bytes.len()
                };
                if n == 0 {
                    break;
                }
                flow.read += n as u64;
                self.verified += n as u64;
                session.consume(id, n).map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    }
}
