//! Attaches of operators' connections (operator.md §6): asked for, refused, typed on.

use serde_json::{Value, json};

use crate::admin::lock::{Access, Granted, LockMode, LockRefused};
use crate::admin::operator::{self, Code, Failure, Mode, Place, Right};

use super::Concentrator;
use super::client::type_at;
use super::conn::{Conn, Role};
use super::fanout::Form;
use super::id::{ConnId, ConsoleId};
use super::visits::typing_window;

impl Concentrator {
    pub(super) fn attach_as_asked(
        &mut self,
        id: ConnId,
        at: ConsoleId,
        stream: u64,
        lock: Option<Mode>,
        scrollback: u64,
        from: Option<Place>,
    ) -> Result<Value, Failure> {
        let right = self.right_at(id, at);
        let default = if right >= Right::Writer { operator::ATTACH_DEFAULT } else { Mode::ReadOnly };
        let mode = lock.unwrap_or(default);
        if mode != Mode::ReadOnly && right < Right::Writer {
            return Err(Failure::needs(Right::Writer));
        }
        let Some(desk) = self.conns.get(id).and_then(Conn::desk) else { return Ok(json!({})) };
        desk.check_free(stream)?;
        if self.is_full(at) {
            let message = "the console has as many clients as it may have (--max-clients)";
            return Err(Failure::new(Code::TooMany, message));
        }
        let scrollback = match from {
            None => scrollback,
            Some(place) => self.back_to(at, &place).ok_or_else(|| {
                Failure::new(Code::Gone, "what was printed since then is not all kept, or counted anew")
            })?,
        };
        let (attach, granted) = self
            .attach_stream(id, stream, at, lock_mode(mode), scrollback, Form::Guest)
            .map_err(|why| self.locked(Some(at), None, why))?;
        let offset = self
            .conns
            .get(attach)
            .and_then(Conn::seat)
            .and_then(|(at, seat)| Some(self.consoles.get(at)?.fanout().position(seat).0));
        Ok(json!({
            "console": self.describe(at),
            "access": access(granted),
            "lock": mode_of(granted.applied),
            "epoch": self.epoch_of(at),
            "offset": offset,
        }))
    }

    /// How far back a place is, in bytes as they are kept; `None`: not all since then is kept.
    fn back_to(&mut self, at: ConsoleId, place: &Place) -> Option<u64> {
        if place.epoch != self.epoch_of(at) {
            return None;
        }
        let shown_from = self.consoles.shown_from(at);
        let fanout = self.consoles.get_mut(at)?.fanout_mut();
        let oldest = fanout.oldest_guest();
        let journal = fanout.journal();
        let guest = place.offset.checked_sub(oldest)?;
        if place.offset > journal.guest_head() {
            return None;
        }
        let from = journal.advance_guest(journal.tail(), usize::try_from(guest).ok()?);
        (from >= shown_from).then(|| journal.head() - from)
    }

    pub(super) fn attach_of(&self, id: ConnId, stream: u64) -> Result<ConnId, Failure> {
        let attached = self.conns.get(id).and_then(Conn::desk).and_then(|desk| desk.attached(stream));
        attached.ok_or_else(|| {
            Failure::new(Code::NoSuchStream, format!("nothing is attached to stream {stream}"))
        })
    }

    /// Why a lock was not to be had.
    pub(super) fn locked(&self, at: Option<ConsoleId>, asker: Option<ConnId>, why: LockRefused) -> Failure {
        let in_the_way = || {
            let lock = self.consoles.get(at?)?.lock();
            let holder = lock.holder().map(|(holder, _)| holder);
            let all = holder.into_iter().chain(lock.writers()).chain(lock.spectators());
            Some(self.who(all.into_iter().find(|&id| Some(id) != asker)?).into())
        };
        let by = in_the_way();
        Failure { by, ..Failure::new(Code::Locked, why.to_string()) }
    }

    /// Types what has come on an attach's stream, as far as its console has room for it.
    pub(super) fn take_typed(&mut self, attach: ConnId) {
        let Self { conns, consoles, config, fx, .. } = self;
        let Some(Role::Attach(attached)) = conns.get(attach).map(|conn| &conn.role) else { return };
        let (operator, stream) = (attached.operator, attached.stream);
        let Some((conn, typist)) = conns.get_two_mut(operator, attach) else { return };
        if conn.kit().is_some() {
            return fx.outbox.receive(operator);
        }
        let Some(desk) = conn.desk_mut() else { return };
        let (mut typed, mut resized) = (Vec::new(), None);
        let ignores = config.ports_ignore_locks;
        loop {
            let window = typing_window(attach, typist, consoles, true, ignores);
            typed.clear();
            if window == 0 || desk.take_typed(stream, window, |bytes| typed.extend_from_slice(bytes)) == 0 {
                break;
            }
            let settles =
                type_at(attach, typist, consoles, (&typed, typed.len()), ignores, fx, |uplink, buffers| {
                    uplink.push_guest(&typed, buffers);
                });
            resized = settles.or(resized);
        }
        fx.outbox.transmit(operator);
        if let Some(at) = resized {
            self.settle_size(at);
        }
    }
}

pub(super) fn lock_mode(mode: Mode) -> LockMode {
    match mode {
        Mode::ReadOnly => LockMode::Readonly,
        Mode::FreeForAll => LockMode::FreeForAll,
        Mode::FreeForAllFallback => LockMode::FreeForAllOrReadonly,
        Mode::Write => LockMode::Write,
        Mode::Exclusive => LockMode::Exclusive,
    }
}

pub(super) fn mode_of(lock: LockMode) -> Mode {
    match lock {
        LockMode::Readonly => Mode::ReadOnly,
        LockMode::FreeForAll => Mode::FreeForAll,
        LockMode::FreeForAllOrReadonly => Mode::FreeForAllFallback,
        LockMode::Write => Mode::Write,
        LockMode::Exclusive => Mode::Exclusive,
    }
}

pub(super) fn access(granted: Granted) -> operator::Access {
    match granted.access {
        Access::Writer => operator::Access::Write,
        Access::Spectator => operator::Access::Read,
    }
}
