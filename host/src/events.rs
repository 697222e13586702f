//! From the engine's events to log lines. The wording is the core's, so both servers log the same.

use log::Level;
use vspc_core::concentrator::{Event, Severity};

/// Logs one event. Never waits (see [`logging`](crate::logging)).
pub fn log_event(event: &Event) {
    log::log!(target: TARGET, level(event.severity()), "{event}");
}

/// The log level of a severity.
#[must_use]
pub fn level(severity: Severity) -> Level {
    match severity {
        Severity::Debug => Level::Debug,
        Severity::Info => Level::Info,
        Severity::Warn => Level::Warn,
        Severity::Error => Level::Error,
    }
}

/// What `RUST_LOG` calls the engine's events, whichever server runs.
const TARGET: &str = "vspc";
