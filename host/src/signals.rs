//! Signals, turned into commands for the loop.
//!
//! SIGTERM and SIGINT ask the server to stop, a second one ends it at once (a flush that hangs must not
//! need SIGKILL). SIGUSR1 asks for the counters. SIGHUP asks for the files of logs to be opened anew, and for
//! options and certificates to be read anew, in threads of their own ([`reload`]), because a disk may take
//! its time, and a stop does not wait for it. SIGPIPE is ignored by the Rust runtime already.

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

use crate::askers::Askers;
use crate::commands::{Command, Sender, TrySendError};
use crate::hangup::Reloaded;
use crate::reload::{self, Request};

/// Takes over the signals. `load` is called in a thread of its own, once for each SIGHUP; SIGHUPs that arrive
/// while one waits count as one. What `take` makes of that is sent to the loop. Starts two threads, which end
/// with the process.
pub(crate) fn register<T: Send + 'static>(
    commands: Sender,
    load: impl Fn() -> T + Send + Sync + 'static,
    take: impl Fn(Result<T, String>) -> Reloaded + Send + 'static,
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
    let take = move |read| send(&loaded, Command::Reloaded(Box::new(take(read))));
    let hangup = reload::start(load, take, reload::PATIENCE)?;
    thread::Builder::new().name("signals".to_owned()).spawn(move || pass_on(signals, &commands, &hangup))?;
    Ok(())
}

/// What an operator has ordered goes the way of the signal that asks for the same; who wants to hear what
/// comes of it is one of `askers` then.
pub(crate) fn carry_out(order: Order, askers: &Askers) {
    let signal = match order {
        Order::Reload(who) => {
            askers.ask(who);
            SIGHUP
        }
        Order::Drain => SIGTERM,
        _ => return,
    };
    if let Err(error) = low_level::raise(signal) {
        log::error!("cannot do as ordered ({order:?}): {error}");
    }
}

/// The thread that waits for signals.
fn pass_on<T>(mut signals: Signals, commands: &Sender, hangup: &Request<T>) {
    for signal in signals.forever() {
        match signal {
            SIGTERM | SIGINT => send(commands, Command::Stop),
            SIGUSR1 => send(commands, Command::Report),
            _ => {
                send(commands, Command::Reopen);
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
        register(sender, || (), |_: Result<(), _>| Reloaded::default()).unwrap();
        let mut commands_after = |signal, wanted: usize| {
            low_level::raise(signal).unwrap();
            let mut commands = Vec::new();
            while commands.len() < wanted {
                woken.read_exact(&mut [0]).unwrap();
                commands.append(&mut receiver.take(io::empty()));
            }
            commands
        };
        assert!(matches!(commands_after(SIGUSR1, 1)[..], [Command::Report]));
        assert!(matches!(commands_after(SIGHUP, 2)[..], [Command::Reopen, Command::Reloaded(_)]));
        assert!(matches!(commands_after(SIGUSR1, 1)[..], [Command::Report]));
        assert!(matches!(commands_after(SIGTERM, 1)[..], [Command::Stop]));
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
