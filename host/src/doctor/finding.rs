//! What was found: how bad it is, what, and what to do, for people and for programs.

use std::fmt;

use serde_json::json;

/// How bad it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Level {
    /// As it should be.
    Ok,
    /// A server starts, and something will not be as it was meant.
    Warn,
    /// A server does not start, or does not do what it was asked for.
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

/// One thing that was looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Finding {
    pub(super) level: Level,
    /// What was looked at, in one word that stays.
    pub(super) check: &'static str,
    pub(super) text: String,
    /// What to do, to be pasted where that can be.
    pub(super) remedy: Option<String>,
}

impl Finding {
    pub(super) fn ok(check: &'static str, text: impl Into<String>) -> Self {
        Self { level: Level::Ok, check, text: text.into(), remedy: None }
    }

    pub(super) fn warn(check: &'static str, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { level: Level::Warn, check, text: text.into(), remedy: Some(remedy.into()) }
    }

    pub(super) fn error(check: &'static str, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { level: Level::Error, check, text: text.into(), remedy: Some(remedy.into()) }
    }

    /// The same with something to do, though nothing is wrong.
    pub(super) fn with_remedy(self, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..self }
    }
}

/// All that was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Report {
    pub(super) findings: Vec<Finding>,
}

impl Report {
    fn count(&self, level: Level) -> usize {
        self.findings.iter().filter(|finding| finding.level == level).count()
    }

    /// Something keeps a server from what it was asked for.
    pub(crate) fn has_errors(&self) -> bool {
        self.count(Level::Error) > 0
    }

    /// One JSON object, and the end of its line.
    pub(crate) fn json(&self) -> String {
        let findings = self.findings.iter().map(|finding| {
            json!({
                "level": finding.level.word(),
                "check": finding.check,
                "text": finding.text,
                "remedy": finding.remedy,
            })
        });
        let findings: Vec<_> = findings.collect();
        let (errors, warnings) = (self.count(Level::Error), self.count(Level::Warn));
        format!("{}\n", json!({ "errors": errors, "warnings": warnings, "findings": findings }))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Finding { level, check, text, remedy } in &self.findings {
            writeln!(f, "{:<5}  {check:<12}  {text}", level.word())?;
            for line in remedy.iter().flat_map(|remedy| remedy.lines()) {
                writeln!(f, "{:<5}  {:<12}  > {line}", "", "")?;
            }
        }
        let plural = |count: usize, one: &str| match count {
            1 => format!("1 {one}"),
            count => format!("{count} {one}s"),
        };
        let (errors, warnings) = (self.count(Level::Error), self.count(Level::Warn));
        writeln!(f, "{}, {}", plural(errors, "error"), plural(warnings, "warning"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_lines_for_people_and_one_object_for_programs() {
        let findings = vec![
            Finding::ok("user", "all is well"),
            Finding::error("redis", "no \"answer\"", "start it\nor do not"),
            Finding::warn("disk", "little", "buy one"),
        ];
        let report = Report { findings };
        let lines: Vec<String> = report.to_string().lines().map(str::to_owned).collect();
        assert_eq!(
            lines,
            [
                "ok     user          all is well",
                "error  redis         no \"answer\"",
                "                     > start it",
                "                     > or do not",
                "warn   disk          little",
                "                     > buy one",
                "1 error, 1 warning",
            ]
        );
        assert!(report.has_errors());
        let value: serde_json::Value = serde_json::from_str(&report.json()).unwrap();
        assert_eq!((&value["errors"], &value["warnings"]), (&json!(1), &json!(1)));
        assert_eq!(value["findings"][1]["remedy"], "start it\nor do not");
        assert_eq!(value["findings"][0]["remedy"], json!(null));
    }
}
