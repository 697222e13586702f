//! What is otherwise for some consoles (configuration.md §4): `[[console]]`.
//!
//! **Owns** what of it is the host's business, and which rule decides that: the first that matches, all of
//! it, as in the engine. **Refuses to know** how it is done.

use vspc_core::admin::operator::Rules as Rights;
use vspc_core::concentrator::{ConsoleRule, Label, Pattern};

/// One rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Rule {
    /// Whom it is about, and what the engine has to do with it: the same for each pattern.
    pub(crate) engines: Vec<ConsoleRule>,
    /// Whether what they print is kept in a log, where there are logs.
    pub(crate) log: Option<bool>,
    /// Whether each serial port of these VMs is a console of its own: of a rule that goes by UUIDs alone.
    pub(crate) multi: Option<bool>,
}

/// All of them, in their order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Rules(pub(crate) Vec<Rule>);

impl Rules {
    /// Whether a console is logged. A stream of an agent's in a VM is where a rule says so.
    pub(crate) fn logs(&self, label: &Label) -> bool {
        let rule = self.0.iter().find(|rule| rule.engines.iter().any(|rule| rule.matches(label)));
        rule.and_then(|rule| rule.log).unwrap_or(!label.of_guest)
    }

    /// Whether that depends on what a console is called.
    pub(crate) fn choose_logs(&self) -> bool {
        self.0.iter().any(|rule| rule.log == Some(false))
    }

    /// Who may use consoles, where a rule says that.
    pub(crate) fn lists(&self) -> impl Iterator<Item = &Rights> {
        self.0.iter().filter_map(|rule| rule.engines.first()?.may.as_ref())
    }

    /// Of which UUIDs serial ports are told apart, and of which not.
    pub(crate) fn multi_consoles(&self) -> Vec<(Pattern, bool)> {
        let said = self.0.iter().filter_map(|rule| Some((rule, rule.multi?)));
        let each = said.flat_map(|(rule, on)| {
            rule.engines.iter().filter_map(move |engine| Some((engine.uuid.clone()?, on)))
        });
        each.collect()
    }

    /// What the engine has to do.
    pub(crate) fn engines(&self) -> Vec<ConsoleRule> {
        self.0.iter().flat_map(|rule| rule.engines.iter().cloned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outlets::tests::label;

    fn rules(rules: &[(&str, Option<bool>)]) -> Rules {
        let rule = |&(name, log): &(&str, Option<bool>)| {
            let engines = ConsoleRule { name: Some(name.parse().unwrap()), ..ConsoleRule::default() };
            Rule { engines: vec![engines], log, multi: None }
        };
        Rules(rules.iter().map(rule).collect())
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let vm1 = label();
        for (given, is_logged) in [
            (&[][..], true),
            (&[("vm1", None)], true),
            (&[("vm2", Some(false))], true),
            (&[("vm*", Some(false))], false),
            (&[("vm1", Some(true)), ("*", Some(false))], true),
            (&[("vm1", None), ("*", Some(false))], true),
        ] {
            assert_eq!(rules(given).logs(&vm1), is_logged, "{given:?}");
        }
        // What an agent in a VM announces is logged where that is asked for.
        let stream = Label { of_guest: true, ..vm1 };
        assert!(!rules(&[]).logs(&stream) && rules(&[("vm*", Some(true))]).logs(&stream));
    }
}
