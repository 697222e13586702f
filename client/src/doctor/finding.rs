//! What was found, in the form that the server's own doctor has (doctor.md), for people and for programs.

use serde_json::{Value, json};

use crate::printable::printable;

/// How bad it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Level {
    Ok,
    Warn,
    Error,
}

impl Level {
    const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// All that was found.
#[derive(Default, Debug)]
pub(super) struct Report(Vec<Finding>);

#[derive(Debug)]
struct Finding {
    level: Level,
    /// What was looked at, in one word that stays.
    check: &'static str,
    text: String,
    /// What to do, to be pasted where that can be; may have several lines.
    remedy: Option<String>,
}

impl Report {
    pub(super) fn ok(&mut self, check: &'static str, text: impl Into<String>) {
        self.0.push(Finding { level: Level::Ok, check, text: text.into(), remedy: None });
    }

    /// Not a fault, but something to paste.
    pub(super) fn paste(&mut self, check: &'static str, text: &str, lines: String) {
        self.0.push(Finding { level: Level::Ok, check, text: text.to_owned(), remedy: Some(lines) });
    }

    pub(super) fn warn(&mut self, check: &'static str, text: impl Into<String>, remedy: impl Into<String>) {
        self.0.push(Finding { level: Level::Warn, check, text: text.into(), remedy: Some(remedy.into()) });
    }

    pub(super) fn error(&mut self, check: &'static str, text: impl Into<String>, remedy: impl Into<String>) {
        self.0.push(Finding { level: Level::Error, check, text: text.into(), remedy: Some(remedy.into()) });
    }

    fn count(&self, level: Level) -> usize {
        self.0.iter().filter(|finding| finding.level == level).count()
    }

    pub(super) fn has_errors(&self) -> bool {
        self.count(Level::Error) > 0
    }

    pub(super) fn json(&self) -> Value {
        let findings = self.0.iter().map(|Finding { level, check, text, remedy }| {
            json!({ "level": level.word(), "check": check, "text": text, "remedy": remedy })
        });
        let findings: Vec<Value> = findings.collect();
        json!({
            "errors": self.count(Level::Error),
            "warnings": self.count(Level::Warn),
            "findings": findings,
        })
    }

    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for Finding { level, check, text, remedy } in &self.0 {
            lines.push(format!("{:<5}  {check:<12}  {}", level.word(), printable(text)));
            let remedy = remedy.iter().flat_map(|remedy| remedy.lines());
            lines.extend(remedy.map(|line| format!("{:<5}  {:<12}  > {}", "", "", printable(line))));
        }
        let plural = |count: usize, one: &str| match count {
            1 => format!("1 {one}"),
            count => format!("{count} {one}s"),
        };
        let (errors, warnings) = (self.count(Level::Error), self.count(Level::Warn));
        lines.push(format!("{}, {}", plural(errors, "error"), plural(warnings, "warning")));
        lines
    }
}
