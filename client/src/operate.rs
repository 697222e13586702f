//! `vspc break`, `bump` and `kick`: one request each.

use serde_json::{Value, json};

use crate::args::{BumpArgs, KickArgs, NameArgs};
use crate::connection::Connection;
use crate::failure::Failure;
use crate::names::{name_of, reference, resolve};
use crate::output;

pub(crate) fn send_break(connection: &mut Connection, args: &NameArgs) -> Result<(), Failure> {
    let console = resolve(connection, &args.name)?;
    connection.call("break", json!({"console": reference(&console)})).map(drop)
}

pub(crate) fn bump(connection: &mut Connection, args: &BumpArgs) -> Result<(), Failure> {
    let console = resolve(connection, &args.name)?;
    let fields = json!({"console": reference(&console), "client": args.client, "reason": args.reason});
    let answer = connection.call("bump", fields)?;
    output::print([format!("{} sent away from {}", answer["bumped"], name_of(&console))])
}

pub(crate) fn kick(connection: &mut Connection, args: &KickArgs) -> Result<(), Failure> {
    let console = resolve(connection, &args.name)?;
    let name = name_of(&console);
    let who = connection.call("who", json!({"console": reference(&console)}))?;
    let ids = |of: &str| -> Vec<String> {
        let connections = who[of].as_array().into_iter().flatten();
        connections.filter_map(|one: &Value| one["id"].as_str().map(str::to_owned)).collect()
    };
    let meant = match &args.client {
        None => ids("legs"),
        Some(id) => {
            let known = ids("clients").into_iter().chain(ids("legs"));
            known.filter(|known| known == id).collect()
        }
    };
    if meant.is_empty() {
        return Err(Failure::error(match &args.client {
            None => format!("{name} has no connection of its VM"),
            Some(id) => format!("{name} has no connection {id}; `vspc who` shows those that it has"),
        }));
    }
    for id in &meant {
        connection.call("kick", json!({"client": id, "reason": args.reason}))?;
    }
    output::print([format!("{} cut", meant.join(", "))])
}
