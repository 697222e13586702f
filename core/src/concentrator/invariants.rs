//! What must agree with what, looked at after calls in debug builds. A test that drives the engine may ask
//! for it after every one.

use super::Concentrator;
use super::carried::Carried;
use super::conn::{Closing, Place, Role};
use super::timers::Timer;
use super::vmotion::MoveState;

impl Concentrator {
    /// Fails where relations that are kept twice do not agree. Costs a look at everything; only in debug
    /// builds.
    pub fn check_invariants(&self) {
        self.consoles.check_invariants();
        assert!(self.opened.is_empty(), "something that TLS has opened went to nobody");
        for (id, conn) in self.conns.iter() {
            if conn.closing == Some(Closing::Farewell) {
                continue;
            }
            if let Some((at, stream)) = conn.stream() {
                let carried = self.consoles.guests.get(at).and_then(|guest| guest.carried(stream));
                let is_its = matches!(carried, Some(Carried::Leg { conn, .. }) if *conn == id);
                assert!(is_its, "{id} is no stream of the guest at {at}");
            }
            if let Role::Attach(attach) = &conn.role {
                let operator = self.conns.get(attach.operator);
                let is_its = operator.is_some_and(|conn| match (conn.desk(), conn.kit()) {
                    (Some(desk), _) => desk.attached(attach.stream) == Some(id),
                    (None, kit) => kit.is_some_and(|kit| kit.attach == Some(id)),
                });
                assert!(is_its, "{id} is an attach of nobody's");
            }
            match &conn.role {
                Role::Vm(vm) => {
                    if let Place::Console(at) = vm.place {
                        let console = self.consoles.get(at).expect("a VM feeds a console that is gone");
                        assert!(console.legs.read().any(|leg| leg == id), "{id} has no leg of {at}");
                    }
                    if let Some(moved) = vm.moving.and_then(|moving| self.moves.get(moving)) {
                        assert!(
                            moved.source == Some(id) || moved.target == Some(id),
                            "{id} has no part in its move"
                        );
                    }
                    assert!(
                        vm.place != Place::Target || vm.moving.is_some(),
                        "{id} is the target of nothing"
                    );
                }
                Role::Client(_) | Role::Local(_) | Role::Attach(_) => {
                    let (at, seat) = conn.seat().expect("a reader has a seat");
                    let console = self.consoles.get(at).expect("a reader's console is gone");
                    let sits = console.fanout().readers().any(|(its, key, _)| its == seat && key.id == id);
                    assert!(sits, "{id} does not sit where it thinks");
                }
                Role::Operator(desk) => {
                    for attach in desk.attaches() {
                        let is_its = self.conns.get(attach).is_some_and(
                            |conn| matches!(&conn.role, Role::Attach(attach) if attach.operator == id),
                        );
                        assert!(is_its, "{attach} is no attach of {id}");
                    }
                }
                Role::Asking(asking) => {
                    let attach = asking.kit().and_then(|kit| kit.attach);
                    let is_gone = attach.is_some_and(|attach| self.conns.get(attach).is_none());
                    assert!(!is_gone, "{id} is connected to a port that is gone");
                }
                Role::Arriving(_) | Role::Announced(_) | Role::Dialled(_) => {}
            }
        }
        for (id, moved) in self.moves.iter() {
            let state = moved.state();
            assert!(state != MoveState::Over, "{id:?} is over and kept");
            let has_source =
                matches!(state, MoveState::Begun | MoveState::Away | MoveState::Peered | MoveState::Adopting);
            assert!(!has_source || moved.source.is_some(), "{id:?} has lost its source in {state:?}");
            let has_target =
                matches!(state, MoveState::Peered | MoveState::PeeredOrphan | MoveState::Adopting);
            assert_eq!(has_target, moved.target.is_some(), "{id:?} in {state:?}");
            for part in [moved.source, moved.target].into_iter().flatten() {
                assert!(self.conns.get(part).is_some(), "{id:?} has a part that is gone");
            }
        }
        for console in self.consoles.iter() {
            for id in console.legs.read() {
                assert!(self.conns.get(id).is_some(), "a leg of {} is gone", console.label);
            }
            assert!(
                !console.is_unused() || self.fx.timers.is_set(Timer::Expire(console.id())),
                "{} is unused and never expires",
                console.label
            );
        }
        for timer in self.fx.timers.armed() {
            let is_alive = match timer {
                Timer::Ask(id)
                | Timer::Header(id)
                | Timer::Tls(id)
                | Timer::Identify(id)
                | Timer::Admin(id)
                | Timer::Connect(id)
                | Timer::Decide(id)
                | Timer::Linger(id)
                | Timer::HalfClosed(id)
                | Timer::Source(id) => self.conns.get(id).is_some(),
                Timer::Goahead(id) | Timer::Move(id) | Timer::Quiet(id) => self.moves.get(id).is_some(),
                Timer::Expire(id)
                | Timer::Takeover(id)
                | Timer::Inherit(id)
                | Timer::Legs(id)
                | Timer::Wait(id)
                | Timer::Guest(id) => self.consoles.get(id).is_some(),
                Timer::Break(id) | Timer::Answers(id) => self.remote_ports.is_set_by_us(id),
                Timer::Ports | Timer::Dial | Timer::Summary => true,
            };
            assert!(is_alive, "{timer:?} is armed for something that is gone");
        }
    }

    /// Looks at everything as often as costs about as much as the calls themselves.
    pub(super) fn check_now_and_then(&mut self) {
        if self.until_check == 0 {
            self.check_invariants();
            self.until_check = self.conns.len() + self.consoles.len();
        } else {
            self.until_check -= 1;
        }
    }
}
