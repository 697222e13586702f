//! Whether certificates and keys can be used, go together, and are valid for a while yet.

use super::Finding;
use crate::fatal::Fatal;
use crate::options::Options;
use crate::reload;

pub(super) fn check(options: &Options) -> Vec<Finding> {
    const CHECK: &str = "certificate";
    let Some(loader) = options.tls.loader(options) else { return Vec::new() };
    let looked = reload::within(reload::PATIENCE, move || {
        let days = loader.days_left();
        (loader.load(), days)
    });
    let Some((loaded, days)) = looked else {
        let text = Fatal::Unanswered(reload::PATIENCE).to_string();
        return vec![Finding::error(CHECK, text, "choose files on another disk")];
    };
    let credentials = match loaded {
        Ok(credentials) => credentials,
        Err(fatal) => return vec![Finding::error(CHECK, fatal.to_string(), MAKE)],
    };
    let notes = credentials.notes.into_iter().map(|(level, note)| match level {
        log::Level::Error | log::Level::Warn if note.contains("chmod") => {
            let remedy = note.rsplit(": ").next().unwrap_or_default().to_owned();
            Finding::warn(CHECK, note, remedy)
        }
        // An expired one is served, and hosts that go by its thumbprint take it: a warning, as in the log.
        log::Level::Error | log::Level::Warn => Finding::warn(CHECK, note, MAKE),
        _ => Finding::ok(CHECK, note),
    });
    let mut findings: Vec<Finding> = notes.collect();
    if let Some(days) = days.filter(|days| (0..SOON).contains(days)) {
        findings.push(Finding::warn(CHECK, format!("it is valid for {days} days more"), MAKE));
    }
    findings
}

/// From how many days before its end on a certificate is told about.
const SOON: i64 = 30;

const MAKE: &str = "a new one: the server's subcommand `cert` (docs/tls.md); then HUP, or vspc reload";
