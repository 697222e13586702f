//! Whether the Redis that is to keep state answers, lets this server in, and can keep it.

use super::Finding;
use super::running::Running;
use crate::options::Options;
use crate::store::{BackendArg, RedisTrouble, look_at_redis};

pub(super) fn check(options: &Options, running: Option<&Running>) -> Vec<Finding> {
    const CHECK: &str = "redis";
    let (BackendArg::Redis, Some(url)) = (options.store.backend, &options.store.redis_url) else {
        return Vec::new();
    };
    let found = match look_at_redis(options, url) {
        Err(RedisTrouble::Url(why)) => {
            return vec![Finding::error(CHECK, why, "--redis-url redis://[USER:PASSWORD@]HOST[:PORT][/DB]")];
        }
        Err(RedisTrouble::Unreachable(place, why)) => {
            let text = format!("{place} does not answer: {why}");
            return vec![Finding::error(
                CHECK,
                text,
                "start it, or correct --redis-url (redis-cli -u URL ping)",
            )];
        }
        Err(RedisTrouble::Denied(place, why)) => {
            let text = format!("{place} answers, and lets this server not in: {why}");
            return vec![Finding::error(
                CHECK,
                text,
                "--redis-url redis://USER:PASSWORD@HOST (redis.conf: requirepass, user)",
            )];
        }
        Ok(found) => found,
    };
    let place = &found.place;
    let mut findings = vec![match found.version {
        Some(version) if (version.0, version.1) < LEAST_VERSION => Finding::error(
            CHECK,
            format!("{place} is Redis {}.{}, older than this server knows", version.0, version.1),
            format!("use Redis {}.{} or later", LEAST_VERSION.0, LEAST_VERSION.1),
        ),
        Some((major, minor)) => Finding::ok(CHECK, format!("{place} answers, Redis {major}.{minor}")),
        None => Finding::ok(CHECK, format!("{place} answers, and does not tell its version")),
    }];
    if found.is_replica {
        findings.push(Finding::error(
            CHECK,
            format!("{place} is a replica and takes no writes"),
            "give --redis-url the address of its master",
        ));
    }
    if found.evicts {
        findings.push(Finding::warn(
            CHECK,
            format!("{place} throws keys away when its memory is full"),
            "redis-cli config set maxmemory-policy noeviction",
        ));
    }
    if found.is_owner_live {
        let owner = &found.owner;
        findings.push(match running {
            Some(_) => Finding::ok(CHECK, format!("the server that runs is called {owner} there")),
            None => Finding::error(
                CHECK,
                format!("a server called {owner} runs, or was killed within the last six seconds"),
                "stop that one, or choose another --redis-owner",
            ),
        });
    }
    findings
}

/// The first that surely has scripts, and SET with NX and PX.
const LEAST_VERSION: (u32, u32) = (2, 8);
