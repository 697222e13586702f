//! The user's terminal: raw while a console is on it, and whatever happens left as it was found.
//!
//! Owns its modes, its size and its title. A terminal is given back when the guard is dropped, and by a hook
//! when something panics, for then nothing may be dropped. Signals are the caller's: it drops the guard.

use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::panic;
use std::sync::{Mutex, Once, PoisonError};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// A terminal in raw mode. There is one at a time.
#[derive(Debug)]
pub(crate) struct Raw {
    _only: (),
}

impl Raw {
    /// Sets a terminal to raw. `None` where it is none.
    pub(crate) fn enter(terminal: &(impl AsFd + IsTerminal)) -> io::Result<Option<Self>> {
        if !terminal.is_terminal() {
            return Ok(None);
        }
        let found = tcgetattr(terminal)?;
        let mut raw = found.clone();
        raw.make_raw();
        let terminal = terminal.as_fd().try_clone_to_owned()?;
        give_back_on_panic();
        let outcome = tcsetattr(&terminal, OptionalActions::Drain, &raw);
        *FOUND.lock().unwrap_or_else(PoisonError::into_inner) = Some((terminal, found));
        let guard = Self { _only: () };
        outcome?;
        Ok(Some(guard))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        give_back();
    }
}

/// The terminal and how it was found, while it is raw.
static FOUND: Mutex<Option<(OwnedFd, Termios)>> = Mutex::new(None);

fn give_back() {
    // A panic while this was locked has left it whole.
    if let Some((terminal, found)) = FOUND.lock().unwrap_or_else(PoisonError::into_inner).take() {
        let _ = tcsetattr(&terminal, OptionalActions::Drain, &found);
    }
}

fn give_back_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let next = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            give_back();
            next(info);
        }));
    });
}

/// Rows and columns, where the standard input is a terminal that knows them.
pub(crate) fn size() -> Option<(u16, u16)> {
    let size = tcgetwinsize(io::stdin()).ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}

/// The title of the window, given back when dropped.
#[derive(Debug)]
pub(crate) struct Title {
    _only: (),
}

impl Title {
    /// Shows a title, where the standard output is a terminal that may have one.
    pub(crate) fn show(title: &str) -> Option<Self> {
        let can = matches!(std::env::var("TERM"), Ok(term) if term != "dumb" && term != "linux");
        let mut out = io::stdout();
        if !can || !out.is_terminal() {
            return None;
        }
        // XTWINOPS 22 and 23 keep and give back the title; those that do not know them ignore them.
        let _ = write!(out, "\x1b[22;2t\x1b]2;{title}\x07");
        let _ = out.flush();
        Some(Self { _only: () })
    }
}

impl Drop for Title {
    fn drop(&mut self) {
        let mut out = io::stdout();
        let _ = write!(out, "\x1b[23;2t");
        let _ = out.flush();
    }
}

/// Whether what is written there may be coloured.
pub(crate) fn may_colour(out: &impl IsTerminal) -> bool {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    out.is_terminal() && !unwanted && !dumb
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

    use super::*;

    #[test]
    fn a_terminal_is_given_back_by_the_guard_and_by_a_panic_that_drops_nothing() {
        let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&controller).unwrap();
        unlockpt(&controller).unwrap();
        let name = ptsname(&controller, Vec::new()).unwrap().into_string().unwrap();
        let terminal = File::options().read(true).write(true).open(name).unwrap();
        let modes = || format!("{:?}", tcgetattr(&terminal).unwrap());
        let found = modes();
        let guard = Raw::enter(&terminal).unwrap().unwrap();
        assert_ne!(modes(), found);
        drop(guard);
        assert_eq!(modes(), found);
        // As in a program that aborts on panic.
        let panicked = panic::catch_unwind(|| {
            std::mem::forget(Raw::enter(&terminal).unwrap().unwrap());
            assert_ne!(modes(), found);
            panic!("on purpose");
        });
        assert!(panicked.is_err());
        assert_eq!(modes(), found);
        assert!(Raw::enter(&File::open("/dev/null").unwrap()).unwrap().is_none());
    }
}
