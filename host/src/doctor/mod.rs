//! Looks at the machine as a server with the same options would find it, and says what is in its way and what
//! to do about it, before there is a server or beside one.
//!
//! **Owns** which checks there are, and their order. **Changes nothing:** no file is made, no lock is taken,
//! nothing listens. **Refuses to know** how a server starts; what that refuses is asked of the same functions
//! where they change nothing.
//!
//! It is the server's own program that looks (`--doctor`), because all that is looked at is said by the
//! server's options, in its own file and environment. `vspc doctor` runs that program. The other way, to have
//! `vspc` depend on this crate, would give the client of every laptop Redis, gzip, a certificate maker and a
//! second command line, and it would still not know which of the two servers is meant.

mod capacity;
mod disk;
mod files;
mod finding;
mod holders;
mod network;
mod options;
mod ports;
mod redis;
mod running;
mod tls;

use crate::options::Options;

pub(crate) use finding::Report;
pub(crate) use options::{DoctorOptions, Form};

use finding::Finding;
use holders::Holders;
use running::Running;

/// Looks at everything. Waits for disks, and for Redis, but not for ever.
pub(crate) fn examine(options: &Options) -> Report {
    let holders = Holders::read();
    let running = Running::find(options, &holders);
    let mut findings = vec![running::told(running.as_ref()), files::user()];
    findings.extend(ports::check(options, &holders, running.as_ref()));
    findings.extend(network::check(options));
    findings.extend(capacity::check(options));
    findings.extend(files::check(options, running.as_ref()));
    findings.extend(redis::check(options, running.as_ref()));
    findings.extend(tls::check(options));
    Report { findings }
}

#[cfg(test)]
mod tests;
