//! Some of the load that a server is put to: drills of `load hostile`, and attaches beside clients.

use std::time::Duration;

use serde_json::Value;
use vspc_conformance::load::attaches::{self, AttachesArgs};
use vspc_conformance::load::hostile;

/// Plays some of the drills of `load hostile` for a second each: each has figures of everything that it
/// watches. What those are is no matter of a test beside others on a busy machine.
///
/// # Panics
///
/// A drill cannot be played, or nobody was there to be watched.
pub fn play(server: &str) {
    for (drill, moves) in [("takeover", true), ("connects", false), ("garbage", false)] {
        let figures = hostile::figures(drill, server, Duration::from_secs(1))
            .unwrap_or_else(|error| panic!("{drill}: {error}"));
        for count in ["/key/n", "/new_vm/n", "/lines", "/attackers/connections", "/cost/rss_after_kib"] {
            let count_is = figures.pointer(count).and_then(Value::as_u64);
            assert!(count_is > Some(0), "{drill}: {count}: {figures:#}");
        }
        assert!(!moves || figures["moves"].as_u64() > Some(0), "{drill}: {figures:#}");
        assert!(figures["ok"].is_boolean() && figures["drill"] == drill, "{figures:#}");
    }
}

/// Has each of some consoles read by a telnet client, and then by an attach of one operator connection.
///
/// # Panics
///
/// A line was lost, or came twice.
pub fn read_by_attaches(server: &str) {
    let report = attaches::run(&AttachesArgs::brief(server)).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(report.problems(), [""; 0], "{:?}", report.fields());
}
