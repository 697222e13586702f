//! The standard output of commands that print lines.

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
