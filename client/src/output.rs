//! The standard output of commands that print lines, and what is told on the standard error.

use std::fmt::Display;
use std::io::{self, Write};

use crate::failure::Failure;

/// Prints lines, and sees to it that they leave.
pub(crate) fn print(lines: impl IntoIterator<Item = impl Display>) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let mut lines = lines.into_iter();
    let written = lines.try_for_each(|line| writeln!(out, "{line}")).and_then(|()| out.flush());
    written.map_err(|error| Failure::output(&error))
}

/// Tells people something, in a line of its own. Nobody may read it: that is no reason to end.
pub(crate) fn tell(text: impl Display) {
    let _ = writeln!(io::stderr(), "vspc: {text}");
}

/// Shows text on the standard error as it is, if somebody reads it.
pub(crate) fn show(text: impl Display) {
    let _ = write!(io::stderr(), "{text}");
}
