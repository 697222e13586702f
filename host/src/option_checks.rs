//! Which options mean nothing, alone or together, and what to do instead.

use vspc_core::concentrator::{LEAST_LAG_LIMIT, READ_MAX};

use crate::options::Options;
use crate::size::Size;

impl Options {
    /// Refuses values that mean nothing, alone or together.
    pub(crate) fn validate(&self) -> Result<(), String> {
        let range = self.port_range();
        let lines = self.lines();
        let twin = lines.iter().enumerate().find_map(|(at, line)| {
            lines[..at].iter().find(|other| line.is_console_of(other)).map(|other| (other, line))
        });
        let fault = if let Some((first, second)) = twin {
            format!(
                "the lines {:?} and {:?} would be one console: give each a name and a UUID of its own",
                first.name, second.name
            )
        } else if range.first == 0 && self.interface.ip().is_none() {
            format!(
                "{} has no ports for the system to choose: give --port-range-start 1 or more",
                self.interface
            )
        } else if range.first == 0 && range.last != 0 {
            "--port-range-start 0 lets the system choose ports: leave --port-range-end out".to_owned()
        } else if range.last < range.first {
            format!(
                "--port-range-end {} lies before --port-range-start {}: give a higher end or a lower start",
                range.last, range.first
            )
        } else if self.max_clients == Some(0) {
            "--max-clients 0 would let nobody in: give at least 1, or --no-vm-ports".to_owned()
        } else if self.identify_timeout == 0 {
            "--identify-timeout 0 would let no VM in: give at least 1 second".to_owned()
        } else if self.lag_limit < LEAST_LAG {
            format!(
                "--lag-limit {} is too little: one read can bring {}, and every busy VM would overtake its \
                 clients: give at least {LEAST_LAG}",
                self.lag_limit,
                Size(READ_MAX)
            )
        } else if self.scrollback > self.lag_limit {
            format!(
                "--scrollback {} is more than --lag-limit {} lets a client catch up with: raise --lag-limit",
                self.scrollback, self.lag_limit
            )
        } else if self.vm_port_scrollback > self.scrollback {
            format!(
                "--vm-port-scrollback {} is more than --scrollback {} keeps: raise --scrollback",
                self.vm_port_scrollback, self.scrollback
            )
        } else if self.journal_memory < self.lag_limit {
            format!(
                "--journal-memory {} is less than --lag-limit {} allows a single VM: raise --journal-memory",
                self.journal_memory, self.lag_limit
            )
        } else if self.service_uri.as_deref() == Some("") {
            "--service-uri is empty: name a URI, or leave it out to serve any".to_owned()
        } else if self.stdout && self.syslog {
            "--stdout and --syslog name two places for the log: give one of them".to_owned()
        } else if let Some(port) = self.tables.port().filter(|_| self.no_vm_ports) {
            format!("[[console]] with port = {port} and --no-vm-ports contradict each other: drop one")
        } else if let Some(fault) = self.hooks.fault() {
            fault
        } else if let Some(fault) = self.store.fault(self) {
            fault
        } else if let Some(fault) = self.logs.fault() {
            fault
        } else if let Some(fault) = self.tls.fault(self) {
            fault
        } else {
            return Ok(());
        };
        Err(fault)
    }
}

/// The least `--lag-limit`. The engine would take less as this.
pub(crate) const LEAST_LAG: Size = Size(LEAST_LAG_LIMIT);
