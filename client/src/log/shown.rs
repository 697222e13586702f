//! A log on the standard output: all of it as it is, or the lines that are wanted.

use std::collections::VecDeque;
use std::io::{self, BufWriter, StdoutLock, Write};

use regex_lite::Regex;

use super::lines::Lines;
use crate::args::LogArgs;
use vspc_operator::strip::Strip;

use crate::failure::Failure;

/// What is shown of a log.
pub(super) struct Shown {
    out: BufWriter<StdoutLock<'static>>,
    strip: Option<Strip>,
    picked: Option<Picked>,
}

/// Lines that are wanted.
struct Picked {
    pattern: Option<Regex>,
    lines: Lines,
    /// The last so many of them, where no others are.
    last: Option<(usize, VecDeque<Vec<u8>>)>,
}

impl Shown {
    /// `last`: only so many of the last lines of what comes.
    pub(super) fn new(args: &LogArgs, last: Option<usize>) -> Result<Self, Failure> {
        let pattern = args.grep.as_deref().map(Regex::new).transpose();
        let pattern = pattern.map_err(|error| Failure::usage(format!("--grep: {error}")))?;
        let is_picked = pattern.is_some() || last.is_some();
        let last = last.map(|lines| (lines, VecDeque::new()));
        Ok(Self {
            out: BufWriter::with_capacity(64 << 10, io::stdout().lock()),
            strip: args.strip_ansi.then(Strip::default),
            picked: is_picked.then(|| Picked { pattern, lines: Lines::default(), last }),
        })
    }

    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let mut stripped = Vec::new();
        let bytes = match &mut self.strip {
            Some(strip) => {
                strip.take(bytes, &mut stripped);
                &stripped
            }
            None => bytes,
        };
        let Some(Picked { pattern, lines, last }) = &mut self.picked else {
            return self.out.write_all(bytes).map_err(|error| Failure::output(&error));
        };
        let mut written = Ok(());
        lines.take(bytes, |line| {
            if is_wanted(pattern.as_ref(), line) && written.is_ok() {
                written = pick(&mut self.out, last, line);
            }
        });
        written.map_err(|error| Failure::output(&error))
    }

    /// What has come by now is seen.
    pub(super) fn flush(&mut self) -> Result<(), Failure> {
        self.out.flush().map_err(|error| Failure::output(&error))
    }

    pub(super) fn finish(mut self) -> Result<(), Failure> {
        if let Some(Picked { pattern, lines, mut last }) = self.picked {
            let rest = lines.finish();
            let mut written = Ok(());
            if !rest.is_empty() && is_wanted(pattern.as_ref(), &rest) {
                written = pick(&mut self.out, &mut last, &rest);
            }
            for line in last.into_iter().flat_map(|(_, lines)| lines) {
                written = written.and_then(|()| self.out.write_all(&line));
            }
            written.map_err(|error| Failure::output(&error))?;
        }
        self.out.flush().map_err(|error| Failure::output(&error))
    }
}

fn pick(out: &mut impl Write, last: &mut Option<(usize, VecDeque<Vec<u8>>)>, line: &[u8]) -> io::Result<()> {
    let Some((most, kept)) = last else { return out.write_all(line) };
    kept.push_back(line.to_vec());
    if kept.len() > *most {
        kept.pop_front();
    }
    Ok(())
}

/// Whether a line matches: its text, without what acts on a terminal.
fn is_wanted(pattern: Option<&Regex>, line: &[u8]) -> bool {
    let Some(pattern) = pattern else { return true };
    let mut text = Vec::new();
    Strip::default().take(line, &mut text);
    pattern.is_match(String::from_utf8_lossy(&text).trim_end_matches(['\r', '\n']))
}
