//! `/metrics`: OpenMetrics 1.0.
//!
//! Owns the names, all of which begin with `vspc_` but those of OpenStack's exporter. There are labels for
//! servers, for so many of their hosts, and for the few words of the protocol; for consoles, of which there
//! are more, only where they are asked for.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::asked::Words;
use super::consoles::Pattern;
use super::problem::Problem;
use super::{App, counts};
use crate::fleet::Interest;

pub(super) async fn metrics(State(app): State<App>, words: Words) -> Result<Response, Problem> {
    let mut page = Page::default();
    if words.has("consoles") {
        app.upstreams.look(&app.fleet, Interest::Counts).await;
        let pattern = Pattern::new(words.get("q").unwrap_or_default())?;
        page.consoles(&app, &pattern);
    }
    page.one("vspc_build", "info", "What runs.", &format!("version=\"{}\"", env!("CARGO_PKG_VERSION")), 1);
    let (mut connections, mut waiting) = (0_u64, 0_u64);
    for (upstream, server) in app.upstreams.all().iter().zip(app.fleet.servers()) {
        let name = server["name"].as_str().unwrap_or_default();
        let label = format!("server=\"{name}\"");
        let is_up = u64::from(server["state"] == "up");
        let version = server["version"].as_str().unwrap_or_default();
        let version = format!("{label},version=\"{}\"", escaped(version));
        page.one("vspc_server", "info", "What the concentrator says it is.", &version, 1);
        page.one("vspc_up", "gauge", "Whether the concentrator is connected.", &label, is_up);
        let consoles = app.fleet.consoles(|console| console["server"] == name);
        for state in ["connected", "moving", "waiting"] {
            let count = consoles.iter().filter(|console| console["state"] == state).count() as u64;
            let label = format!("{label},state=\"{state}\"");
            page.one("vspc_consoles", "gauge", "Consoles, by the state of their VM.", &label, count);
        }
        let sum_of = |field: &str| sum(consoles.iter().filter_map(|console| console[field].as_u64()));
        let locked = consoles.iter().filter(|console| !console["lock"].is_null()).count() as u64;
        page.one("vspc_clients", "gauge", "People and programs at consoles.", &label, sum_of("clients"));
        page.one("vspc_legs", "gauge", "Connections that feed consoles.", &label, sum_of("legs"));
        page.one("vspc_locked_consoles", "gauge", "Consoles that somebody has locked.", &label, locked);
        connections = sum([connections, sum_of("clients"), sum_of("legs")].into_iter());
        page.hosts(&label, &consoles);
        // One that hangs must not keep others from being seen.
        let Ok(Ok(stats)) = timeout(PATIENCE, upstream.call("stats", json!({}))).await else { continue };
        page.stats(&label, &stats);
        for way in ["shown", "typed"] {
            let Some(bytes) = stats["waiting_bytes"][way].as_u64() else { continue };
            let label = format!("{label},way=\"{way}\"");
            page.one("vspc_waiting_bytes", "gauge", "Received, and taken by no socket yet.", &label, bytes);
            waiting = waiting.saturating_add(bytes);
        }
    }
    let name = "openstack_compute_vspc_active_connections";
    page.one(name, "gauge", "Connections of VMs and of clients.", "", connections);
    let name = "openstack_compute_vspc_waiting_bytes_in_receive_queue";
    page.one(name, "gauge", "Bytes that were received and wait to be passed on.", "", waiting);
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], page.text()).into_response())
}

/// How long a concentrator's counts are waited for: it answers from memory.
const PATIENCE: Duration = Duration::from_secs(1);

/// Families in the order of their names; a family's lines stand together.
#[derive(Default)]
struct Page(BTreeMap<String, (String, String)>);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) -> &mut String {
        let head = || (format!("# TYPE {name} {kind}\n# HELP {name} {help}\n"), String::new());
        &mut self.0.entry(name.to_owned()).or_insert_with(head).1
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, labels: &str, value: u64) {
        let suffix = match kind {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        let labels = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        let _ = writeln!(self.family(name, kind, help), "{name}{suffix}{labels} {value}");
    }

    /// Hosts of a concentrator's VMs: as many as there are, up to a bound, and those beyond together.
    fn hosts(&mut self, label: &str, consoles: &[Value]) {
        let mut hosts = BTreeMap::<String, (u64, u64)>::new();
        for console in consoles {
            let Some(host) = console["host"].as_str() else { continue };
            let mut host = escaped(host);
            if hosts.len() >= HOSTS_MOST && !hosts.contains_key(&host) {
                OTHERS.clone_into(&mut host);
            }
            let (count, clients) = hosts.entry(host).or_default();
            *count += 1;
            *clients = clients.saturating_add(console["clients"].as_u64().unwrap_or(0));
        }
        for (host, (count, clients)) in hosts {
            let label = format!("{label},host=\"{host}\"");
            let help = "Consoles whose VM is on this host.";
            self.one("vspc_host_consoles", "gauge", help, &label, count);
            let help = "People and programs at consoles whose VM is on this host.";
            self.one("vspc_host_clients", "gauge", help, &label, clients);
        }
    }

    /// Each console that fits, up to a bound, by its server and name.
    fn consoles(&mut self, app: &App, pattern: &Pattern) {
        let (consoles, has_more) =
            app.fleet.page(|console| pattern.fits_one_of(console), None, CONSOLES_MOST);
        let help = "Whether there are more consoles than are told here.";
        self.one("vspc_consoles_left_out", "gauge", help, "", has_more.into());
        for console in &consoles {
            let text = |field: &str| escaped(console[field].as_str().unwrap_or_default());
            let number = |field: &str| console[field].as_u64().unwrap_or(0);
            // Names are whatever VMs say, and a UUID may be of several: the id is of one alone.
            let label = format!(
                "server=\"{}\",console=\"{}\",uuid=\"{}\",id=\"{}\"",
                text("server"),
                text("name"),
                text("uuid"),
                text("id")
            );
            let is_there = console["state"] != "waiting";
            let name = "vspc_console_connected";
            self.one(name, "gauge", "Whether the VM is connected.", &label, is_there.into());
            let name = "vspc_console_locked";
            self.one(
                name,
                "gauge",
                "Whether somebody has a lock.",
                &label,
                (!console["lock"].is_null()).into(),
            );
            let name = "vspc_console_clients";
            self.one(name, "gauge", "People and programs at the console.", &label, number("clients"));
            let name = "vspc_console_printed_bytes";
            self.one(name, "counter", "Bytes that the VM has printed.", &label, number("out"));
            let name = "vspc_console_typed_bytes";
            self.one(name, "counter", "Bytes that were typed.", &label, number("in"));
            if let Some(ms) = console["idle_ms"].as_u64() {
                let name = "vspc_console_idle_seconds";
                self.one(name, "gauge", "Since the VM has printed last.", &label, ms / 1000);
            }
        }
    }

    /// What a concentrator has counted and measured (operator.md §5). Its names are its own words; what can
    /// be no metric's name is left out.
    fn stats(&mut self, label: &str, stats: &Value) {
        let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        for (name, value) in stats["counters"].as_object().into_iter().flatten().take(COUNTERS_MOST) {
            // How many consoles there are is told by their state; a maximum is no count.
            if let Some(value) = value.as_u64()
                && name.chars().all(is_word)
                && name != "consoles"
                && !name.ends_with("_max")
            {
                if name == "connections" {
                    self.one("vspc_connections", "gauge", "Connections of all kinds.", label, value);
                    continue;
                }
                let help = match counts::help(name) {
                    Some(help) => format!("{help}."),
                    None => format!("What the concentrator counts as {name}."),
                };
                self.one(&format!("vspc_{name}"), "counter", &help, label, value);
            }
        }
        for (field, name, help, scale, bounds) in HISTOGRAMS {
            let Some(steps) = stats[field]["steps"].as_array() else { continue };
            let steps: Vec<(u64, u64)> =
                steps.iter().filter_map(|step| Some((step[0].as_u64()?, step[1].as_u64()?))).collect();
            let family = self.family(name, "histogram", help);
            for &bound in *bounds {
                // A step counts where all of it is below.
                let below = sum(steps.iter().filter(|(top, _)| *top <= bound).map(|(_, count)| *count));
                let le = bound as f64 / scale;
                let _ = writeln!(family, "{name}_bucket{{{label},le=\"{le:?}\"}} {below}");
            }
            let all = sum(steps.iter().map(|(_, count)| *count));
            let _ = writeln!(family, "{name}_bucket{{{label},le=\"+Inf\"}} {all}");
            // Servers from before do not tell it.
            if let Some(sum) = stats[field]["sum"].as_u64() {
                let _ = writeln!(family, "{name}_count{{{label}}} {all}");
                let _ = writeln!(family, "{name}_sum{{{label}}} {:?}", sum as f64 / scale);
            }
        }
    }

    fn text(&self) -> String {
        let families = self.0.values().map(|(head, lines)| format!("{head}{lines}"));
        families.chain(["# EOF\n".to_owned()]).collect()
    }
}

/// Of numbers that are a concentrator's, and may be any.
fn sum(of: impl Iterator<Item = u64>) -> u64 {
    of.fold(0, u64::saturating_add)
}

/// A label's value, of somebody else's words.
fn escaped(text: &str) -> String {
    text.chars().take(LABEL_MOST).filter(|c| !c.is_control()).fold(String::new(), |mut escaped, c| {
        if matches!(c, '"' | '\\') {
            escaped.push('\\');
        }
        escaped.push(c);
        escaped
    })
}

/// Field, name, help, what one of the unit is in the field, bounds.
type Measured = (&'static str, &'static str, &'static str, f64, &'static [u64]);

const HISTOGRAMS: &[Measured] = &[
    ("goahead_us", "vspc_goahead_seconds", "From VMOTION-BEGIN until GOAHEAD is sent.", 1e6, MICROS),
    ("typing_us", "vspc_typing_seconds", "From something typed until its VM's socket takes it.", 1e6, MICROS),
    ("tls_handshake_us", "vspc_tls_handshake_seconds", "TLS handshakes.", 1e6, MICROS),
    ("reader_lag_bytes", "vspc_reader_lag_bytes", "How far readers are behind.", 1.0, BYTES),
    ("store_lag_us", "vspc_store_lag_seconds", "From a change until the store has written it.", 1e6, MICROS),
    ("log_lag_bytes", "vspc_log_lag_bytes", "How far logs and watches are behind.", 1.0, BYTES),
];
const MICROS: &[u64] =
    &[100, 250, 500, 1000, 2500, 5000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 4_000_000];
const BYTES: &[u64] = &[0, 1024, 4096, 16_384, 65_536, 262_144, 1_048_576, 2_097_152];
const LABEL_MOST: usize = 64;
/// Of one server.
const HOSTS_MOST: usize = 1000;
/// No host is called so.
const OTHERS: &str = "others";
/// Where they are asked for: six series each.
const CONSOLES_MOST: usize = 10_000;
/// Of a server's own words, so that a strange one cannot make series without end.
const COUNTERS_MOST: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_hosts_are_told_of_and_the_rest_together() {
        let console = |host: String| json!({"host": host, "clients": 2});
        let many = HOSTS_MOST + 5;
        let mut consoles: Vec<_> = (0..many).map(|n| console(format!("2001:db8::{n:x}"))).collect();
        consoles.push(console("2001:db8::0".to_owned()));
        consoles.push(json!({"host": null, "clients": 7}));
        let mut page = Page::default();
        page.hosts("server=\"a\"", &consoles);
        let text = page.text();
        assert_eq!(text.matches("vspc_host_consoles{").count(), HOSTS_MOST + 1);
        assert!(text.contains("vspc_host_consoles{server=\"a\",host=\"2001:db8::0\"} 2\n"));
        assert!(text.contains("vspc_host_consoles{server=\"a\",host=\"others\"} 5\n"));
        assert!(text.contains("vspc_host_clients{server=\"a\",host=\"others\"} 10\n"));
    }
}
