//! `/metrics`, and what is written for it in packaging/.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::browser::{get, until};
use crate::openmetrics;
use crate::processes::{Gateway, Server};

#[test]
fn there_are_metrics_without_any_vm_and_of_each_console_only_where_they_are_asked_for() {
    let server = Server::start("metrics", &[]);
    let gateway = Gateway::of(&server);
    let empty = get(&gateway, "/metrics");
    assert!(empty.header("content-type").unwrap().starts_with("application/openmetrics-text; version=1.0.0"));
    let ours = empty.body.lines().filter(|line| line.starts_with("# TYPE vspc_")).count();
    assert!(ours >= 20, "{ours}");
    let series = openmetrics::read(&empty.body);
    for (name, value) in [
        ("vspc_up{server=\"lab\"}", 1.0),
        (concat!("vspc_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}"), 1.0),
        ("vspc_consoles{server=\"lab\",state=\"connected\"}", 0.0),
        ("vspc_goahead_seconds_bucket{server=\"lab\",le=\"+Inf\"}", 0.0),
        ("vspc_log_lag_bytes_count{server=\"lab\"}", 0.0),
        ("vspc_store_lag_seconds_count{server=\"lab\"}", 0.0),
        ("vspc_typing_seconds_sum{server=\"lab\"}", 0.0),
        ("vspc_waiting_bytes{server=\"lab\",way=\"typed\"}", 0.0),
        ("openstack_compute_vspc_active_connections", 0.0),
        ("openstack_compute_vspc_waiting_bytes_in_receive_queue", 0.0),
    ] {
        assert_eq!(series.get(name), Some(&value), "{name}");
    }
    let mut vms: Vec<_> = (1..=5).map(|n| server.vm(n, &format!("web{n}"))).collect();
    vms[0].print(b"login: ");
    until(&gateway, "/api/v1/consoles", |list| {
        list["consoles"].as_array().unwrap().len() == 5 && list["consoles"][0]["out"] == 7
    });
    let full = openmetrics::read(&get(&gateway, "/metrics").body);
    assert_eq!(full["vspc_consoles{server=\"lab\",state=\"connected\"}"], 5.0);
    assert_eq!(full["vspc_legs{server=\"lab\"}"], 5.0);
    assert_eq!(full["vspc_bytes_from_vm_total{server=\"lab\"}"], 7.0);
    // Names of VMs and counts of consoles are in no label; that of the host that they are all on is.
    let host = |name: &str| format!("vspc_host_{name}{{server=\"lab\",host=\"127.0.0.1\"}}");
    assert_eq!((full[&host("consoles")], full[&host("clients")]), (5.0, 0.0));
    let is_of_host = |name: &&String| name.starts_with("vspc_host_");
    assert!(full.keys().filter(|name| !is_of_host(name)).eq(series.keys()), "{full:?}");
    assert_eq!(full.len(), series.len() + 2);
    let evil = "a\"} 1\n\u{1b}[31m\\";
    vms.push(server.vm(6, evil));
    until(&gateway, "/api/v1/consoles", |list| list["consoles"].as_array().unwrap().len() == 6);
    let each = openmetrics::read(&get(&gateway, "/metrics?with=consoles").body);
    let of = |name: &str, console: &str| {
        let begin = format!("vspc_console_{name}{{server=\"lab\",console=\"{console}\",uuid=\"");
        each.iter().find(|(name, _)| name.starts_with(&begin)).map(|(_, value)| *value)
    };
    assert_eq!((of("printed_bytes_total", "web1"), of("connected", "web5")), (Some(7.0), Some(1.0)));
    let evil = "a\\\"} 1\u{fffd}\u{fffd}[31m\\\\";
    assert_eq!(of("clients", evil), Some(0.0), "{:?}", each.keys());
    assert_eq!(each["vspc_consoles_left_out"], 0.0);
    let some = openmetrics::read(&get(&gateway, "/metrics?with=consoles&q=web2").body);
    let told = |series: &std::collections::BTreeMap<String, f64>| {
        series.keys().filter(|name| name.starts_with("vspc_console_connected")).count()
    };
    assert_eq!((told(&full), told(&each), told(&some)), (0, 6, 1));
    assert_eq!(get(&gateway, &format!("/metrics?with=consoles&q={}", "x".repeat(300))).status, 400);
    assert!(get(&gateway, "/api/v1/stats").json()["counters"]["bytes_from_vm"].is_u64());
}

#[test]
fn each_count_says_what_is_counted() {
    let server = Server::start("counts", &[]);
    let gateway = Gateway::of(&server);
    let told = get(&gateway, "/metrics").body;
    let stats = get(&gateway, "/api/v1/stats").json();
    let mut helps: Vec<&str> = told.lines().filter_map(|line| line.strip_prefix("# HELP ")).collect();
    let unsaid: Vec<_> =
        helps.iter().filter(|help| help.contains("What the concentrator counts as")).collect();
    assert!(unsaid.is_empty(), "{unsaid:?}");
    assert!(helps.contains(&"vspc_breaks Breaks passed on to VMs."), "{helps:?}");
    // All of the server's are there, and no two say the same.
    for name in stats["counters"].as_object().unwrap().keys().filter(|name| !name.ends_with("_max")) {
        assert!(helps.iter().any(|help| help.starts_with(&format!("vspc_{name} "))), "{name}");
    }
    let names = helps.len();
    helps.iter_mut().for_each(|help| *help = help.split_once(' ').unwrap().1);
    helps.sort_unstable();
    helps.dedup();
    assert_eq!(helps.len(), names);
}

/// Prometheus's own reader, where it is installed.
#[test]
fn promtool_finds_no_fault() {
    let promtool = |args: &[&str]| Command::new("promtool").args(args).stdin(Stdio::piped()).spawn();
    let Ok(mut checking) = promtool(&["check", "rules", "../packaging/prometheus/vspc.rules.yml"]) else {
        assert!(std::env::var_os("VSPC_REQUIRE_PEERS").is_none(), "promtool has to be here");
        eprintln!("skipped: no promtool");
        return;
    };
    assert!(checking.wait().unwrap().success());
    let server = Server::start("promtool", &[]);
    let gateway = Gateway::of(&server);
    let mut checking = promtool(&["check", "metrics"]).unwrap();
    // It reads the older form, which has no end and no infos.
    let metrics = get(&gateway, "/metrics").body.replace("# EOF\n", "").replace(" info\n", " gauge\n");
    checking.stdin.take().unwrap().write_all(metrics.as_bytes()).unwrap();
    // 3 is what it says of names that it would have chosen otherwise.
    assert!(matches!(checking.wait().unwrap().code(), Some(0 | 3)));
}

#[test]
fn alerts_and_the_dashboard_are_about_what_is_told() {
    let server = Server::start("alerts", &[]);
    let gateway = Gateway::of(&server);
    let told = get(&gateway, "/metrics").body;
    let rules = include_str!("../../../packaging/prometheus/vspc.rules.yml");
    let dashboard = include_str!("../../../packaging/grafana/vspc.json");
    let parsed: Value = serde_json::from_str(dashboard).unwrap();
    let mut places: Vec<_> =
        parsed["panels"].as_array().unwrap().iter().map(|panel| panel["gridPos"].to_string()).collect();
    places.sort();
    places.dedup();
    assert_eq!(places.len(), parsed["panels"].as_array().unwrap().len(), "panels are over each other");
    let is_of_a_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let names = [rules, dashboard].into_iter().flat_map(|text| text.split(move |c| !is_of_a_name(c)));
    let mut count = 0;
    for name in names.filter(|name| name.starts_with("vspc_")) {
        assert!(told.lines().any(|line| line.starts_with(&format!("{name}{{"))), "{name}");
        count += 1;
    }
    assert!(count > 20, "{count}");
}
