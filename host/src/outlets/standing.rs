//! How a console stands: whether its VM is there, what it is called, which port it has; and what is new when
//! that changes.
//!
//! **Owns** what was told last of each console. The engine suppresses events of whoever causes too many, and
//! queues may be full; a console's newest state is never lost, so what is new is found by comparison. A VM
//! that came and went between two looks has not been there. **Refuses to know** who is told.

use std::collections::HashMap;

use vspc_core::concentrator::{Address, Concentrator, ConsoleId, ConsoleView, Label};

use super::kind::Kind;

/// How a console stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Standing {
    /// Its name, UUID and port.
    label: Label,
    /// A VM's connection feeds it, or its VM is on the way to another host.
    is_fed: bool,
    /// Its name is known, and no port of it is still being opened.
    is_whole: bool,
    /// Where the connection comes from that gets what is typed.
    from: Option<Address>,
}

/// Something new about a console.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct News {
    pub(crate) kind: Kind,
    pub(crate) label: Label,
    /// Where its VM's connection comes from, if it has one.
    pub(crate) from: Option<Address>,
    /// The name that it had.
    pub(crate) was: Option<String>,
}

impl Standing {
    /// How a console stands now; `None`: it is gone. Costs a copy of its names, and a look at each of its
    /// VM's connections.
    pub(super) fn of(engine: &Concentrator, id: ConsoleId) -> Option<Self> {
        let view: ConsoleView<'_> = engine.console(id)?;
        let is_port_coming = view.claims.is_some() && view.label.port.is_none();
        let mut legs = engine.legs(id);
        let first = legs.next();
        let holder = legs.chain(first).find(|leg| leg.holds_input).or(first);
        Some(Self {
            label: view.label.clone(),
            is_fed: view.vms > 0 || view.moving,
            is_whole: !view.label.name.is_empty() && !is_port_coming,
            from: holder.map(|leg| leg.peer.clone()),
        })
    }
}

/// What was told last of each console.
#[derive(Debug, Default)]
pub(crate) struct Standings(HashMap<ConsoleId, Known>);

#[derive(Debug)]
struct Known {
    label: Label,
    is_up: bool,
}

impl Standings {
    /// Takes this as told.
    pub(crate) fn begin(&mut self, all: Vec<(ConsoleId, Standing)>) {
        self.0 = all.into_iter().map(|(id, standing)| (id, Known::from(standing))).collect();
    }

    /// What is new now that a console stands like this, in the order in which it is to be told.
    pub(crate) fn news(&mut self, id: ConsoleId, now: Option<Standing>) -> Vec<News> {
        let before = self.0.remove(&id);
        let (old, was_up) = match &before {
            Some(known) => (Some(&known.label), known.is_up),
            None => (None, false),
        };
        let mut news = Vec::new();
        let Some(now) = now else {
            if let Some(old) = old {
                let tell = |kind| News { kind, label: old.clone(), from: None, was: None };
                news.extend(was_up.then(|| tell(Kind::VmDown)));
                news.extend(old.port.map(|_| tell(Kind::PortFreed)));
            }
            return news;
        };
        let Standing { label, is_fed, is_whole, from } = now;
        let is_up = is_fed && (was_up || is_whole);
        let tell = |kind| News { kind, label: label.clone(), from: from.clone(), was: None };
        if was_up && !is_up {
            news.push(tell(Kind::VmDown));
        }
        if let Some(old) = old.filter(|old| old.port.is_some() && old.port != label.port) {
            news.push(News { label: old.clone(), ..tell(Kind::PortFreed) });
        }
        if label.port.is_some() && old.and_then(|old| old.port) != label.port {
            news.push(tell(Kind::PortAssigned));
        }
        if let Some(old) = old.filter(|old| !old.name.is_empty() && old.name != label.name) {
            news.push(News { was: Some(old.name.clone()), ..tell(Kind::VmRenamed) });
        }
        if is_up && !was_up {
            news.push(tell(Kind::VmUp));
        }
        self.0.insert(id, Known { label, is_up });
        news
    }
}

impl From<Standing> for Known {
    fn from(Standing { label, is_fed, is_whole, .. }: Standing) -> Self {
        Self { label, is_up: is_fed && is_whole }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use vspc_core::concentrator::{Config, Identity, Reservation};
    use vspc_core::time::Instant;
    use vspc_core::vmware::Uuid;

    fn standing() -> (ConsoleId, Standing) {
        let mut engine = Concentrator::new(Arc::new(Config::default()), [1; 32], Instant::ZERO);
        let identity = Identity::of(Uuid::from_bytes([1; 16]));
        let vm = Reservation { name: "vm1".into(), ..Reservation::new(identity) };
        let id = engine.restore(vm, Instant::ZERO).unwrap();
        (id, Standing::of(&engine, id).unwrap())
    }

    #[test]
    fn what_is_new_is_told_once_and_in_order() {
        let (id, mut standing) = standing();
        let mut standings = Standings::default();
        let mut words = |standing: Option<&Standing>| -> Vec<_> {
            let news = standings.news(id, standing.cloned());
            news.into_iter()
                .map(|news| format!("{} {:?} {:?}", news.kind.word(), news.label.port, news.was))
                .collect()
        };
        assert!(words(Some(&standing)).is_empty(), "a port that is being opened is none yet");
        standing.is_fed = true;
        assert!(words(Some(&standing)).is_empty(), "a VM is told of together with its port");
        (standing.label.port, standing.is_whole) = (Some(5), true);
        assert_eq!(words(Some(&standing)), ["port-assigned Some(5) None", "vm-up Some(5) None"]);
        assert!(words(Some(&standing)).is_empty());
        standing.is_whole = false;
        assert!(words(Some(&standing)).is_empty(), "a VM that is up stays up while its port is opened anew");
        standing.label.name = "vm2".into();
        assert_eq!(words(Some(&standing)), ["vm-renamed Some(5) Some(\"vm1\")"]);
        (standing.is_fed, standing.label.port) = (false, Some(6));
        assert_eq!(
            words(Some(&standing)),
            ["vm-down Some(6) None", "port-freed Some(5) None", "port-assigned Some(6) None"]
        );
        assert_eq!(words(None), ["port-freed Some(6) None"]);
        assert!(words(None).is_empty());
    }

    #[test]
    fn who_comes_late_is_told_what_changes_from_then_on() {
        let (id, mut standing) = standing();
        (standing.is_fed, standing.is_whole, standing.label.port) = (true, true, Some(5));
        let mut standings = Standings::default();
        standings.begin(vec![(id, standing.clone())]);
        assert!(standings.news(id, Some(standing.clone())).is_empty());
        standing.is_fed = false;
        let news: Vec<_> = standings.news(id, Some(standing)).into_iter().map(|news| news.kind).collect();
        assert_eq!(news, [Kind::VmDown]);
    }
}
