//! What is under way: processes, copies, connections, logs and facts, each with its streams and descriptors.
//!
//! Owns what the loop needs to know of any of them. Refuses to know how streams are opened.

use std::os::fd::BorrowedFd;

use rustix::event::PollFlags;
use vspc_core::mux::{ResetReason, Session, StreamId};
use vspc_core::time::Instant;

use crate::connection::Connection;
use crate::copy::{GetTask, PutTask};
use crate::facts::FactTask;
use crate::follow::Log;
use crate::process::Process;

/// Descriptors, and what to wait for on them.
pub(crate) type Interest<'a> = Vec<(BorrowedFd<'a>, PollFlags)>;

/// What a task works with.
#[derive(Debug)]
pub(crate) struct Ctx<'a> {
    pub(crate) session: &'a mut Session,
    pub(crate) scratch: &'a mut [u8],
    pub(crate) now: Instant,
}

/// Whether a task goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    Stays,
    Over,
}

/// One of them.
#[derive(Debug)]
pub(crate) enum Task {
    Process(Box<Process>),
    Put(Box<PutTask>),
    Get(Box<GetTask>),
    Connection(Connection),
    Log(Log),
    Facts(Box<FactTask>),
}

impl Task {
    /// Does what can be done now, for a while.
    pub(crate) fn step(&mut self, ctx: &mut Ctx<'_>) -> Fate {
        match self {
            Self::Process(process) => process.step(ctx),
            Self::Put(put) => put.step(ctx),
            Self::Get(get) => get.step(ctx),
            Self::Connection(connection) => connection.step(ctx),
            Self::Log(log) => log.step(ctx),
            Self::Facts(facts) => facts.step(ctx),
        }
    }

    /// What it waits for, besides its streams.
    pub(crate) fn interest<'a>(&'a self, session: &Session, into: &mut Interest<'a>) {
        match self {
            Self::Process(process) => process.interest(session, into),
            Self::Connection(connection) => connection.interest(session, into),
            Self::Put(put) => put.interest(into),
            Self::Get(_) | Self::Log(_) | Self::Facts(_) => {}
        }
    }

    /// When it is to be stepped at the latest.
    pub(crate) fn deadline(&self, session: &Session) -> Option<Instant> {
        let at_once = |is_busy: bool| is_busy.then_some(Instant::ZERO);
        match self {
            Self::Process(process) => process.deadline(),
            Self::Put(put) => at_once(put.is_busy()),
            Self::Get(get) => at_once(get.is_busy(session)),
            Self::Connection(connection) => connection.deadline(),
            Self::Log(log) => log.deadline(session),
            Self::Facts(_) => None,
        }
    }

    /// One of its streams has ended in both directions: its number is another stream's in the next session.
    pub(crate) fn handle_retired(&mut self, id: StreamId) {
        match self {
            Self::Process(process) => process.handle_retired(id),
            Self::Log(log) => log.detach(),
            Self::Facts(facts) => facts.detach(),
            Self::Put(_) | Self::Get(_) | Self::Connection(_) => {}
        }
    }

    /// One of its streams is gone; what is only there for the stream is over.
    pub(crate) fn handle_reset(&mut self, id: StreamId, why: ResetReason, ctx: &mut Ctx<'_>) -> Fate {
        match self {
            Self::Process(process) => process.handle_reset(id, why, ctx),
            Self::Put(_) | Self::Get(_) => return Fate::Over,
            Self::Connection(connection) => {
                connection.abort();
                return Fate::Over;
            }
            Self::Log(log) => log.detach(),
            Self::Facts(facts) => facts.detach(),
        }
        Fate::Stays
    }
}
