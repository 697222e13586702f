//! What rules say of consoles: which client port each has, what it is connected to, who may use it.
//!
//! **Owns** when a console's rule is looked for, and what is so where none says it. **Refuses to know** how a
//! rule is written and matched ([`rules`](super::super::rules)).

use std::sync::Arc;

use super::super::config::Config;
use super::super::dials::{By, DialKey};
use super::super::fanout::Stand;
use super::super::id::ConsoleId;
use super::super::label::Label;
use super::super::rules::{ConsoleRule, Pattern, RuleId, RulePort, Rules};
use super::super::target::Target;
use super::Consoles;
use crate::admin::operator::Rules as Rights;

impl Consoles {
    /// Looks for the rule of a console, which has come or is called otherwise. Returns whether it is another.
    pub(in crate::concentrator) fn find_rule(&mut self, id: ConsoleId) -> bool {
        let Some(console) = self.table.get_mut(id) else { return false };
        let mut rule = self.rules.find(&console.label);
        // A stream of a guest's is for those whom the guest's console is for, where nothing else is said.
        let is_inherited = rule == RuleId::default();
        if is_inherited && let Some(parent) = self.guests.parent(id).and_then(|parent| self.table.get(parent))
        {
            rule = parent.rule;
        }
        let Some(console) = self.table.get_mut(id) else { return false };
        let is_another = std::mem::replace(&mut console.rule, rule) != rule;
        if self.guests.parent(id).is_none() {
            self.want(id, By::Rule, self.forward_of(id));
        }
        is_another
    }

    /// A console is connected to this on that one's word, while it has a VM; `None`: to nothing.
    fn want(&mut self, id: ConsoleId, by: By, target: Option<Arc<Target>>) {
        let has_vm = self.has_vm(id);
        let Some(console) = self.table.get_mut(id) else { return };
        let starts_at = console.starts_at();
        let from = if target.is_some() { console.fanout_mut().stand_at(starts_at) } else { Stand::default() };
        self.dials.want(DialKey::Console(id, by), target, has_vm, from);
    }

    /// A console is connected to what the holder of its input has asked for, if it has. A leg that waits for
    /// its target has said what it wants.
    pub(in crate::concentrator) fn serve_wish(&mut self, id: ConsoleId) {
        if self.dials.knows_no_wish_of(id) {
            return;
        }
        if let Some(holder) = self.table.get(id).and_then(|console| console.legs.holder()) {
            self.want(id, By::Vm, self.dials.wish(holder));
        }
    }

    pub(super) fn has_vm(&self, id: ConsoleId) -> bool {
        self.table.get(id).is_some_and(|console| !console.legs.is_empty())
    }

    /// What a console is to be connected to: what its rule says, or what is so for its name or UUID.
    fn forward_of(&self, id: ConsoleId) -> Option<Arc<Target>> {
        let rule = self.rule(id);
        let is_named = self.table.get(id).is_some_and(|console| !console.label.name.is_empty());
        // What is first by its name must not be another's meanwhile.
        if !is_named
            && (self.rules.go_by_names()
                || self.forwards_by_name.iter().any(|(pattern, _)| !pattern.is_of_uuids()))
        {
            return None;
        }
        if let Some(target) = rule.and_then(|rule| rule.forward.as_ref()) {
            return Some(Arc::clone(target));
        }
        let label = &self.table.get(id).filter(|_| rule.is_none_or(|rule| rule.may.is_none()))?.label;
        let matches = |pattern: &Pattern| match pattern.is_of_uuids() {
            true => pattern.matches_uuid(label.uuid),
            false => !label.name.is_empty() && pattern.matches(&label.name),
        };
        let mut all = self.forwards_by_name.iter();
        all.find(|(pattern, _)| matches(pattern)).map(|(_, target)| Arc::clone(target))
    }

    /// Takes other rules. Returns the consoles at which something is said otherwise now; and where that is
    /// who may use it, whether it had a list of that. Costs a look at each console and each rule.
    pub(in crate::concentrator) fn change_rules(
        &mut self,
        config: &Config,
    ) -> Vec<(ConsoleId, Option<bool>)> {
        self.forwards_by_name.clone_from(&config.forwards);
        let mut had: Vec<_> = self.table.ids().into_iter().map(|id| (id, self.has_list(id))).collect();
        // Streams go by the rule of their guest's console.
        had.sort_by_key(|&(id, _)| self.guests.parent(id).is_some());
        let old = std::mem::replace(&mut self.rules, Rules::new(&config.console_rules));
        let mut changed = Vec::new();
        for (id, had_list) in had {
            let Some(was) = self.table.get(id).map(|console| console.rule) else { continue };
            self.find_rule(id);
            let (was, is) = (old.get(was), self.rule(id));
            if was != is {
                let list = |rule: Option<&'_ ConsoleRule>| rule.and_then(|rule| rule.may.clone());
                changed.push((id, (list(was) != list(is)).then_some(had_list)));
            }
        }
        changed
    }

    /// Whether a rule says who may use a console: because of what that is, not because its name is not known.
    pub(in crate::concentrator) fn has_list(&self, id: ConsoleId) -> bool {
        self.may(id).is_some() && self.table.get(id).is_some_and(|console| !console.rule.is_withheld())
    }

    /// What a console has printed until now is shown to no person that comes.
    pub(in crate::concentrator) fn hide_past(&mut self, id: ConsoleId) {
        if let Some(console) = self.table.get(id) {
            self.shown_from.insert(id, console.fanout().journal().head());
        }
    }

    /// Where that ends.
    pub(in crate::concentrator) fn shown_from(&self, id: ConsoleId) -> u64 {
        self.shown_from.get(&id).copied().unwrap_or(0)
    }

    /// Whether anything is otherwise anywhere.
    pub(in crate::concentrator) fn has_rules(&self) -> bool {
        !self.rules.is_empty() || !self.forwards_by_name.is_empty()
    }

    /// Which client port a console of this label has.
    pub(in crate::concentrator) fn port_by_rule(&self, label: &Label) -> RulePort {
        self.rules.get(self.rules.find(label)).map_or(RulePort::Any, |rule| rule.port)
    }

    /// Whether a console is a stream of a guest's that has no client port: no rule gives it one by its name.
    pub(in crate::concentrator) fn is_stream_without_port(&self, id: ConsoleId) -> bool {
        self.guests.parent(id).is_some() && !self.has_own_port(id)
    }

    /// Whether a rule gives a console a client port of its own.
    pub(in crate::concentrator) fn has_own_port(&self, id: ConsoleId) -> bool {
        let own = self.table.get(id).and_then(|console| self.rules.get(self.rules.find(&console.label)));
        own.is_some_and(|rule| rule.name.is_some() && matches!(rule.port, RulePort::This(_)))
    }

    /// What is otherwise at a console than elsewhere.
    pub(in crate::concentrator) fn rule(&self, id: ConsoleId) -> Option<&ConsoleRule> {
        self.rules.get(self.table.get(id)?.rule)
    }

    /// Who may do what at a console, where it has a list of its own.
    pub(in crate::concentrator) fn may(&self, id: ConsoleId) -> Option<&Rights> {
        self.rule(id)?.may.as_ref()
    }

    /// The same for a console that may be gone.
    pub(in crate::concentrator) fn may_of(&self, label: &Label) -> Option<&Rights> {
        let rule = match self.table.get(label.id) {
            Some(console) => console.rule,
            // What its guest's console was under is not known any more.
            None if label.of_guest && self.rules.lists().next().is_some() => RuleId::WITHHELD,
            None => self.rules.find(label),
        };
        self.rules.get(rule)?.may.as_ref()
    }

    /// Every list there is.
    pub(in crate::concentrator) fn lists(&self) -> impl Iterator<Item = &Rights> {
        self.rules.lists()
    }

    /// Every rule that has a list.
    pub(in crate::concentrator) fn listing(&self) -> impl Iterator<Item = &ConsoleRule> {
        self.rules.listing()
    }

    /// Whether any console's port depends on its name.
    pub(in crate::concentrator) fn ports_need_names(&self) -> bool {
        self.rules.ports_need_names()
    }

    /// Whether a console's port is not to be opened before its name is known.
    pub(in crate::concentrator) fn port_needs_name(&self, id: ConsoleId) -> bool {
        self.ports_need_names() && self.table.get(id).is_some_and(|console| console.label.name.is_empty())
    }
}
