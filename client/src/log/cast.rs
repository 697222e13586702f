//! A log as an asciicast, version 2: a line of JSON about the terminal, and one for each piece of output with
//! the seconds since the first.
//!
//! Owns the form. Characters that are cut are put together; bytes that are none become U+FFFD, because the
//! form has text only.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde_json::json;

use crate::args::LogArgs;
use crate::failure::Failure;
use crate::output;
use crate::units;

/// An asciicast that is being written.
pub(super) struct Cast {
    out: Box<dyn Write>,
    size: (u16, u16),
    idle: Option<f64>,
    title: String,
    /// When it begins, in milliseconds since 1970.
    start: Option<u64>,
    /// Since then.
    now: u64,
    /// The beginning of a character.
    begun: Vec<u8>,
    /// Bytes of which nobody knows when they were printed.
    timeless: u64,
}

impl Cast {
    pub(super) fn create(path: &Path, args: &LogArgs) -> Result<Self, Failure> {
        let out: Box<dyn Write> =
            match path.to_str() {
                Some("-") => Box::new(io::stdout().lock()),
                _ => Box::new(File::create(path).map_err(|error| {
                    Failure::error(format!("{} cannot be written: {error}", path.display()))
                })?),
            };
        Ok(Self {
            out: Box::new(BufWriter::new(out)),
            size: args.size,
            idle: args.idle,
            title: args.console.name.clone(),
            start: None,
            now: 0,
            begun: Vec::new(),
            timeless: 0,
        })
    }

    /// What follows was printed at this time.
    pub(super) fn time(&mut self, millis: u64) {
        // A clock that was put back stands still meanwhile.
        let start = *self.start.get_or_insert(millis);
        self.now = self.now.max(millis.saturating_sub(start));
    }

    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        if self.start.is_none() {
            self.timeless += bytes.len() as u64;
            return Ok(());
        }
        self.begun.extend_from_slice(bytes);
        let whole = self.begun.len() - unfinished(&self.begun);
        let text = String::from_utf8_lossy(&self.begun[..whole]).into_owned();
        self.begun.drain(..whole);
        self.put(&text).map_err(|error| Failure::output(&error))
    }

    fn put(&mut self, text: &str) -> io::Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        self.head()?;
        let seconds = self.now as f64 / 1000.0;
        writeln!(self.out, "{}", json!([seconds, "o", text]))
    }

    /// Writes the first line, once.
    fn head(&mut self) -> io::Result<()> {
        let Some(start) = self.start else { return Ok(()) };
        if self.size == (0, 0) {
            return Ok(());
        }
        let (width, height) = std::mem::take(&mut self.size);
        let mut head = json!({
            "version": 2, "width": width, "height": height, "timestamp": start / 1000, "title": self.title,
        });
        if let Some(idle) = self.idle {
            head["idle_time_limit"] = idle.into();
        }
        writeln!(self.out, "{head}")
    }

    pub(super) fn finish(mut self) -> Result<(), Failure> {
        let rest = std::mem::take(&mut self.begun);
        let written = self.put(&String::from_utf8_lossy(&rest)).and_then(|()| self.head());
        written.and_then(|()| self.out.flush()).map_err(|error| Failure::output(&error))?;
        match (self.start, self.timeless) {
            (None, 0) => Err(Failure::error("nothing was printed in this time")),
            (None, _) => Err(Failure::error(
                "nobody knows when this was printed: a replay needs a log with --log-index or \
                 --log-timestamps",
            )),
            (Some(_), 0) => Ok(()),
            (Some(_), bytes) => {
                let bytes = units::bytes(bytes);
                output::tell(format_args!(
                    "{bytes} at the beginning are left out: nobody knows when they were printed"
                ));
                Ok(())
            }
        }
    }
}

/// How many bytes at the end may be the beginning of a character.
fn unfinished(bytes: &[u8]) -> usize {
    let tail = &bytes[bytes.len().saturating_sub(3)..];
    (0..tail.len())
        .find_map(|at| match std::str::from_utf8(&tail[at..]) {
            Err(error) if error.valid_up_to() == 0 && error.error_len().is_none() => Some(tail.len() - at),
            _ => None,
        })
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_of_a_character_waits_for_its_end() {
        for (bytes, waits) in [
            (&b"abc"[..], 0),
            ("\u{e4}".as_bytes(), 0),
            (&"x\u{e4}".as_bytes()[..2], 1),
            (&"\u{1f600}".as_bytes()[..3], 3),
            (&"\u{20ac}\u{20ac}".as_bytes()[..5], 2),
            (b"\xff\xfe", 0),
            (b"", 0),
        ] {
            assert_eq!(unfinished(bytes), waits, "{bytes:?}");
        }
    }
}
