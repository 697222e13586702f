//! `vspc break`, `bump`, `kick`, `give-input`, `reload` and `drain`: one request each.

use serde_json::{Value, json};

use crate::args::{BreakArgs, BumpArgs, DrainArgs, GiveInputArgs, KickArgs, ReloadArgs};
use crate::connection::Connection;
use crate::failure::Failure;
use crate::names::{self, name_of, reference, resolve};
use crate::output;
use crate::printable::printable;

pub(crate) fn send_break(connection: &mut Connection, args: &BreakArgs) -> Result<(), Failure> {
    let console = resolve(connection, &args.console.name)?;
    let fields = json!({"console": reference(&console), "reason": args.reason});
    connection.call("break", fields).map(drop)
}

pub(crate) fn bump(connection: &mut Connection, args: &BumpArgs) -> Result<(), Failure> {
    let console = resolve(connection, &args.console.name)?;
    let fields = json!({"console": reference(&console), "client": args.client, "reason": args.reason});
    let answer = connection.call("bump", fields)?;
    output::print([format!("{} sent away from {}", answer["bumped"], name_of(&console))])
}

pub(crate) fn kick(connection: &mut Connection, args: &KickArgs) -> Result<(), Failure> {
    let console = resolve(connection, &args.console.name)?;
    let name = name_of(&console);
    let [clients, legs] = ids(connection, &console)?;
    let meant = match &args.client {
        None => legs,
        Some(id) => clients.into_iter().chain(legs).filter(|known| known == id).collect(),
    };
    if meant.is_empty() {
        return Err(match &args.client {
            None => Failure::error(format!("{name} has no connection of its VM")),
            Some(id) => unknown(&name, id),
        });
    }
    for id in &meant {
        connection.call("kick", json!({"client": id, "reason": args.reason}))?;
    }
    output::print([format!("{} cut", meant.join(", "))])
}

pub(crate) fn give_input(connection: &mut Connection, args: &GiveInputArgs) -> Result<(), Failure> {
    let console = resolve(connection, &args.console.name)?;
    let name = name_of(&console);
    let [_, legs] = ids(connection, &console)?;
    if !legs.contains(&args.leg) {
        return Err(unknown(&name, &args.leg));
    }
    connection.call("give-input", json!({"console": reference(&console), "leg": args.leg}))?;
    output::print([format!("{} gets what is typed at {name}", args.leg)])
}

/// Has a server load anew, and prints what came of it: what has changed and what takes a restart. What is
/// wrong is the failure.
pub(crate) fn reload(connection: &mut Connection, args: &ReloadArgs) -> Result<(), Failure> {
    let answer = connection.call("reload", Value::Null)?;
    let lines = |of: &str| -> Vec<String> {
        let all = answer[of].as_array().into_iter().flatten();
        all.filter_map(|line| line.as_str().map(|line| printable(line).into_owned())).collect()
    };
    let (changed, restart, faults) = (lines("changed"), lines("restart"), lines("faults"));
    if args.json {
        output::print([answer.to_string()])?;
    } else if !answer["changed"].is_array() {
        // A server from before there were answers.
        output::print([format!("{} loads anew; its log tells what came of it", connection.server())])?;
    } else if changed.is_empty() && restart.is_empty() && faults.is_empty() {
        output::print(["no option has changed".to_owned()])?;
    } else {
        output::print(changed.into_iter().chain(restart))?;
    }
    if faults.is_empty() { Ok(()) } else { Err(Failure::error(faults.join("; "))) }
}

/// Ends a server. Whoever is at a terminal is asked first: it may be another than was meant.
pub(crate) fn drain(connection: &mut Connection, args: &DrainArgs) -> Result<(), Failure> {
    let server = connection.server().to_string();
    if !args.yes && names::may_ask() && !names::ask(&format!("End the server {server}? (y/n) ")).eq("y") {
        return Err(Failure::error("nothing was done"));
    }
    connection.call("drain", Value::Null)?;
    output::print([format!("{server} ends; its log tells when it has")])
}

/// The ids of a console's clients and of its VM's connections.
fn ids(connection: &mut Connection, console: &Value) -> Result<[Vec<String>; 2], Failure> {
    let who = connection.call("who", json!({"console": reference(console)}))?;
    Ok(["clients", "legs"].map(|of| {
        let connections = who[of].as_array().into_iter().flatten();
        connections.filter_map(|one: &Value| one["id"].as_str().map(str::to_owned)).collect()
    }))
}

fn unknown(name: &str, id: &str) -> Failure {
    Failure::error(format!("{name} has no connection {id}; `vspc who` shows those that it has"))
}
