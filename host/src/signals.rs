//! Signals, turned into commands for the loop.
//!
//! SIGTERM and SIGINT ask the server to stop, a second one ends it at once (a flush that hangs must not
//! need SIGKILL). SIGUSR1 asks for the counters. SIGHUP asks for the files of logs to be opened anew, and for
//! certificates to be loaded anew, in threads of their own ([`reload`]), because a disk may take its time,
//! and a stop does not wait for it. SIGPIPE is ignored by the Rust runtime already.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::flag;
use signal_hook::iterator::Signals;
use signal_hook::low_level;
use vspc_core::concentrator::Order;

use crate::commands::{Command, Sender, TrySendError};
use crate::credentials::Credentials;
use crate::reload::{self, Request};

/// Takes over the signals. `load` is called in a thread of its own, once for each SIGHUP; SIGHUPs that arrive
/// while one waits count as one. What it returns is sent to the loop. Starts two threads, which end with the
/// process. `has_logs`: there are logs to be opened anew.
pub(crate) fn register(
    commands: Sender,
    has_logs: bool,
    load: impl Fn() -> Option<Credentials> + Send + Sync + 'static,
) -> io::Result<()> {
    let stopping = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        // In this order: the first signal finds the flag down and raises it; the second finds it up and ends
        // the process with the code a shell expects of it, whatever its threads are at.
        flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&stopping))?;
        flag::register(signal, Arc::clone(&stopping))?;
    }
    let signals = Signals::new([SIGTERM, SIGINT, SIGUSR1, SIGHUP])?;
    let loaded = commands.clone();
    let take = move |credentials| send(&loaded, Command::Credentials(credentials));
    let hangup = reload::start(load, take, reload::PATIENCE)?;
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || pass_on(signals, &commands, has_logs, &hangup))?;
    Ok(())
}

/// What an operator has ordered goes the way of the signal that asks for the same.
pub(crate) fn carry_out(order: Order) {
    let signal = match order {
        Order::Reload => SIGHUP,
        Order::Drain => SIGTERM,
        _ => return,
    };
    if let Err(error) = low_level::raise(signal) {
        log::error!("cannot do as ordered ({order:?}): {error}");
    }
}

/// The thread that waits for signals.
fn pass_on(mut signals: Signals, commands: &Sender, has_logs: bool, hangup: &Request<Credentials>) {
    for signal in signals.forever() {
        match signal {
            SIGTERM | SIGINT => send(commands, Command::Stop),
            SIGUSR1 => send(commands, Command::Report),
            _ => {
                if has_logs {
                    send(commands, Command::Reopen);
                }
                hangup.ask();
            }
        }
    }
}

/// Sends a command as soon as there is room for it. A loop that has ended needs none.
fn send(commands: &Sender, mut command: Command) {
    while let Err(TrySendError::Full(back)) = commands.try_send(command) {
        command = back;
        thread::sleep(RETRY);
    }
}

/// How long a thread leaves a full queue alone. A signal is not worth more haste than that.
const RETRY: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands;
    use std::io::Read;

    #[test]
    fn each_signal_is_a_command() {
        let (sender, mut receiver, mut woken) = commands::pair().unwrap();
        woken.set_nonblocking(false).unwrap();
        register(sender, false, || Some(Credentials::default())).unwrap();
        let mut command_after = |signal| {
            low_level::raise(signal).unwrap();
            woken.read_exact(&mut [0]).unwrap();
            receiver.take(io::empty()).pop().unwrap()
        };
        assert!(matches!(command_after(SIGUSR1), Command::Report));
        assert!(matches!(command_after(SIGHUP), Command::Credentials(_)));
        assert!(matches!(command_after(SIGUSR1), Command::Report));
        assert!(matches!(command_after(SIGTERM), Command::Stop));
    }

    #[test]
    fn a_signal_waits_for_room() {
        let (sender, mut receiver, woken) = commands::pair().unwrap();
        while sender.try_send(Command::Report).is_ok() {}
        let patient = thread::spawn(move || send(&sender, Command::Stop));
        let mut taken = Vec::new();
        while !matches!(taken.last(), Some(Command::Stop)) {
            taken.append(&mut receiver.take(&woken));
            thread::yield_now();
        }
        patient.join().unwrap();
    }
}
