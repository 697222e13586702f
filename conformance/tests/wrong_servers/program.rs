//! `vspc-conformance check` as a program, against the small server over TCP.

use std::process::{Command, Output};

use serde_json::Value;

use crate::server::Fault;
use crate::tcp::Tcp;

fn check(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vspc-conformance")).arg("check").args(arguments).output().unwrap()
}

fn against(server: &Tcp, arguments: &[&str]) -> (i32, Value) {
    let target = server.vms.to_string();
    let output = check(&[&["--json", "--target", &target], arguments].concat());
    let text = String::from_utf8_lossy(&output.stdout);
    let json = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}{output:?}"));
    (output.status.code().unwrap_or(-1), json)
}

fn count(json: &Value, verdict: &str) -> usize {
    json["cases"].as_array().map_or(0, |cases| cases.iter().filter(|case| case["verdict"] == verdict).count())
}

fn failed(json: &Value) -> Vec<&str> {
    let cases = json["cases"].as_array().map(Vec::as_slice).unwrap_or_default();
    cases.iter().filter(|case| case["verdict"] == "fail").filter_map(|case| case["id"].as_str()).collect()
}

#[test]
fn client_ports_are_found_by_what_vms_print() {
    let server = Tcp::start(Fault::None, true);
    let base = server.first_client_port.to_string();
    let (code, json) =
        against(&server, &["--client-port-base", &base, "--only", "identity", "--only", "telnet-a"]);
    assert_eq!((code, failed(&json)), (0, vec![]), "{json:#}");
    assert!(count(&json, "pass") > 20, "{json:#}");
}

#[test]
fn one_client_port_serves_the_cases_of_one_vm() {
    let server = Tcp::start(Fault::None, true);
    let base = server.first_client_port.to_string();
    let (code, json) =
        against(&server, &["--client-port", &base, "--only", "vmotion-two", "--only", "vmotion-abort*"]);
    assert_eq!((code, failed(&json)), (0, vec![]), "{json:#}");
    assert!(count(&json, "pass") > 5 && count(&json, "not offered") > 0, "{json:#}");
}

#[test]
fn a_server_without_clients_is_checked_as_far_as_it_goes() {
    let server = Tcp::start(Fault::None, false);
    let (code, json) = against(&server, &["--only", "vmware"]);
    assert_eq!((code, failed(&json)), (0, vec![]), "{json:#}");
    assert!(count(&json, "pass") > 10 && count(&json, "not offered") > 3, "{json:#}");
}

#[test]
fn a_fault_is_named_and_the_exit_code_says_so() {
    let server = Tcp::start(Fault::BelievesAnySecret, true);
    let base = server.first_client_port.to_string();
    let (code, json) = against(&server, &["--client-port-base", &base, "--only", "secret"]);
    assert_eq!(code, 1);
    assert!(failed(&json).contains(&"vmotion-wrong-secret"), "{json:#}");
    let case =
        json["cases"].as_array().and_then(|cases| cases.iter().find(|c| c["id"] == "vmotion-wrong-secret"));
    let got = case.and_then(|case| case["why"]["got"].as_str()).unwrap_or_default();
    assert!(got.contains("VMOTION-PEER-OK"), "{json:#}");
}

#[test]
fn when_the_server_dies_the_rest_is_not_run() {
    let server = Tcp::start(Fault::CompleteCrashes, true);
    let base = server.first_client_port.to_string();
    let (code, json) = against(&server, &["--jobs", "1", "--client-port-base", &base, "--only", "complete"]);
    assert_eq!(code, 1);
    assert!(count(&json, "not run") > 0, "{json:#}");
    let last = json["died_during"].as_array().map(Vec::as_slice).unwrap_or_default();
    let last: Vec<&str> = last.iter().filter_map(Value::as_str).collect();
    let [last] = last.as_slice() else { panic!("{json:#}") };
    assert!(last.contains("complete") && failed(&json).contains(last), "{json:#}");
    assert!(json["summary"].as_str().is_some_and(|text| text.ends_with(last)), "{json:#}");
}

#[test]
fn a_case_that_is_named_in_full_is_played_alone_and_parts_of_names_choose_many() {
    let ids = |only: &str| -> Vec<String> {
        let output = check(&["--list", "--json", "--only", only]);
        let json: Value = serde_json::from_slice(&output.stdout).unwrap();
        let cases = json["cases"].as_array().map(Vec::as_slice).unwrap_or_default();
        cases.iter().filter_map(|case| case["id"].as_str()).map(str::to_owned).collect()
    };
    assert_eq!(ids("vmotion-abort"), ["vmotion-abort"]);
    assert!(
        ids("vmotion-abort*").len() > 5
            && ids("vmotion-abort*").iter().all(|id| id.starts_with("vmotion-abort"))
    );
    assert!(ids("*-without-client").len() > 20);
    assert_eq!(ids("*-without-client"), ids("*without-client*"));
    assert_eq!(ids("after-peer"), ["vmotion-abort-after-peer", "vmotion-begin-replaces-after-peer"]);
    // Named in full, a case is played though it takes long, or binds this project's servers only.
    assert_eq!(ids("vmotion-silence-for-a-minute").len(), 1);
    assert_eq!(ids("identity-timer-is-off").len(), 1);
    assert!(ids("clients").contains(&"client-fan-out".to_owned()));
}

#[test]
fn each_case_is_a_line_of_json_as_soon_as_it_ends() {
    let server = Tcp::start(Fault::None, false);
    let target = server.vms.to_string();
    let output = check(&["--json", "--target", &target, "--only", "rfc1143"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    let [head, cases @ .., tail] = lines.as_slice() else { panic!("{text}") };
    assert!(head.starts_with("{\"target\":") && tail.starts_with("],"), "{text}");
    let ids: Vec<Value> = cases
        .iter()
        .map(|line| serde_json::from_str::<Value>(line.trim_end_matches(',')).unwrap()["id"].clone())
        .collect();
    assert!(ids.len() > 5 && ids.iter().all(Value::is_string), "{text}");
}

#[test]
fn what_cannot_be_run_is_said_in_a_line() {
    for (arguments, says) in [
        (&["--target", "127.0.0.1:1"][..], "nobody takes connections"),
        (&["--target", "nowhere"], "write host:port"),
        (&["--target", "127.0.0.1:1", "--only", "no such case"], "no case is called so"),
    ] {
        let output = check(arguments);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(says) && text.lines().count() == 1, "{text}");
    }
}

#[test]
fn cases_are_listed_with_their_source() {
    let output = check(&["--list", "--only", "vmotion-abort-then-again"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.contains("vmotion.md §4") && text.contains("1 cases"), "{text}");
}
