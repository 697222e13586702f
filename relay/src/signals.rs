//! Signals: TERM and INT end the relay in order, a second one ends the process at once. HUP has the
//! configuration file and all certificates read anew, by a thread, because a disk may take its time.

use std::io;
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use vspc_host::reload;

use crate::prepared::Prepared;
use crate::relay::{Reload, Reloads, Stopper};

/// Takes over the signals. `load` is what a HUP asks for. Starts threads that end with the process.
pub(crate) fn register(
    stopper: Stopper,
    reloads: Reloads,
    load: impl Fn() -> Result<Prepared, String> + Send + Sync + 'static,
) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    let read = reloads.clone();
    let take = move |loaded: Result<Result<Prepared, String>, String>| {
        read.send(Reload::Read(Box::new(loaded.and_then(|loaded| loaded))));
    };
    let hangup = reload::start(load, take, reload::PATIENCE)?;
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let mut is_stopping = false;
        for signal in signals.forever() {
            if signal == SIGHUP {
                reloads.send(Reload::Begins);
                hangup.ask();
            } else if std::mem::replace(&mut is_stopping, true) {
                std::process::exit(128 + signal);
            } else {
                stopper.stop();
            }
        }
    })?;
    Ok(())
}
