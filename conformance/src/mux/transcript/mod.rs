//! Mux transcripts: what a peer says, what must be answered, readable and written by hand.
//!
//! ```text
//! # a comment
//! layer session            or: link. First line.
//! set role guest           configuration, before the first step (see `Settings`)
//! > 0000000000000001 00000003 616263     the peer sends this
//! < 0000000000000001 80000003            and all that is said now is this; `<` alone: nothing
//! ! read 1 "abc"           the owner acts: open ID, announce ID, attach ID, write ID BYTES, read ID BYTES, finish ID,
//!                          reset ID, stop ID, exit ID CODE, credit ID N, end ID (has ended), close, close CODE, goaway,
//!                          reopened (the line), speaks s2 | v1 | nothing
//! ? opened 1               the next event (readable, writable and started need not be told)
//! @ 1000                   milliseconds pass
//! ```
//!
//! BYTES are `"text"` or hex. Ids are decimal; `g1` is the guest's stream 1. A judge runs a transcript once
//! as it stands, once byte by byte, and once for every place where one of the peer's messages can be cut in
//! two: how bytes arrive must change nothing.

mod settings;
mod subject;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;
use vspc_core::mux::link::{Link, LinkConfig};
use vspc_core::mux::{Config, Role, Session};
use vspc_core::time::Instant;

use settings::{link_setting, session_setting};
use subject::Subject;

/// Why a transcript does not hold.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TranscriptError {
    /// It cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// It cannot be understood.
    #[error("line {line}: {what}")]
    Syntax {
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        what: String,
    },
    /// The implementation did something else.
    #[error("line {line}: {what} (input cut {cut})")]
    Judged {
        /// The line, from 1.
        line: usize,
        /// What was expected and what came.
        what: String,
        /// Where the input was cut.
        cut: Cut,
    },
}

/// Where a peer's bytes are cut.
#[derive(Clone, Copy, Debug)]
pub enum Cut {
    /// As the transcript has them.
    Nowhere,
    /// After every byte.
    Everywhere,
    /// After this many bytes.
    At(usize),
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nowhere => write!(f, "nowhere"),
            Self::Everywhere => write!(f, "everywhere"),
            Self::At(at) => write!(f, "after {at} bytes"),
        }
    }
}

#[derive(Debug)]
enum Step {
    Send(Vec<u8>),
    Expect(Vec<u8>),
    Act(Vec<String>),
    Event(String),
    Wait(u64),
}

/// A transcript, read.
#[derive(Debug)]
pub struct Transcript {
    link: bool,
    settings: Vec<(usize, String, String)>,
    steps: Vec<(usize, Step)>,
}

/// Files, and the `*.mux` files in folders, sorted.
pub fn collect(paths: &[PathBuf]) -> Result<Vec<PathBuf>, TranscriptError> {
    let io = |path: &Path| {
        let path = path.to_path_buf();
        |source| TranscriptError::Io { path, source }
    };
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            for entry in std::fs::read_dir(path).map_err(io(path))? {
                let file = entry.map_err(io(path))?.path();
                if file.extension().is_some_and(|extension| extension == "mux") {
                    files.push(file);
                }
            }
        } else {
            std::fs::metadata(path).map_err(io(path))?;
            files.push(path.clone());
        }
    }
    files.sort();
    Ok(files)
}

/// Reads and judges; says how many ways the input was cut.
pub fn judge_file(path: &Path) -> Result<usize, TranscriptError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| TranscriptError::Io { path: path.to_path_buf(), source })?;
    Transcript::parse(&text)?.judge()
}

impl Transcript {
    /// Reads a transcript.
    pub fn parse(text: &str) -> Result<Self, TranscriptError> {
        let mut transcript = Self { link: false, settings: Vec::new(), steps: Vec::new() };
        for (line, raw) in text.lines().enumerate().map(|(line, raw)| (line + 1, raw.trim())) {
            let syntax = |what: &str| TranscriptError::Syntax { line, what: what.to_string() };
            if raw.is_empty() || raw.starts_with('#') {
                continue;
            }
            let (sign, rest) = raw.split_once(char::is_whitespace).unwrap_or((raw, ""));
            let rest = rest.trim();
            let step = match sign {
                "layer" => {
                    transcript.link = match rest {
                        "link" => true,
                        "session" => false,
                        _ => return Err(syntax("a layer is `session` or `link`")),
                    };
                    continue;
                }
                "set" => {
                    let (key, value) = rest.split_once(' ').ok_or_else(|| syntax("set KEY VALUE"))?;
                    transcript.settings.push((line, key.to_string(), value.trim().to_string()));
                    continue;
                }
                ">" => Step::Send(bytes(rest).ok_or_else(|| syntax("neither hex nor \"text\""))?),
                "<" => Step::Expect(bytes(rest).ok_or_else(|| syntax("neither hex nor \"text\""))?),
                "!" => Step::Act(rest.splitn(3, ' ').map(str::to_string).collect()),
                "?" => Step::Event(rest.to_string()),
                "@" => Step::Wait(rest.parse().map_err(|_| syntax("milliseconds"))?),
                _ => return Err(syntax("a line starts with layer, set, >, <, !, ? or @")),
            };
            transcript.steps.push((line, step));
        }
        Ok(transcript)
    }

    /// Judges this implementation; says how many ways the input was cut.
    pub fn judge(&self) -> Result<usize, TranscriptError> {
        let total: usize =
            self.steps.iter().map(|(_, step)| if let Step::Send(b) = step { b.len() } else { 0 }).sum();
        let cuts = [Cut::Nowhere, Cut::Everywhere].into_iter().chain((1..total).map(Cut::At));
        let mut runs = 0;
        for cut in cuts {
            self.run(cut)?;
            runs += 1;
        }
        Ok(runs)
    }

    fn run(&self, cut: Cut) -> Result<(), TranscriptError> {
        let mut subject = self.subject()?;
        let mut fed = 0;
        let mut now = Instant::from_micros(0);
        let mut last = 0;
        for (line, step) in &self.steps {
            last = *line;
            let judged = |what: String| TranscriptError::Judged { line: *line, what, cut };
            match step {
                Step::Send(bytes) => {
                    let pieces: Vec<&[u8]> = match cut {
                        Cut::Everywhere => bytes.chunks(1).collect(),
                        Cut::At(at) if at > fed && at < fed + bytes.len() => {
                            let (a, b) = bytes.split_at(at - fed);
                            vec![a, b]
                        }
                        _ => vec![bytes],
                    };
                    fed += bytes.len();
                    for piece in pieces {
                        subject.hear(piece, now);
                    }
                }
                Step::Expect(want) => {
                    let said = subject.say(now);
                    if said != *want {
                        return Err(judged(format!("expected {}, was said {}", hex(want), hex(&said))));
                    }
                }
                Step::Act(words) => subject.act(words, now).map_err(judged)?,
                Step::Event(want) => {
                    let event = subject.event();
                    if event.as_deref() != Some(want) {
                        return Err(judged(format!("expected event `{want}`, came {event:?}")));
                    }
                }
                Step::Wait(millis) => {
                    let until = now + Duration::from_millis(*millis);
                    while let Some(due) = subject.due().filter(|due| *due <= until) {
                        now = due.max(now);
                        subject.timeout(now);
                        if subject.due().is_some_and(|next| next <= now) {
                            return Err(judged("a deadline that does not move".into()));
                        }
                    }
                    now = until;
                }
            }
        }
        let rest = subject.say(now);
        if !rest.is_empty() {
            let what = format!("said at the end, unexpected: {}", hex(&rest));
            return Err(TranscriptError::Judged { line: last, what, cut });
        }
        Ok(())
    }

    fn subject(&self) -> Result<Subject, TranscriptError> {
        if self.link {
            let mut config = LinkConfig::new(1);
            for (line, key, value) in &self.settings {
                link_setting(&mut config, key, value).ok_or_else(|| TranscriptError::Syntax {
                    line: *line,
                    what: format!("set {key} {value}?"),
                })?;
            }
            return Ok(Subject::Link(Box::new(Link::new(config))));
        }
        let mut config = Config::new(Role::Host);
        for (line, key, value) in &self.settings {
            session_setting(&mut config, key, value).ok_or_else(|| TranscriptError::Syntax {
                line: *line,
                what: format!("set {key} {value}?"),
            })?;
        }
        let session = Session::new(config, Instant::from_micros(0))
            .map_err(|error| TranscriptError::Syntax { line: 0, what: error.to_string() })?;
        Ok(Subject::Session(Box::new(session)))
    }
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    if let Some(text) = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        return Some(text.as_bytes().to_vec());
    }
    let digits: Option<Vec<u8>> = text
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect();
    let digits = digits?;
    (digits.len() % 2 == 0).then(|| digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

fn hex(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "nothing".into();
    }
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
