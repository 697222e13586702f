//! `vspc who`: who is at a console, and what feeds it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::args::WhoArgs;
use crate::connection::Connection;
use crate::failure::Failure;
use crate::names::{reference, resolve};
use crate::output;
use crate::printable::{json as json_text, printable};
use crate::table::table;
use crate::units;

pub(crate) fn run(connection: &mut Connection, args: &WhoArgs) -> Result<(), Failure> {
    let console = resolve(connection, &args.console.name)?;
    let answer = connection.call("who", json!({"console": reference(&console)}))?;
    if args.json { output::print([json_text(&answer)]) } else { output::print(lines(&answer)) }
}

/// The answer to `who`, for people.
pub(crate) fn lines(answer: &Value) -> Vec<String> {
    let text = |of: &Value, key: &str| printable(of[key].as_str().unwrap_or("-")).into_owned();
    let clients = answer["clients"].as_array().map_or(&[][..], Vec::as_slice);
    let legs = answer["legs"].as_array().map_or(&[][..], Vec::as_slice);
    let row = |client: &Value| {
        let since =
            client["since_ms"].as_u64().map_or("-".to_owned(), |ms| units::span(Duration::from_millis(ms)));
        let you = if client["you"] == true { "you" } else { "" };
        vec![
            text(client, "id"),
            text(client, "who"),
            text(client, "from"),
            text(client, "speaks"),
            text(client, "access"),
            text(client, "lock"),
            since,
            you.to_owned(),
        ]
    };
    let mut lines = match clients {
        [] => vec!["nobody is there".to_owned()],
        clients => table(&HEADING, &clients.iter().map(row).collect::<Vec<_>>()),
    };
    for leg in legs {
        let input = if leg["holds_input"] == true { ", which gets what is typed" } else { "" };
        lines.push(format!("VM connection {} from {}{input}", text(leg, "id"), text(leg, "from")));
    }
    lines
}

const HEADING: [&str; 8] = ["ID", "WHO", "FROM", "SPEAKS", "ACCESS", "LOCK", "SINCE", ""];
