//! `vspc streams`: what is open in a guest, and who has opened it.

use serde_json::{Value, json};

use crate::args::StreamsArgs;
use crate::connection::Connection;
use crate::failure::Failure;
use crate::guest::Guest;
use crate::output;
use crate::printable::{json as json_text, printable};
use crate::table::table;

pub(crate) fn run(connection: &mut Connection, args: &StreamsArgs) -> Result<(), Failure> {
    let guest = Guest::find(connection, &args.console.name)?;
    let answer = connection.call("streams", json!({"console": guest.reference}))?;
    if args.json { output::print([json_text(&answer)]) } else { output::print(lines(&answer)) }
}

/// The answer, for people.
fn lines(answer: &Value) -> Vec<String> {
    let text = |of: &Value, key: &str| printable(of[key].as_str().unwrap_or("-")).into_owned();
    let list = |key: &str| answer[key].as_array().map_or(&[][..], Vec::as_slice);
    let may: Vec<_> = list("may").iter().filter_map(Value::as_str).map(printable).collect();
    let may = if may.is_empty() { "nothing".to_owned() } else { may.join(", ") };
    let mut lines = vec![format!("{}, which allows: {may}", text(answer, "agent"))];
    let row = |stream: &Value| {
        let what = stream["name"].as_str().or(stream["detail"].as_str()).unwrap_or("-");
        vec![text(stream, "kind"), text(stream, "who"), printable(what).into_owned()]
    };
    if !list("streams").is_empty() {
        lines.extend(table(&["KIND", "WHO", "WHAT"], &list("streams").iter().map(row).collect::<Vec<_>>()));
    }
    lines
}
