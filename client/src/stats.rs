//! `vspc stats`: the server's counters.

use serde_json::{Value, json};

use crate::args::StatsArgs;
use crate::connection::Connection;
use crate::failure::Failure;
use crate::output;
use crate::printable::{json as json_text, printable};
use crate::table::columns;

pub(crate) fn run(connection: &mut Connection, args: &StatsArgs) -> Result<(), Failure> {
    let answer = connection.call("stats", json!({}))?;
    if args.json {
        return output::print([json_text(&answer)]);
    }
    let mut rows = Vec::new();
    collect("", &answer, &mut rows);
    output::print(columns(&rows))
}

/// One row for each number; groups of them are named with a dot. The steps of histograms are for `--json`.
fn collect(prefix: &str, value: &Value, rows: &mut Vec<Vec<String>>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let dot = if prefix.is_empty() { "" } else { "." };
                collect(&format!("{prefix}{dot}{}", printable(key)), value, rows);
            }
        }
        Value::Array(_) => {}
        value => rows.push(vec![prefix.to_owned(), printable(&value.to_string()).into_owned()]),
    }
}
