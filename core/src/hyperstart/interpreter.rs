//! hyperstart as an agent: speaks its two channels on one side, and on the other what an agent in a VM
//! speaks, S2 with [APPLICATION](../mux/APPLICATION.md) on its streams.
//!
//! ```text
//!   concentrator ══ S2 ══▶ agent ─▶ tasks ─▶ control ══ commands, answers ══▶ hyperstart
//!                ◀════════       ◀─       ◀─ streams ══ v1's messages ══════▶
//! ```
//!
//! Whoever knows agents need know nothing of hyperstart. Owns the three ends, and when there is an agent:
//! once the guest has answered on both channels, until one of them is gone or it begins anew. Refuses to know
//! sockets, and who opens streams.

use std::io::IoSlice;
use std::time::Duration;

use super::command::{Command, KILL, ProcessName};
use super::control::{Control, ControlEvent, WhyDown};
use super::task::BUFFER;
use super::tasks::{Ends, Tasks};
use crate::mux::{Config, Dialect, Event, Overflow, Role, Session, V1Config};
use crate::time::Instant;

/// What an interpreter is given when it is made: numbers that nobody can foresee.
#[derive(Clone, Copy, Debug)]
pub struct InterpreterConfig {
    /// Tells this start from others.
    pub nonce: u32,
    /// Keys hashes of what others choose.
    pub seed: [u64; 2],
    /// From here on processes and their streams are numbered: what ran before this start may run on, with
    /// numbers of its own.
    pub first_id: u64,
}

/// One guest. Both of its channels are closed at first.
#[derive(Debug)]
pub struct Interpreter {
    config: InterpreterConfig,
    control: Control,
    streams: Session,
    has_streams: bool,
    /// The channel of streams is one: the guest has answered there as such guests do.
    is_found: bool,
    /// Towards the concentrator, while there is an agent.
    agent: Option<Box<Session>>,
    tasks: Tasks,
    /// What was begun for others and may run on, until the guest has been told to kill it.
    orphans: Vec<(ProcessName, bool)>,
    ended: Option<String>,
    /// A stream that is not read keeps all others waiting; it was counted against that one until then.
    blocked_at: Option<Instant>,
}

impl Interpreter {
    /// Neither channel is there yet.
    #[must_use]
    pub fn new(config: InterpreterConfig, now: Instant) -> Self {
        let streams = Session::new(streams_config(config), now).expect("a test makes one");
        Self {
            config,
            control: Control::default(),
            streams,
            has_streams: false,
            is_found: false,
            agent: None,
            tasks: Tasks::default(),
            orphans: Vec::new(),
            ended: None,
            blocked_at: None,
        }
    }

    /// The channel of streams is there.
    pub fn handle_streams_opened(&mut self, now: Instant) {
        if !std::mem::replace(&mut self.has_streams, true) {
            if self.streams.is_closed() {
                // Somebody else was there, who has ended it.
                self.config.first_id += NEXT_IDS;
                self.streams = Session::new(streams_config(self.config), now).expect("a test makes one");
            }
            self.streams.line_reopened(now);
            self.settle(now);
        }
    }

    /// It is gone, and what was under way on it.
    pub fn handle_streams_closed(&mut self, now: Instant) {
        if std::mem::replace(&mut self.has_streams, false) {
            self.is_found = false;
            self.end("its channel of streams is gone", false);
            self.streams.line_reopened(now);
            self.settle(now);
        }
    }

    /// The control channel is there.
    pub fn handle_control_opened(&mut self, now: Instant) {
        self.control.handle_opened(now);
        self.settle(now);
    }

    /// It is gone, and what was under way on it.
    pub fn handle_control_closed(&mut self, now: Instant) {
        self.control.handle_closed();
        self.settle(now);
    }

    /// Bytes came on the channel of streams; no more than [`Self::receive_window`].
    pub fn handle_streams(&mut self, data: &[u8], now: Instant) {
        if self.has_streams {
            self.streams.handle_received(data, now);
            self.settle(now);
        }
    }

    /// Bytes came on the control channel.
    pub fn handle_control(&mut self, data: &[u8], now: Instant) {
        self.control.handle_received(data, now);
        self.settle(now);
    }

    /// Bytes came from the concentrator.
    pub fn handle_agent(&mut self, data: &[u8], now: Instant) {
        if let Some(agent) = &mut self.agent {
            agent.handle_received(data, now);
            self.settle(now);
        }
    }

    /// How much may be read of the channel of streams; 0: a stream that is not read keeps all others waiting.
    /// Its reader is dropped after two seconds, or when it makes less of each two seconds than is fair.
    #[must_use]
    pub fn receive_window(&self) -> usize {
        if self.blocked_at.is_some() { 0 } else { usize::MAX }
    }

    /// Gives what goes to the channel of streams next to `take`, as [`Session::transmit_with`] does.
    pub fn transmit_streams(&mut self, now: Instant, take: impl FnOnce(&[IoSlice<'_>]) -> usize) -> usize {
        if self.has_streams { self.streams.transmit_with(now, take) } else { 0 }
    }

    /// Gives what goes to the control channel next to `take`, as [`Control::transmit_with`] does.
    pub fn transmit_control(&mut self, take: impl FnOnce(&[u8]) -> usize) -> usize {
        self.control.transmit_with(take)
    }

    /// Gives what goes to the concentrator next to `take`.
    pub fn transmit_agent(&mut self, now: Instant, take: impl FnOnce(&[IoSlice<'_>]) -> usize) -> usize {
        self.agent.as_mut().map_or(0, |agent| agent.transmit_with(now, take))
    }

    /// A deadline may have passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.control.handle_timeout(now);
        if self.has_streams {
            self.streams.handle_timeout(now);
        }
        if let Some(agent) = &mut self.agent {
            agent.handle_timeout(now);
        }
        self.with_ends(now, Tasks::handle_timeout);
        self.count_blocked(now);
        self.with_ends(now, Tasks::drop_stalled);
        self.settle(now);
    }

    /// When [`Self::handle_timeout`] is to be called at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let streams = self.has_streams.then(|| self.streams.poll_timeout()).flatten();
        let agent = self.agent.as_ref().and_then(|agent| agent.poll_timeout());
        let stalled = self.blocked_at.and_then(|at| Some(at + self.tasks.patience(&self.streams)?));
        [self.control.poll_timeout(), streams, agent, self.tasks.poll_timeout(), stalled]
            .into_iter()
            .flatten()
            .min()
    }

    /// Whether there is an agent now.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        self.agent.is_some()
    }

    /// Why there was none at some time since this was asked last; for people. There may be another one again.
    pub fn take_ended(&mut self) -> Option<String> {
        self.ended.take()
    }

    /// The control channel.
    #[must_use]
    pub const fn control(&self) -> &Control {
        &self.control
    }

    /// Bytes of heap held.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.control.memory()
            + self.streams.memory()
            + self.tasks.memory()
            + self.agent.as_ref().map_or(0, |agent| size_of::<Session>() + agent.memory())
    }

    /// Does what comes of all that has happened.
    fn settle(&mut self, now: Instant) {
        self.count_blocked(now);
        loop {
            let mut any = false;
            while let Some(event) = self.control.poll_event() {
                self.hear_control(event, now);
                any = true;
            }
            while let Some(event) = self.streams.poll_event() {
                self.hear_streams(event, now);
                any = true;
            }
            self.begin_if_there(now);
            while let Some(event) = self.agent.as_mut().and_then(|agent| agent.poll_event()) {
                self.hear_agent(event, now);
                any = true;
            }
            if !any {
                break;
            }
        }
        self.blocked_at = self.streams.is_blocked().then_some(now);
    }

    /// Those who keep all others waiting have done so until now.
    fn count_blocked(&mut self, now: Instant) {
        if let Some(at) = &mut self.blocked_at {
            let time = now.duration_since(std::mem::replace(at, now));
            self.tasks.count_blocked(&self.streams, time);
        }
    }

    fn hear_control(&mut self, event: ControlEvent, now: Instant) {
        match event {
            ControlEvent::Up(_) => {}
            ControlEvent::Answered { ticket, is_done, words } => {
                self.with_ends(now, |tasks, ends| tasks.handle_answer(ticket, is_done, &words, ends));
            }
            ControlEvent::Finished(finished) => {
                self.with_ends(now, |tasks, ends| tasks.handle_finished(&finished, ends));
            }
            ControlEvent::Down(why) => {
                let (words, is_its_fault) = match why {
                    WhyDown::Closed => ("its control channel is gone".to_owned(), false),
                    WhyDown::Restarted => ("it has begun anew".to_owned(), false),
                    WhyDown::Version(number) => {
                        (format!("it has API {number}, which is not spoken here"), true)
                    }
                    WhyDown::NoMessage => ("what came on its control channel is no message".to_owned(), true),
                };
                self.end(&words, is_its_fault);
                if why == WhyDown::Restarted {
                    self.orphans.clear();
                    // It has lost what it was sent of a message, and what it sends begins with one.
                    self.is_found = false;
                    self.streams.line_reopened(now);
                }
            }
        }
    }

    fn hear_streams(&mut self, event: Event, now: Instant) {
        match event {
            Event::Started(terms) | Event::Restarted(terms) => {
                self.is_found = terms.dialect == Dialect::V1;
                if !self.is_found {
                    self.ended = Some("it speaks S2: its line is one with mux=s2".to_owned());
                }
            }
            Event::Readable(id) => self.with_ends(now, |tasks, ends| tasks.handle_guest_readable(id, ends)),
            Event::Writable(id) | Event::Credit(id) => {
                self.with_ends(now, |tasks, ends| tasks.handle_guest_writable(id, ends));
            }
            Event::Exited(id, status) => {
                self.with_ends(now, |tasks, ends| tasks.handle_guest_exited(id, status, ends));
            }
            _ => {}
        }
    }

    fn hear_agent(&mut self, event: Event, now: Instant) {
        match event {
            Event::Opened(id) => self.tasks.handle_opened(id),
            Event::Readable(id) => self.with_ends(now, |tasks, ends| tasks.handle_agent_readable(id, ends)),
            Event::Writable(id) | Event::Credit(id) => {
                self.with_ends(now, |tasks, ends| tasks.handle_agent_writable(id, ends));
            }
            Event::Reset(id, _) => self.with_ends(now, |tasks, ends| tasks.handle_gone(id, false, ends)),
            Event::Retired(id) => self.with_ends(now, |tasks, ends| tasks.handle_gone(id, true, ends)),
            _ => {}
        }
    }

    /// Both channels have answered: there is an agent.
    fn begin_if_there(&mut self, now: Instant) {
        let Some(api) = self.control.api() else { return };
        if self.agent.is_none() && self.is_found && self.has_streams {
            self.streams.set_v1_api(api.number());
            let config = Config {
                nonce: self.config.nonce,
                seed: self.config.seed,
                window: BUFFER,
                receive_buffer: BUFFER,
                send_buffer: BUFFER,
                ..Config::new(Role::Guest)
            };
            self.agent = Some(Box::new(Session::new(config, now).expect("a test makes one")));
        }
        // That needs no streams.
        self.orphans.retain(|(name, is_init)| {
            let kill = Command::signal(name, KILL, *is_init, api);
            kill.is_some_and(|kill| self.control.ask(kill).is_err())
        });
    }

    /// There is no agent; also told if there was none, where it is the guest's fault.
    fn end(&mut self, why: &str, is_its_fault: bool) {
        if self.agent.take().is_some() || is_its_fault {
            self.ended = Some(why.to_owned());
        }
        self.orphans.append(&mut self.tasks.end_all(&mut self.streams));
    }

    /// While there is an agent.
    fn with_ends(&mut self, now: Instant, act: impl FnOnce(&mut Tasks, &mut Ends<'_>)) {
        if let (Some(api), Some(agent)) = (self.control.api(), &mut self.agent) {
            let (control, guest) = (&mut self.control, &mut self.streams);
            act(&mut self.tasks, &mut Ends { api, control, guest, agent, now });
        }
    }
}

/// The channel of streams, found by HELLO: what such a guest answers to it says where its messages begin.
fn streams_config(config: InterpreterConfig) -> Config {
    Config {
        nonce: config.nonce,
        seed: config.seed,
        first_id: config.first_id,
        max_peer_streams: 0,
        receive_buffer: BUFFER,
        send_buffer: 4096,
        // Tasks know when a process may be sent more: by the guest's answers, not by the time.
        v1: V1Config {
            overflow: Overflow::Wait,
            stdin_burst: u16::MAX,
            stdin_pause: Duration::ZERO,
            ..V1Config::new()
        },
        ..Config::new(Role::Host)
    }
}

/// Numbers of streams that one session may have used.
const NEXT_IDS: u64 = 1 << 32;
