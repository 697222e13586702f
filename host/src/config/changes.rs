//! What is different in a configuration that was read again, and which of that a running server takes.
//!
//! **Owns** the list of options that can change while sessions go on. An option that is not in it takes a
//! restart: where listeners are, what is kept, how logs are written. **Refuses to know** how a change takes
//! effect.

use crate::options::Options;

use super::tables::{LINE, MULTI_CONSOLE, Tables, effects_of, selector_of};
use crate::console_rules::{Rule, Rules};

/// One option that is not as it was.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Change {
    /// Its name.
    name: String,
    /// What it was, as in a file.
    old: String,
    /// What it is to be.
    new: String,
}

impl Change {
    /// Says that it has come into force.
    pub(crate) fn applied(&self) -> String {
        format!("{} is {} now; it was {}", self.name, self.new, self.old)
    }

    /// Says that it has not.
    pub(crate) fn waits(&self) -> String {
        match SECRET.contains(&self.name.as_str()) {
            true => format!("{} has changed, which takes a restart", self.name),
            false => format!("{} = {} takes a restart; it stays {}", self.name, self.new, self.old),
        }
    }
}

/// What comes of a configuration that was read again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Comparison {
    /// What holds from now on.
    pub(crate) options: Options,
    /// What of that is new.
    pub(crate) applied: Vec<Change>,
    /// What would be, if the server were started again.
    pub(crate) waiting: Vec<Change>,
}

/// Compares what was read with what is in use. `takes_files`: with the files of certificates that it names,
/// which stay the same while how TLS is used waits for a restart. `Err`: the new values do not go with those
/// that wait.
pub(crate) fn compare(in_use: &Options, read: &Options, takes_files: bool) -> Result<Comparison, String> {
    let mut options = in_use.clone();
    let (mut applied, mut waiting) = (Vec::new(), Vec::new());
    let pairs = in_use.config.values.iter().zip(&read.config.values);
    let changed: Vec<_> = pairs.filter(|(old, new)| old != new).collect();
    let is_tls_as_it_was = !changed.iter().any(|((name, _), _)| TLS_MODES.contains(&name.as_str()));
    for ((name, old), (_, new)) in changed {
        let change = Change { name: name.clone(), old: old.clone(), new: new.clone() };
        let is_file = FILES.contains(&name.as_str());
        match LIVE.iter().find(|(live, _)| live == name) {
            Some(_) if is_file && is_tls_as_it_was && !takes_files => {}
            Some((_, set)) if !is_file || is_tls_as_it_was => {
                set(&mut options, read);
                let value = options.config.values.iter_mut().find(|(known, _)| known == name);
                if let Some((_, value)) = value {
                    value.clone_from(new);
                }
                applied.push(change);
            }
            _ => waiting.push(change),
        }
    }
    if in_use.tables.watches != read.tables.watches {
        let [old, new] = [in_use, read].map(|options| names(&options.tables));
        applied.push(Change { name: "[[watch]]".to_owned(), old, new });
        options.tables.watches.clone_from(&read.tables.watches);
    }
    let [old, new] = [in_use, read].map(|options| &options.tables.consoles);
    if old != new {
        applied.extend(between(old, new));
        options.tables.consoles.clone_from(new);
    }
    let [old, new] = [in_use, read].map(|options| &options.tables.multi_consoles);
    if old != new {
        // Which consoles there are rests on it.
        let [old, new] = [old, new].map(|all| {
            let all: Vec<_> = all.iter().map(|(uuid, on)| format!("{uuid} {on}")).collect();
            format!("[{}]", all.join(", "))
        });
        waiting.push(Change { name: format!("[[console]]: {MULTI_CONSOLE}"), old, new });
    }
    let [old, new] = [in_use, read].map(|options| &options.tables.lines);
    if old != new {
        let [old, new] = [old, new].map(|lines| {
            let all: Vec<_> = lines.iter().map(|line| format!("{:?} {}", line.name, line.place)).collect();
            format!("[{}]", all.join(", "))
        });
        waiting.push(Change { name: format!("[[{LINE}]]"), old, new });
    }
    let options = options.checked()?;
    Ok(Comparison { options, applied, waiting })
}

/// What watches are called. One may have another pattern than before.
fn names(tables: &Tables) -> String {
    let names: Vec<_> = tables.watches.iter().map(|watch| format!("{:?}", watch.name)).collect();
    format!("[{}]", names.join(", "))
}

/// What is new about rules for consoles: which have come, which have gone, and what others say now.
fn between(old: &Rules, new: &Rules) -> Vec<Change> {
    // Of rules about the same consoles the first has anything to say.
    let mut left: Vec<&Rule> = old.0.iter().collect();
    let (mut changes, mut stayed) = (Vec::new(), Vec::new());
    for rule in &new.0 {
        let name = title(rule);
        let Some(at) = left.iter().position(|other| selector_of(other) == selector_of(rule)) else {
            changes.push(Change { name, old: NO_RULE.to_owned(), new: in_braces(rule) });
            continue;
        };
        let was = left.remove(at);
        stayed.push(was);
        let [before, now] = [was, rule].map(live_effects_of);
        let keys = before.iter().chain(&now).map(|(key, _)| *key);
        let mut seen = Vec::new();
        for key in keys {
            let of = |effects: &[(&str, String)]| {
                let found = effects.iter().find(|(known, _)| *known == key);
                found.map_or_else(|| AS_ELSEWHERE.to_owned(), |(_, value)| value.clone())
            };
            if !seen.contains(&key) && of(&before) != of(&now) {
                changes.push(Change { name: format!("{name}: {key}"), old: of(&before), new: of(&now) });
            }
            seen.push(key);
        }
    }
    for rule in left {
        changes.push(Change { name: title(rule), old: in_braces(rule), new: NO_RULE.to_owned() });
    }
    let in_old_order = old.0.iter().filter(|rule| stayed.iter().any(|other| std::ptr::eq(*other, *rule)));
    if !in_old_order.eq(stayed.iter().copied()) {
        let order = |rules: &Rules| rules.0.iter().map(about).collect::<Vec<_>>().join("; ");
        changes.push(Change { name: "[[console]]: the order".to_owned(), old: order(old), new: order(new) });
    }
    changes
}

fn title(rule: &Rule) -> String {
    format!("[[console]] {}", about(rule))
}

/// Which consoles a rule is about.
fn about(rule: &Rule) -> String {
    let all: Vec<_> = selector_of(rule).into_iter().map(|(key, value)| format!("{key} = {value}")).collect();
    all.join(", ")
}

/// What of a rule holds at once.
fn live_effects_of(rule: &Rule) -> Vec<(&'static str, String)> {
    effects_of(rule).into_iter().filter(|(key, _)| *key != MULTI_CONSOLE).collect()
}

fn in_braces(rule: &Rule) -> String {
    let all: Vec<_> =
        live_effects_of(rule).into_iter().map(|(key, value)| format!("{key} = {value}")).collect();
    match all.is_empty() {
        true => "{}".to_owned(),
        false => format!("{{ {} }}", all.join(", ")),
    }
}

/// What stands for a rule where there is none.
const NO_RULE: &str = "no rule";

/// What stands for something that a rule does not say.
const AS_ELSEWHERE: &str = "as elsewhere";

type Set = fn(&mut Options, &Options);

macro_rules! live {
    ($($(#[$meta:meta])? $name:literal: $($field:ident).+),* $(,)?) => {
        &[$($(#[$meta])? ($name, |to, from| to.$($field).+.clone_from(&from.$($field).+))),*]
    };
}

/// The options that can change, and what changes them.
const LIVE: &[(&str, Set)] = live![
    "proxy-protocol-from": proxy_protocol_from,
    "service-uri": service_uri,
    "takeover": takeover,
    "forward": dial.forward,
    "dial-allow": dial.dial_allow,
    "max-consoles": max_consoles,
    "identify-timeout": identify_timeout,
    "vm-expire-time": vm_expire_time,
    "max-clients": max_clients,
    "raw-ports": raw_ports,
    "no-banner": no_banner,
    "vm-port-scrollback": vm_port_scrollback,
    "slow-client": slow_client,
    "admin-rights": admin_rights,
    "context": context,
    "enter": enter,
    "ports-ignore-locks": ports_ignore_locks,
    "lag-limit": lag_limit,
    "scrollback": scrollback,
    "journal-memory": journal_memory,
    "on-event": hooks.on_event,
    "on-event-kinds": hooks.on_event_kinds,
    "on-event-timeout": hooks.on_event_timeout,
    "on-event-jobs": hooks.on_event_jobs,
    "events-to": outlets.events_to,
    #[cfg(feature = "tls")]
    "cert": tls.cert,
    #[cfg(feature = "tls")]
    "key": tls.key,
    #[cfg(feature = "tls")]
    "client-ca": tls.client_ca,
    #[cfg(feature = "tls")]
    "admin-ca": tls.admin_ca,
    #[cfg(feature = "tls")]
    "dial-ca": tls.dial_ca,
    #[cfg(feature = "tls")]
    "dial-cert": tls.dial_cert,
    #[cfg(feature = "tls")]
    "dial-key": tls.dial_key,
    #[cfg(feature = "tls")]
    "require-tls": tls.require_tls,
    "debug": debug,
];

/// Those of them that name files for TLS.
const FILES: [&str; 4] = ["cert", "key", "client-ca", "admin-ca"];

/// What those files are for.
const TLS_MODES: [&str; 5] = ["tls", "ssl", "in-band-tls", "client-tls", "admin-tls"];

/// The options whose values are nobody's business who reads the log.
const SECRET: [&str; 1] = ["redis-url"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::tests::parse;

    fn lines(old: &str, new: &str) -> Result<(Options, Vec<String>, Vec<String>), String> {
        let compared = compare(&parse(old).unwrap(), &parse(new).unwrap(), true)?;
        let applied = compared.applied.iter().map(Change::applied).collect();
        let waiting = compared.waiting.iter().map(Change::waits).collect();
        Ok((compared.options, applied, waiting))
    }

    #[test]
    fn each_option_in_the_list_is_one_and_is_the_one_that_changes() {
        let known = parse("").unwrap().config.values;
        for (name, _) in LIVE {
            assert!(known.iter().any(|(known, _)| known == name), "{name}");
        }
        let all = "--proxy-protocol-from 10.0.0.1,unix --forward a=tcp://b:1 \
                   --dial-allow tcp://c:1 --service-uri a --takeover newest --max-consoles 5 \
                   --identify-timeout 6 --vm-expire-time 7 --max-clients none --raw-ports --no-banner \
                   --vm-port-scrollback 1K --slow-client wait --admin-rights v3=none --context 8 \
                   --enter cr --ports-ignore-locks --lag-limit 3M --scrollback 2K --journal-memory 1G \
                   --on-event /bin/sh --on-event-kinds vm-up --on-event-timeout 9 --on-event-jobs 2 \
                   --events-to syslog --debug";
        let (options, applied, waiting) = lines("", all).unwrap();
        assert_eq!(options, parse(all).unwrap());
        assert!(waiting.is_empty(), "{waiting:?}");
        let is_for_tls = |name: &str| {
            FILES.contains(&name) || ["require-tls", "dial-ca", "dial-cert", "dial-key"].contains(&name)
        };
        assert_eq!(applied.len(), LIVE.iter().filter(|(name, _)| !is_for_tls(name)).count(), "{applied:?}");
    }

    #[test]
    fn what_takes_a_restart_stays_and_is_said() {
        let (options, applied, waiting) =
            lines("--proxy-port 5", "--proxy-port 6 --max-clients 7 --pidfile /p").unwrap();
        assert_eq!((options.proxy_port, options.max_clients, &options.pidfile), (5, Some(7), &None));
        assert_eq!(applied, ["max-clients is 7 now; it was 64"]);
        assert_eq!(
            waiting,
            [
                "proxy-port = 6 takes a restart; it stays 5",
                "pidfile = \"/p\" takes a restart; it stays unset"
            ]
        );
        let redis = "--backend redis --redis-url redis://:secret@a";
        let (_, _, waiting) = lines("", redis).unwrap();
        assert!(waiting.iter().all(|line| !line.contains("secret")), "{waiting:?}");
        assert!(waiting.iter().any(|line| line.starts_with("redis-url has changed")), "{waiting:?}");
    }

    #[test]
    fn what_goes_only_with_something_that_waits_changes_nothing() {
        let old = "--lag-limit 2M --journal-memory 64M --port-range-start 100";
        let compared = lines(old, "--lag-limit 65M --journal-memory 66M --port-range-start 200");
        assert!(compared.is_ok());
        #[cfg(feature = "tls")]
        {
            let old = "--tls on --cert /a --admin-rights v3=none";
            let new = "--tls on --cert /a --admin-tls on --admin-ca /c --admin-rights cert:a=operator";
            let why = lines(old, new).unwrap_err();
            assert!(why.contains("--admin-rights") && why.contains("--admin-ca"), "{why}");
        }
    }

    #[cfg(feature = "tls")]
    #[test]
    fn files_of_certificates_change_as_long_as_what_they_are_for_does_not() {
        let old = "--tls on --cert /a";
        let (options, applied, _) = lines(old, "--tls on --cert /b --key /k").unwrap();
        assert_eq!((options.tls.cert, options.tls.key), (Some("/b".into()), Some("/k".into())));
        assert_eq!(applied.len(), 2);
        let (options, applied, waiting) = lines(old, "--client-tls --cert /b").unwrap();
        assert_eq!((options.tls.cert, applied.len(), waiting.len()), (Some("/a".into()), 0, 3));
        let compared = compare(&parse(old).unwrap(), &parse("--tls on --cert /b").unwrap(), false).unwrap();
        assert_eq!(compared.options.tls.cert, Some("/a".into()));
        assert!(compared.applied.is_empty() && compared.waiting.is_empty());
    }
}
