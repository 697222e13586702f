//! What is on its way to the user's screen.
//!
//! Owns a short queue, written when the terminal takes it, so that a terminal that stands still holds up the
//! console's stream and not this program; and a memory of what was shown, for the pager.

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Stdout};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::{Errno, write};

use super::view::View;
use crate::output;
use crate::printable::printable;
use crate::terminal;

/// The standard output; for notices, where that is no terminal, the standard error.
#[derive(Debug)]
pub(crate) struct Screen {
    out: Stdout,
    waiting: VecDeque<u8>,
    history: VecDeque<u8>,
    is_terminal: bool,
    colour: bool,
    /// The terminal is raw: an LF alone does not go back to the first column.
    pub(crate) raw: bool,
}

impl Screen {
    pub(crate) fn new() -> Self {
        let out = io::stdout();
        Self {
            is_terminal: out.is_terminal(),
            colour: terminal::may_colour(&out),
            out,
            waiting: VecDeque::new(),
            history: VecDeque::new(),
            raw: false,
        }
    }

    /// How much more output may be shown now.
    pub(crate) fn room(&self) -> usize {
        WAITING.saturating_sub(self.waiting.len())
    }

    /// Shows output as it is.
    pub(crate) fn show(&mut self, bytes: &[u8]) {
        self.waiting.extend(bytes);
        let excess = (self.history.len() + bytes.len()).saturating_sub(HISTORY);
        self.history.drain(..excess.min(self.history.len()));
        self.history.extend(&bytes[bytes.len().saturating_sub(HISTORY)..]);
    }

    /// Says something about the console, on a line of its own.
    pub(crate) fn notice(&mut self, view: &mut View, text: &str) {
        self.lines(view, &[format!("[vspc: {}]", printable(text))]);
    }

    /// Says something in lines of its own. They are to be printable.
    pub(crate) fn lines(&mut self, view: &mut View, lines: &[String]) {
        let end = if self.raw { "\r\n" } else { "\n" };
        if !self.is_terminal {
            lines.iter().for_each(|line| output::show(format_args!("{line}{end}")));
            return;
        }
        let mut text = String::new();
        if !view.is_at_line_start() {
            text.push_str(end);
        }
        for line in lines {
            match self.colour {
                true => text.push_str(&format!("\x1b[0;2m{line}\x1b[0m{end}")),
                false => text.push_str(&format!("{line}{end}")),
            }
        }
        self.waiting.extend(text.bytes());
        view.line_ended();
    }

    /// Shows a question, and what was typed in answer to it, on the line where the cursor is.
    pub(crate) fn prompt(&mut self, text: &str) {
        if self.is_terminal {
            self.waiting.extend(text.bytes());
        } else {
            output::show(text);
        }
    }

    /// Whether something waits to be written.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Writes once, when poll(2) has said that the output takes something: no more than a pipe or a terminal
    /// then takes without blocking.
    pub(crate) fn write(&mut self) -> io::Result<()> {
        let (front, _) = self.waiting.as_slices();
        match write(&self.out, &front[..front.len().min(AT_ONCE)]) {
            Ok(n) => drop(self.waiting.drain(..n)),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Writes all that waits, however long that takes.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        while self.is_waiting() {
            self.write()?;
        }
        Ok(())
    }

    /// What was shown last.
    pub(crate) fn history(&self) -> Vec<u8> {
        self.history.iter().copied().collect()
    }
}

impl AsFd for Screen {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.out.as_fd()
    }
}

/// Output that waits for the terminal at most, and then stays on the stream: a screenful or two, so that
/// Ctrl-C takes effect soon.
const WAITING: usize = 16 * 1024;
/// PIPE_BUF: what a pipe that is writable takes.
const AT_ONCE: usize = 4096;
/// What the pager can show: some ten thousand lines. The oldest goes first.
const HISTORY: usize = 1024 * 1024;
