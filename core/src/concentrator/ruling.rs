//! What is so at a console: what its rule says, or what is so everywhere; and what somebody may do there.

use crate::admin::operator::{Listing, Listings, Right, Rules};

use super::Concentrator;
use super::config::SlowClient;
use super::conn::Role;
use super::dials::{By, DialKey};
use super::id::{ConnId, ConsoleId};
use super::label::Label;
use super::rules::Pattern;
use super::standing::older_right_at;

impl Concentrator {
    /// Clients of this console are raw from their first byte on.
    pub(super) fn is_raw_at(&self, at: ConsoleId) -> bool {
        self.consoles.rule(at).and_then(|rule| rule.raw).unwrap_or(self.config.raw_ports)
    }

    /// What happens to a client of this console that does not keep up.
    pub(super) fn slow_client_at(&self, at: ConsoleId) -> SlowClient {
        self.consoles.rule(at).and_then(|rule| rule.slow_client).unwrap_or(self.config.slow_client)
    }

    /// How many clients this console may have.
    pub(super) fn max_clients_at(&self, at: ConsoleId) -> Option<usize> {
        self.consoles.rule(at).and_then(|rule| rule.max_clients).unwrap_or(self.config.max_clients)
    }

    /// What a connection may do at a console. Whoever is at its client port may write, where it has one.
    /// Costs a look at each rule of its list.
    pub(super) fn right_at(&self, id: ConnId, at: ConsoleId) -> Right {
        self.right_by(id, self.consoles.may(at))
    }

    fn right_by(&self, id: ConnId, list: Option<&Rules>) -> Right {
        let rules = &self.config.admin_rights;
        match self.conns.get(id).map(|conn| &conn.role) {
            Some(Role::Operator(desk)) => desk.standing.right_at(list),
            Some(Role::Asking(asking)) => older_right_at(&asking.standing.caller, rules, list),
            Some(Role::Attach(attach)) => self.right_by(attach.operator, list),
            // Whoever configured the server has decided that it connects there.
            Some(Role::Client(client)) if client.forward.is_some() => match client.forward {
                Some(DialKey::Console(_, By::Vm)) if list.is_some() => Right::None,
                _ => Right::Writer,
            },
            Some(Role::Client(client)) => match &client.visit.caller {
                Some(caller) => older_right_at(caller, rules, list),
                None if list.is_some() => Right::None,
                None => Right::Writer,
            },
            Some(Role::Arriving(_)) if list.is_none() => Right::Writer,
            Some(
                Role::Vm(_) | Role::Local(_) | Role::Arriving(_) | Role::Announced(_) | Role::Dialled(_),
            )
            | None => Right::None,
        }
    }

    /// Whether somebody who asks may know of a console.
    pub(super) fn sees(&self, id: ConnId, at: ConsoleId) -> bool {
        self.right_at(id, at) > Right::None
    }

    /// The same for a console that may be gone; `None`: of what is about no console.
    pub(super) fn hears_of(&self, id: ConnId, label: Option<&Label>) -> bool {
        self.right_by(id, label.and_then(|label| self.consoles.may_of(label))) > Right::None
    }

    /// Of how many consoles somebody who asks may know. Costs a look at each, where any has a list.
    pub(super) fn count_seen(&self, id: ConnId) -> usize {
        match self.consoles.lists().next() {
            None => self.consoles.len(),
            Some(_) => self.consoles.iter().filter(|console| self.sees(id, console.id())).count(),
        }
    }

    /// Whether somebody who asks may know of every console that there is and may come.
    pub(super) fn sees_all(&self, id: ConnId) -> bool {
        self.right_anywhere(id) == Right::Operator || self.consoles.lists().next().is_none()
    }

    /// Where an operator's connection may do what a list of consoles says; an operator of the whole server
    /// is in need of none. Costs a look at each rule of each list.
    pub(super) fn lists_of(&self, id: ConnId) -> Listings {
        if self.sees_all(id) {
            return Listings::default();
        }
        let text = |pattern: &Option<Pattern>| pattern.as_ref().map(Pattern::to_string);
        Listings::new(self.consoles.listing().filter_map(|rule| {
            let right = self.right_by(id, rule.may.as_ref());
            let rights = (right > Right::None).then(|| right.name().to_owned())?;
            Some(Listing { name: text(&rule.name), uuid: text(&rule.uuid), rights })
        }))
    }

    /// What a connection may do where no list says otherwise.
    pub(super) fn right_anywhere(&self, id: ConnId) -> Right {
        self.right_by(id, None)
    }

    /// The most that an operator's connection may do: everywhere, or at any console. Costs a look at each
    /// rule of each list.
    pub(super) fn most_right(&self, id: ConnId) -> Right {
        let listed = self.consoles.lists().map(|list| self.right_by(id, Some(list)));
        listed.fold(self.right_anywhere(id), Right::max)
    }
}
