//! A look at the Redis that is to keep state, by somebody who wants nothing of it: whether it is there, lets
//! this server in, and can keep what it is told. Nothing is written.

use std::time::Duration;

use redis::{Connection, ErrorKind, RedisError, RedisResult};

use crate::options::Options;

/// What is found.
#[derive(Debug)]
pub(crate) struct Look {
    /// Where it is, without its password.
    pub(crate) place: String,
    /// What this server is called there.
    pub(crate) owner: String,
    pub(crate) version: Option<(u32, u32)>,
    pub(crate) is_replica: bool,
    /// It removes keys when its memory is full.
    pub(crate) evicts: bool,
    /// A server of this name runs, or did a moment ago.
    pub(crate) is_owner_live: bool,
}

/// Why it cannot be looked at. Where it is, and why.
#[derive(Debug)]
pub(crate) enum RedisTrouble {
    Url(String),
    Unreachable(String, String),
    /// It wants another password, or allows too little.
    Denied(String, String),
}

/// Looks at the Redis of these options. Waits for it, but not for long.
pub(crate) fn look(options: &Options, url: &str) -> Result<Look, RedisTrouble> {
    let settings = options.store.redis_settings(options, url);
    let settings = settings.map_err(|error| RedisTrouble::Url(error.to_string()))?;
    let place = settings.client.get_connection_info().addr().to_string();
    let trouble = |error: RedisError| {
        let words = error.to_string().replace('\n', " ");
        match is_denial(&error) {
            true => RedisTrouble::Denied(place.clone(), words),
            false => RedisTrouble::Unreachable(place.clone(), words),
        }
    };
    let mut connection = settings.client.get_connection_with_timeout(PATIENCE).map_err(trouble)?;
    connection
        .set_read_timeout(Some(PATIENCE))
        .and_then(|()| connection.set_write_timeout(Some(PATIENCE)))
        .map_err(trouble)?;
    let live: Option<String> = redis::cmd("GET")
        .arg(format!("vspc:live:{}", settings.owner))
        .query(&mut connection)
        .map_err(trouble)?;
    // Who may use keys need not be let look at the server.
    let of_server = info(&mut connection, "server").unwrap_or_default();
    let of_replication = info(&mut connection, "replication").unwrap_or_default();
    let of_memory = info(&mut connection, "memory").unwrap_or_default();
    let policy = value(&of_memory, "maxmemory_policy").unwrap_or("noeviction");
    let is_bounded = value(&of_memory, "maxmemory").is_some_and(|most| most != "0");
    Ok(Look {
        owner: settings.owner,
        version: value(&of_server, "redis_version").and_then(version),
        is_replica: value(&of_replication, "role") == Some("slave"),
        evicts: is_bounded && policy != "noeviction",
        is_owner_live: live.is_some(),
        place,
    })
}

fn is_denial(error: &RedisError) -> bool {
    let code = error.code().unwrap_or_default();
    error.kind() == ErrorKind::AuthenticationFailed || ["NOAUTH", "WRONGPASS", "NOPERM"].contains(&code)
}

fn info(connection: &mut Connection, section: &str) -> RedisResult<String> {
    redis::cmd("INFO").arg(section).query(connection)
}

/// What INFO says of something.
fn value<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.trim_end().strip_prefix(name)?.strip_prefix(':'))
}

fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn info_is_read_line_by_line() {
        let text = "# Server\r\nredis_version:7.0.15\r\nrole:slave\r\nmaxmemory_policy:noeviction\r\n";
        assert_eq!(value(text, "redis_version").and_then(version), Some((7, 0)));
        assert_eq!(value(text, "role"), Some("slave"));
        assert_eq!(value(text, "maxmemory"), None);
    }
}
