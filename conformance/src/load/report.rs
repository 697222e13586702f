//! How a run is told: one line for people or one JSON object for machines, and an exit code.

use std::process::ExitCode;

use serde_json::{Map, Value, json};

use super::LoadError;

/// What a scenario found. Its line is made of the parts in the order in which they were put.
#[derive(Debug, Default)]
pub struct Report {
    words: Vec<String>,
    fields: Map<String, Value>,
    problems: Vec<String>,
}

impl Report {
    /// A report that says nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A part of the line.
    pub fn say(&mut self, words: impl Into<String>) {
        self.words.push(words.into());
    }

    /// A field of the object.
    pub fn put(&mut self, key: &str, value: impl Into<Value>) {
        self.fields.insert(key.to_owned(), value.into());
    }

    /// Something that makes the run a failure.
    pub fn problem(&mut self, problem: impl Into<String>) {
        self.problems.push(problem.into());
    }

    /// The parts of the line.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        self.words.iter().map(String::as_str)
    }

    /// The fields of the object.
    #[must_use]
    pub fn fields(&self) -> &Map<String, Value> {
        &self.fields
    }

    /// Adds all of another's.
    pub fn merge(&mut self, other: Self) {
        self.words.extend(other.words);
        self.fields.extend(other.fields);
        self.problems.extend(other.problems);
    }

    /// What made the run a failure.
    #[must_use]
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// The line.
    #[must_use]
    pub fn line(&self, scenario: &str) -> String {
        let verdict = if self.problems.is_empty() { "ok" } else { "FAILED" };
        format!("{scenario}: {} - {verdict}", self.words.join(", "))
    }

    /// The object.
    #[must_use]
    pub fn json(&self, scenario: &str) -> Value {
        let mut fields = self.fields.clone();
        fields.insert("scenario".into(), json!(scenario));
        fields.insert("ok".into(), json!(self.problems.is_empty()));
        fields.insert("problems".into(), json!(self.problems));
        Value::Object(fields)
    }
}

/// Prints what a scenario found and turns it into an exit code.
pub(super) fn conclude(scenario: &str, as_json: bool, outcome: Result<Report, LoadError>) -> ExitCode {
    match outcome {
        Ok(report) => {
            if as_json {
                println!("{}", report.json(scenario));
            } else {
                println!("{}", report.line(scenario));
            }
            for problem in report.problems() {
                eprintln!("{scenario}: {problem}");
            }
            ExitCode::from(u8::from(!report.problems.is_empty()))
        }
        Err(error) => {
            if as_json {
                println!("{}", json!({"scenario": scenario, "ok": false, "problems": [error.to_string()]}));
            }
            eprintln!("{scenario}: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_makes_the_verdict() {
        let mut report = Report::new();
        report.say("3 VMs");
        report.put("vms", 3);
        assert_eq!(report.line("storm"), "storm: 3 VMs - ok");
        report.problem("one is missing");
        assert_eq!(report.line("storm"), "storm: 3 VMs - FAILED");
        assert_eq!(
            report.json("storm"),
            json!({"scenario": "storm", "ok": false, "vms": 3, "problems": ["one is missing"]})
        );
    }
}
