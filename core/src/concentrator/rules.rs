//! Consoles that are served otherwise than the rest: which those are, by name or UUID, and what is so there.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

use crate::admin::operator;
use crate::pattern::is_like;
use crate::vmware::Uuid;

use super::config::SlowClient;
use super::guest::{GuestKey, Mux};
use super::label::Label;
use super::target::Target;

/// What is so at certain consoles. Of several rules that match a console, the first counts, all of it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ConsoleRule {
    /// Consoles of these names, with their `_<uri>` suffix; `None`: whatever they are called.
    pub name: Option<Pattern>,
    /// Consoles of these UUIDs, in lower case, with or without hyphens; `None`: whatever it is.
    pub uuid: Option<Pattern>,
    /// Which client port they have.
    pub port: RulePort,
    /// Their clients are raw from their first byte on, or are not, whatever
    /// [`raw_ports`](super::Config::raw_ports) says.
    pub raw: Option<bool>,
    /// What happens to a client that does not keep up.
    pub slow_client: Option<SlowClient>,
    /// How many clients each may have; `Some(None)`: any number.
    pub max_clients: Option<Option<usize>>,
    /// Who may do what there, in place of what each may do elsewhere; whoever is an operator of the whole
    /// server is one there too. Such a console has no client port, whatever `port` says: who connects to one
    /// does not say who that is.
    pub may: Option<operator::Rules>,
    /// What they are connected to, as to one of their clients.
    pub forward: Option<Arc<Target>>,
    /// Their lines carry streams of an agent in the VM.
    pub mux: Option<Mux>,
    /// What that agent has to know, where it is not the same everywhere.
    pub guest_key: Option<GuestKey>,
}

/// Which client port a console has by a rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum RulePort {
    /// One of the range, as without a rule.
    #[default]
    Any,
    /// This one, which no other console gets. It may lie outside the range. Of several consoles that the rule
    /// matches the first has it, and the others one of the range, as where something else holds it.
    This(u16),
    /// None: it is reached by the admin port only.
    None,
}

/// A pattern for a whole name: `*` stands for any characters, `?` for one, all others for themselves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pattern(Box<str>);

/// A text is no pattern.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("it is empty, and would match nothing")]
pub struct NoPattern;

impl FromStr for Pattern {
    type Err = NoPattern;

    fn from_str(text: &str) -> Result<Self, NoPattern> {
        if text.is_empty() { Err(NoPattern) } else { Ok(Self(text.into())) }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Pattern {
    /// It is one of UUIDs, and not of names: nothing but hexadecimal digits, eight at least, and dashes
    /// beside `*` and `?`.
    pub(super) fn is_of_uuids(&self) -> bool {
        let digits = self.0.bytes().filter(u8::is_ascii_hexdigit).count();
        digits >= 8 && self.0.bytes().all(|byte| byte.is_ascii_hexdigit() || b"-*?".contains(&byte))
    }

    /// Whether it matches a UUID in lower case, with or without hyphens.
    pub(super) fn matches_uuid(&self, uuid: Uuid) -> bool {
        self.matches(&uuid.simple().to_string()) || self.matches(&hyphenated(uuid))
    }

    /// Whether it matches all of `text`. Costs the product of both lengths at most.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        is_like(&self.0, text)
    }
}

impl ConsoleRule {
    /// The port that nobody else gets.
    pub(super) fn own_port(&self) -> Option<u16> {
        match self.port {
            RulePort::This(port) if self.may.is_none() => Some(port),
            RulePort::This(_) | RulePort::Any | RulePort::None => None,
        }
    }

    /// Whether it is about a console.
    #[must_use]
    pub fn matches(&self, label: &Label) -> bool {
        let is_named =
            self.name.as_ref().is_none_or(|name| !label.name.is_empty() && name.matches(&label.name));
        is_named && self.matches_uuid(label)
    }

    fn matches_uuid(&self, label: &Label) -> bool {
        self.uuid.as_ref().is_none_or(|uuid| uuid.matches_uuid(label.uuid))
    }

    /// Whether it says who may use a console that has not told its name, and might be about that.
    fn may_be_about(&self, label: &Label) -> bool {
        self.may.is_some() && label.name.is_empty() && self.matches_uuid(label)
    }
}

/// The rules there are.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    rules: Vec<ConsoleRule>,
    /// What holds at a console whose name is not known while a rule that goes by names may say who may use
    /// it: nobody, but for operators.
    withheld: ConsoleRule,
}

/// Names a rule of those there are; 0: none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct RuleId(u16);

impl RuleId {
    /// Nobody but operators may use what is under it.
    pub(super) const WITHHELD: Self = WITHHELD;

    /// The rule of a console waits for its name.
    pub(super) fn is_withheld(self) -> bool {
        self == WITHHELD
    }
}

impl Rules {
    pub(super) fn new(rules: &[ConsoleRule]) -> Self {
        let mut rules: Vec<_> = rules.iter().take(usize::from(WITHHELD.0) - 1).cloned().collect();
        for rule in rules.iter_mut().filter(|rule| rule.may.is_some()) {
            rule.port = RulePort::None;
        }
        let may = Some(operator::Rules::default());
        Self { rules, withheld: ConsoleRule { may, port: RulePort::None, ..ConsoleRule::default() } }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The first that matches. Costs a look at each rule.
    pub(super) fn find(&self, label: &Label) -> RuleId {
        let found = self.rules.iter().position(|rule| rule.matches(label) || rule.may_be_about(label));
        match found {
            Some(at) if !self.rules[at].matches(label) => WITHHELD,
            found => RuleId(found.map_or(0, |at| at as u16 + 1)),
        }
    }

    pub(super) fn get(&self, id: RuleId) -> Option<&ConsoleRule> {
        if id == WITHHELD {
            return Some(&self.withheld);
        }
        self.rules.get(usize::from(id.0).checked_sub(1)?)
    }

    /// What happens to slow clients where this one says so.
    pub(super) fn slow_client(&self, id: RuleId) -> Option<SlowClient> {
        self.get(id)?.slow_client
    }

    /// Whether the port of a console depends on its name.
    pub(super) fn ports_need_names(&self) -> bool {
        self.rules.iter().any(|rule| rule.name.is_some() && rule.port != RulePort::Any)
    }

    /// Whether any rule is about consoles of certain names.
    pub(super) fn go_by_names(&self) -> bool {
        self.rules.iter().any(|rule| rule.name.is_some())
    }

    /// What each rule says of who may use its consoles.
    pub(super) fn lists(&self) -> impl Iterator<Item = &operator::Rules> {
        self.listing().filter_map(|rule| rule.may.as_ref())
    }

    /// Each rule that says who may use its consoles.
    pub(super) fn listing(&self) -> impl Iterator<Item = &ConsoleRule> {
        self.rules.iter().filter(|rule| rule.may.is_some())
    }
}

/// Stands for [`withheld`](Rules::withheld).
const WITHHELD: RuleId = RuleId(u16::MAX);

fn hyphenated(uuid: Uuid) -> String {
    let mut uuid = uuid.simple().to_string();
    for at in [20, 16, 12, 8] {
        uuid.insert(at, '-');
    }
    uuid
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, text, matches) in [
            ("web01", "web01", true),
            ("web01", "web012", false),
            ("web*", "web", true),
            ("web*", "aweb", false),
            ("*", "", true),
            ("*-db-??", "eu-db-01", true),
            ("*-db-??", "eu-db-1", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("*aab", "aaaaab", true),
            ("w?b", "w\u{e9}b", true),
            ("?", "", false),
            ("**x**", "x", true),
        ] {
            assert_eq!(pattern.parse::<Pattern>().unwrap().matches(text), matches, "{pattern} {text}");
        }
        assert_eq!("".parse::<Pattern>(), Err(NoPattern));
    }

    #[test]
    fn a_pattern_of_stars_costs_no_more_than_the_product() {
        let pattern: Pattern = "a*".repeat(60).parse().unwrap();
        assert!(!pattern.matches(&"a".repeat(59)));
        assert!(pattern.matches(&"a".repeat(5000)));
        let without_end: Pattern = ("a*".repeat(60) + "b").parse().unwrap();
        assert!(!without_end.matches(&"a".repeat(5000)));
    }
}
