//! The lines that say who did what. The concentrators write their own beside them.

use std::fmt::Display;
use std::net::IpAddr;

/// Something that was done, or was not let be done. A name is whatever somebody has said: what could end the
/// line, or colour it, is escaped.
pub(crate) fn note(name: &str, from: IpAddr, what: &str, outcome: &dyn Display) {
    log::info!(target: "audit", "{what} user={name:?} from={from}: {outcome}");
}
