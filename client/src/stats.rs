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

/// One row for each number, and one for each histogram (operator.md §5); groups are named with a dot.
fn collect(prefix: &str, value: &Value, rows: &mut Vec<Vec<String>>) {
    match value {
        Value::Object(histogram) if histogram.contains_key("count") && histogram.contains_key("p50") => {
            let part = |key: &str| format!("{key} {}", value[key]);
            rows.push(vec![prefix.to_owned(), ["count", "p50", "p99", "max"].map(part).join(", ")]);
        }
        Value::Object(fields) => {
            for (key, value) in fields {
                let name = match (prefix, key.as_str()) {
                    ("", "counters") => String::new(),
                    ("", key) => printable(key).into_owned(),
                    (prefix, key) => format!("{prefix}.{}", printable(key)),
                };
                collect(&name, value, rows);
            }
        }
        value => rows.push(vec![prefix.to_owned(), printable(&value.to_string()).into_owned()]),
    }
}
