//! A serial port of this machine that is a line (`tty:`, `/dev/…`).
//!
//! **Owns** the device while the line lasts: nobody else may have it, it is raw, and how it was set before is
//! put back at the end. A device that vanishes ends the line. **Refuses to know** who sets it.
//!
//! The engine knows serial ports that are elsewhere, behind an access server that speaks telnet with RFC
//! 2217. A thread is that access server for the device, at the other end of a pair of sockets: settings, a
//! BREAK and the modem's signals need no way of their own, and the loops no device, which would be of
//! another kind than all that they have. It costs a copy of each byte, of which there are few on a serial
//! line.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;
use rustix::termios::{
    ControlModes, OptionalActions, Termios, ioctl_tiocexcl, ioctl_tiocnxcl, tcgetattr, tcsetattr,
};
use serial2::SerialPort;
use socket2::Socket;
use vspc_core::telnet::com_port::{Asked, CARRIER, CLEAR_TO_SEND, DATA_SET_READY, Line, Session};
use vspc_core::telnet::{
    Change, Command, Decoder, Item, Negotiator, Opt, OptionPolicy, Side, Verb, escape_into, fold,
    put_negotiation,
};

use super::pending::{Pending, Step};
use super::tty_settings;

/// A serial port that is a line.
#[derive(Debug)]
pub(super) struct Tty {
    device: Device,
    line: UnixStream,
    /// From the loop, not read yet: no more than one read brings.
    said: Pending,
    /// For the device.
    typed: Pending,
    /// For the loop, in telnet.
    printed: Pending,
    decoder: Decoder,
    negotiator: Negotiator,
    after_cr: bool,
    /// Once COM-PORT is on.
    session: Option<Session>,
    settings: Line,
    /// A break lasts until then, and what was typed behind it waits.
    break_until: Option<Instant>,
    /// When the device has sent what it was given, as far as its speed tells.
    sent_by: Instant,
    /// A command that waits for that: it is not for what was typed before it.
    waiting: Option<Heard>,
    /// When the modem's signals are looked at next.
    look_at: Instant,
}

/// What the loop has said, but for data.
#[derive(Debug)]
enum Heard {
    Nothing,
    Command(Command),
    Negotiation(Verb, Opt),
    Order(Vec<u8>),
}

impl Tty {
    /// Opens the device at this path. Returns the loop's end of its line as well, which does not block.
    pub(super) fn open(path: &str) -> io::Result<(Self, Socket)> {
        let device = Device::open(path)?;
        let settings = tty_settings::read(&tcgetattr(&device.port)?, Line::default());
        let (loops, line) = UnixStream::pair()?;
        loops.set_nonblocking(true)?;
        line.set_nonblocking(true)?;
        let tty = Self {
            device,
            line,
            said: Pending::default(),
            typed: Pending::default(),
            printed: Pending::default(),
            decoder: Decoder::new(),
            negotiator: Negotiator::new(POLICY),
            after_cr: false,
            session: None,
            settings,
            break_until: None,
            sent_by: Instant::now(),
            waiting: None,
            look_at: Instant::now(),
        };
        Ok((tty, Socket::from(OwnedFd::from(loops))))
    }

    /// Carries bytes until the loop closes the line, or the device is gone.
    pub(super) fn carry(mut self) -> io::Result<()> {
        loop {
            let now = Instant::now();
            if self.break_until.is_some_and(|until| until <= now) {
                self.break_until = None;
                let _ = self.device.port.set_break(false);
            }
            self.hear();
            self.look(now);
            match self.exchange() {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                // What reading and writing say where it has gone meanwhile.
                Err(error) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => return Err(gone()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits until something can be read or written, and does that. Returns whether the loop still has the
    /// line.
    fn exchange(&mut self) -> io::Result<bool> {
        let events = |reads: bool, writes: bool| match (reads, writes) {
            (true, true) => PollFlags::IN | PollFlags::OUT,
            (true, false) => PollFlags::IN,
            (false, true) => PollFlags::OUT,
            (false, false) => PollFlags::empty(),
        };
        let may_print = self.printed.is_empty() && self.may_print();
        let mut polled = [
            PollFd::new(&self.line, events(self.said.is_empty(), !self.printed.is_empty())),
            PollFd::new(&self.device.port, events(may_print, !self.typed.is_empty())),
        ];
        let looks = self.session.is_some().then_some(self.look_at);
        let sent = self.waiting.is_some().then_some(self.sent_by);
        let until = self.break_until.into_iter().chain(looks).chain(sent).min();
        let wait =
            until.map(|until| until.saturating_duration_since(Instant::now()) + Duration::from_micros(999));
        let wait = wait.and_then(|wait| Timespec::try_from(wait).ok());
        match poll(&mut polled, wait.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let [line, device] = polled.map(|polled| polled.revents());
        let ends = PollFlags::HUP | PollFlags::ERR;
        if device.contains(PollFlags::IN) {
            let mut bytes = Pending::default();
            match bytes.read(&self.device.port)? {
                Step::Ended => return Err(gone()),
                Step::NotNow | Step::Done => escape_into(bytes.rest(), self.printed.buffer()),
            }
        } else if device.intersects(ends) {
            return Err(gone());
        }
        if device.contains(PollFlags::OUT) {
            let before = self.typed.rest().len();
            self.typed.write(&self.device.port)?;
            let written = before - self.typed.rest().len();
            let begun = self.sent_by.max(Instant::now());
            self.sent_by = begun + tty_settings::time_for(written, &self.settings);
        }
        // An error here is an end: nobody reads or writes there any more.
        if line.contains(PollFlags::OUT) && self.printed.write(&self.line).is_err() {
            return Ok(false);
        }
        if line.contains(PollFlags::IN) {
            return Ok(self.said.read(&self.line).is_ok_and(|step| step != Step::Ended));
        }
        Ok(!line.intersects(ends))
    }

    /// What is printed can be told from what it would become without BINARY, and is asked for.
    fn may_print(&self) -> bool {
        self.negotiator.is_on(Side::Us, Opt::BINARY)
            && !self.session.is_some_and(|session| session.is_suspended())
    }

    /// Takes in what the loop has said, up to what has to wait: what is typed behind a break, or behind more
    /// than the device takes.
    fn hear(&mut self) {
        self.carry_out_waiting();
        while self.typed.is_empty()
            && self.break_until.is_none()
            && self.waiting.is_none()
            && self.printed.rest().len() < MOST_ANSWERS
            && !self.said.is_empty()
        {
            let is_binary = self.negotiator.is_on(Side::Him, Opt::BINARY);
            let mut rest = self.said.rest();
            let all = rest.len();
            let heard = match self.decoder.decode(&mut rest) {
                Some(Item::Data(bytes)) if is_binary => {
                    self.typed.buffer().extend_from_slice(bytes);
                    Heard::Nothing
                }
                Some(Item::Data(mut bytes)) => {
                    while let Some(slice) = fold(&mut self.after_cr, &mut bytes, false) {
                        self.typed.buffer().extend_from_slice(slice);
                    }
                    Heard::Nothing
                }
                Some(Item::Command(command)) => Heard::Command(command),
                Some(Item::Negotiation(verb, opt)) => Heard::Negotiation(verb, opt),
                Some(Item::Subnegotiation(Opt::COM_PORT, body)) => Heard::Order(body.to_vec()),
                Some(Item::Subnegotiation(..) | Item::Malformed(_)) | None => Heard::Nothing,
            };
            let taken = all - rest.len();
            self.said.take(taken);
            match heard {
                Heard::Negotiation(verb, opt) => self.negotiate(verb, opt),
                Heard::Nothing => {}
                // It takes away what is not sent.
                Heard::Order(body) if body.first() == Some(&PURGE) => self.obey(&body),
                heard => {
                    self.waiting = Some(heard);
                    self.carry_out_waiting();
                }
            }
        }
    }

    /// Carries out the command that waits, once the device has sent what was typed before it.
    fn carry_out_waiting(&mut self) {
        // One that is held up by its flow control may take for ever.
        if self.sent_by.saturating_duration_since(Instant::now()) > LONGEST_WAIT {
            self.sent_by = Instant::now() + LONGEST_WAIT;
        }
        match self.waiting.take_if(|_| self.sent_by <= Instant::now()) {
            Some(Heard::Command(Command::BRK)) if self.device.port.set_break(true).is_ok() => {
                self.break_until = Some(Instant::now() + BREAK);
            }
            Some(Heard::Order(body)) => self.obey(&body),
            _ => {}
        }
    }

    fn negotiate(&mut self, verb: Verb, opt: Opt) {
        let outcome = self.negotiator.handle(verb, opt);
        if let Some((verb, opt)) = outcome.send {
            put_negotiation(verb, opt, self.printed.buffer());
        }
        if let Some(Change { side: Side::Him, opt: Opt::COM_PORT, on }) = outcome.change {
            self.session = on.then(Session::default);
            self.look_at = Instant::now();
        }
    }

    /// Carries out a command of RFC 2217, and answers with what holds after it.
    fn obey(&mut self, body: &[u8]) {
        let Some(session) = &mut self.session else { return };
        let (mut wanted, mut answer) = (self.settings, Vec::new());
        let asked = session.handle(body, &mut wanted, SIGNATURE, &mut answer);
        if wanted != self.settings {
            self.settings = self.device.set(self.settings, wanted);
            if self.settings != wanted {
                answer.clear();
                let mut holds = self.settings;
                let _ = session.handle(&question(body), &mut holds, SIGNATURE, &mut answer);
            }
        }
        self.printed.buffer().append(&mut answer);
        match asked {
            Ok(Some(Asked::Break)) => drop(self.device.port.set_break(true)),
            Ok(Some(Asked::Purge { received, unsent })) => {
                if received {
                    let _ = self.device.port.discard_input_buffer();
                }
                if unsent {
                    self.typed.clear();
                    let _ = self.device.port.discard_output_buffer();
                }
            }
            _ if body == BREAK_OFF => drop(self.device.port.set_break(false)),
            _ => {}
        }
    }

    /// Looks at the modem's signals, if it is time, and tells what has changed.
    fn look(&mut self, now: Instant) {
        if let Some(session) = &mut self.session
            && self.look_at <= now
        {
            self.look_at = now + LOOK_EVERY;
            let mut told = Vec::new();
            session.tell_modem(self.device.signals(), &mut told);
            self.printed.buffer().append(&mut told);
        }
    }
}

/// A serial device, which nobody else has.
#[derive(Debug)]
struct Device {
    port: SerialPort,
    before: Termios,
}

impl Device {
    fn open(path: &str) -> io::Result<Self> {
        let flags = OFlags::NOCTTY | OFlags::NONBLOCK;
        let file: File =
            OpenOptions::new().read(true).write(true).custom_flags(flags.bits().cast_signed()).open(path)?;
        // The one is for programs that look for it, and for root; the other for all others.
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => {
                return Err(io::Error::new(ErrorKind::ResourceBusy, "another program has it"));
            }
            outcome => outcome?,
        }
        let before = tcgetattr(&file)?;
        ioctl_tiocexcl(&file)?;
        let device = Self { port: SerialPort::from(OwnedFd::from(file)), before };
        let mut raw = device.before.clone();
        raw.make_raw();
        // Data size and parity go with that, which are a port's: what nobody sets stays. XON/XOFF does not: a
        // terminal has it unless somebody took it away, and two bytes are none on such a line.
        let port = ControlModes::CSIZE | ControlModes::PARENB | ControlModes::PARODD | ControlModes::CMSPAR;
        raw.control_modes = (raw.control_modes - port) | (device.before.control_modes & port);
        // It is read whatever the modem says, and no program's end is another's hangup.
        raw.control_modes.insert(ControlModes::CLOCAL | ControlModes::CREAD);
        tcsetattr(&device.port, OptionalActions::Now, &raw)?;
        Ok(device)
    }

    /// Sets what differs between these two. Returns what holds then.
    fn set(&self, before: Line, wanted: Line) -> Line {
        let mut holds = before;
        if wanted.dtr != before.dtr && self.port.set_dtr(wanted.dtr).is_ok() {
            holds.dtr = wanted.dtr;
        }
        if wanted.rts != before.rts && self.port.set_rts(wanted.rts).is_ok() {
            holds.rts = wanted.rts;
        }
        let set = tcgetattr(&self.port).and_then(|mut termios| {
            if tty_settings::write(&before, &wanted, &mut termios).is_ok() {
                // It may do some of it and not the rest: what holds is read.
                let _ = tcsetattr(&self.port, OptionalActions::Now, &termios);
            }
            tcgetattr(&self.port)
        });
        set.map_or(holds, |termios| tty_settings::read(&termios, holds))
    }

    /// The modem's signals. A device that has none is there, and takes what it is given.
    fn signals(&self) -> u8 {
        let port = &self.port;
        let all = [
            (port.read_cd(), CARRIER),
            (port.read_ri(), RING),
            (port.read_dsr(), DATA_SET_READY),
            (port.read_cts(), CLEAR_TO_SEND),
        ];
        if all.iter().any(|(signal, _)| signal.is_err()) {
            return CARRIER | DATA_SET_READY | CLEAR_TO_SEND;
        }
        all.iter().map(|(signal, bit)| if matches!(signal, Ok(true)) { *bit } else { 0 }).sum()
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // Without that, closing would wait half a minute for one that holds its output up.
        let _ = self.port.discard_output_buffer();
        let _ = self.port.set_break(false);
        let _ = tcsetattr(&self.port, OptionalActions::Now, &self.before);
        let _ = ioctl_tiocnxcl(&self.port);
    }
}

fn gone() -> io::Error {
    io::Error::new(ErrorKind::NotConnected, "the device is gone")
}

/// A command that asks for what another sets.
fn question(body: &[u8]) -> Vec<u8> {
    match *body {
        [CONTROL, value] => vec![
            CONTROL,
            match value {
                4..=6 => 4,
                7..=9 => 7,
                10..=12 => 10,
                13..=16 | 18 => 13,
                _ => 0,
            },
        ],
        [code, ref value @ ..] => [&[code], &vec![0; value.len()][..]].concat(),
        [] => Vec::new(),
    }
}

/// What the loop may have us do, and have done to it.
const POLICY: &[OptionPolicy] = &[
    OptionPolicy { opt: Opt::BINARY, us: true, him: true },
    OptionPolicy { opt: Opt::SGA, us: true, him: true },
    OptionPolicy { opt: Opt::COM_PORT, us: false, him: true },
];

const SIGNATURE: &str = "vspc";

/// PURGE-DATA (RFC 2217).
const PURGE: u8 = 12;

/// SET-CONTROL, and with it the end of a break (RFC 2217).
const CONTROL: u8 = 5;
const BREAK_OFF: &[u8] = &[CONTROL, 6];

/// Ring indicator, in the modem's state.
const RING: u8 = 0x40;

/// How long a BREAK lasts that has no length of its own.
const BREAK: Duration = Duration::from_millis(250);

/// No command waits longer for what was typed before it to be sent.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// How often the modem's signals are looked at. To be told of them by the kernel takes a thread of its own.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// More answers than that wait for the loop, before more is asked.
const MOST_ANSWERS: usize = 16 << 10;
