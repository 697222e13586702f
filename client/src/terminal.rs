//! The user's terminal: raw while a console is on it, and whatever happens left as it was found.
//!
//! Owns its modes, its size and its title. A terminal is given back when the guard is dropped, and by a hook
//! when something panics, for then nothing may be dropped. Signals are the caller's: it drops the guard.

use std::io::{self, IsTerminal, Write};
use std::panic;
use std::sync::{Mutex, Once, PoisonError};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// A terminal in raw mode, on the standard input.
#[derive(Debug)]
pub(crate) struct Raw {
    _only: (),
}

impl Raw {
    /// Sets the standard input to raw. `None` where it is no terminal.
    pub(crate) fn enter() -> io::Result<Option<Self>> {
        let stdin = io::stdin();
        if !stdin.is_terminal() {
            return Ok(None);
        }
        let found = tcgetattr(&stdin)?;
        let mut raw = found.clone();
        raw.make_raw();
        give_back_on_panic();
        *FOUND.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
        let guard = Self { _only: () };
        tcsetattr(&stdin, OptionalActions::Drain, &raw)?;
        Ok(Some(guard))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        give_back();
    }
}

/// How the terminal was found, while it is raw.
static FOUND: Mutex<Option<Termios>> = Mutex::new(None);

fn give_back() {
    // A panic while this was locked has left it whole.
    if let Some(found) = FOUND.lock().unwrap_or_else(PoisonError::into_inner).take() {
        let _ = tcsetattr(io::stdin(), OptionalActions::Drain, &found);
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
