//! An event as a syslog or the journal takes it: one datagram.
//!
//! **Owns** RFC 5424 §6 and the journal's native protocol. **Refuses to know** where datagrams go.

use std::fs;
use std::process;
use std::sync::OnceLock;

use vspc_core::concentrator::Severity;

use super::entry::Entry;
use super::facts::variables;

/// A message of RFC 5424: the event's kind as MSGID, its JSON as MSG.
pub(super) fn syslog(entry: &Entry) -> Vec<u8> {
    let variables = variables(entry);
    let kind = variables.iter().find(|(name, _)| name == "VSPC_KIND").map_or("-", |(_, kind)| kind);
    let head = format!(
        "<{}>1 {} {} vspc {} {} - ",
        FACILITY * 8 + priority(entry.severity),
        entry.time,
        host(),
        process::id(),
        kind
    );
    [head.as_bytes(), entry.line.trim_ascii_end()].concat()
}

/// The fields of a journal entry: a sentence, and each fact as a field.
pub(super) fn journal(entry: &Entry) -> Vec<u8> {
    let mut out = Vec::new();
    put_field("MESSAGE", &entry.sentence, &mut out);
    put_field("PRIORITY", &priority(entry.severity).to_string(), &mut out);
    put_field("SYSLOG_IDENTIFIER", "vspc", &mut out);
    for (name, value) in variables(entry) {
        put_field(&name, &value, &mut out);
    }
    out
}

/// `NAME=value`, or, where a line break would end that, the name, the length in eight bytes, and the value.
fn put_field(name: &str, value: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        out.push(b'\n');
        out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        out.push(b'=');
    }
    out.extend_from_slice(value.as_bytes());
    out.push(b'\n');
}

/// RFC 5424 §6.2.1.
fn priority(severity: Severity) -> u8 {
    match severity {
        Severity::Error => 3,
        Severity::Warn => 4,
        Severity::Info => 6,
        Severity::Debug => 7,
    }
}

/// This machine, as RFC 5424 §6.2.4 wants it: visible ASCII, or `-`.
fn host() -> &'static str {
    static HOST: OnceLock<String> = OnceLock::new();
    HOST.get_or_init(|| {
        let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let name = name.trim();
        let is_fit = !name.is_empty() && name.len() <= 255 && name.bytes().all(|b| b.is_ascii_graphic());
        if is_fit { name.to_owned() } else { "-".to_owned() }
    })
}

/// System daemons.
const FACILITY: u8 = 3;
