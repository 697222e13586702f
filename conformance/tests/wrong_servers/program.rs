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
        against(&server, &["--client-port", &base, "--only", "vmotion-two", "--only", "vmotion-abort"]);
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
    assert!(output.status.success() && text.contains("PROTOCOL §3.2") && text.contains("1 cases"), "{text}");
}
