//! The command line, row by row.

use std::sync::Arc;

use clap::CommandFactory;
use vspc_core::concentrator::{PortRange, SocketFile};

use super::*;
use crate::config::{self, Parsed, Surroundings};
use crate::option_checks::LEAST_LAG;

pub(crate) fn parse(args: &str) -> Result<Options, String> {
    let args = ["vspc"].into_iter().chain(args.split_whitespace());
    match config::read("vspc", args, &Surroundings::default()) {
        Ok(Parsed::Serve(options) | Parsed::Check(options) | Parsed::Examine(options, _)) => Ok(*options),
        Ok(Parsed::Print(text)) => Err(text),
        Ok(Parsed::Document(pages, _)) => Err(format!("{pages:?}")),
        #[cfg(feature = "tls")]
        Ok(Parsed::Make(cert)) => Err(format!("{cert:?}")),
        Err(fatal) => {
            assert_eq!(fatal.exit_code(), 2, "{fatal}");
            Err(fatal.to_string())
        }
    }
}

#[test]
fn the_command_line_is_well_formed() {
    Options::command().debug_assert();
}

#[test]
fn no_options_mean_the_cores_defaults() {
    let defaults = Config::default();
    let config = parse("").unwrap().config(defaults.max_descriptors);
    // The core opens no admin port by itself.
    assert_eq!(config.admin_listen, [Address::Ip(([127, 0, 0, 1], 13371).into())]);
    let config = Config { admin_listen: Vec::new(), ..config };
    assert_eq!(format!("{config:?}"), format!("{defaults:?}"));
}

#[test]
fn an_admin_socket_is_beside_the_port_or_instead_of_it() {
    let options = parse("--admin-socket /run/vspc --admin-socket-mode 600 --admin-socket-group 7").unwrap();
    let file = SocketFile { path: "/run/vspc".into(), mode: 0o600, owner: None, group: Some(7) };
    let socket = Address::Unix(Arc::new(file));
    assert_eq!(options.config(10).admin_listen[1..], [socket]);
    let config = parse("--admin-socket /run/vspc --no-admin --admin-socket-group root").unwrap().config(10);
    let file = SocketFile { path: "/run/vspc".into(), mode: 0o660, owner: None, group: Some(0) };
    assert_eq!(config.admin_listen, [Address::Unix(Arc::new(file))]);
    for wrong in ["--admin-socket-mode 8", "--admin-socket-mode 1777", "--admin-socket-group no:such"] {
        let why = parse(&format!("--admin-socket /run/vspc {wrong}")).unwrap_err();
        assert!(why.contains(wrong.split(' ').next().unwrap()), "{why}");
    }
}

#[test]
fn where_hosts_connect_is_said_by_port_and_address_or_in_one_word_or_both() {
    let listen = |args: &str| {
        let all = parse(args).unwrap().config(10).vm_listen;
        all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    for (args, places) in [
        ("", "0.0.0.0:13370"),
        ("--vm-listen 10.0.0.1:7", "10.0.0.1:7"),
        (
            "--vm-listen tcp://[::1]:7 --vm-listen /run/vm,mode=600 --vm-listen vsock:8",
            "[::1]:7 /run/vm vsock:8",
        ),
        ("--vm-listen fd:vm --proxy-port 9", "0.0.0.0:9 fd:vm"),
        ("--vm-listen 10.0.0.1:7 --proxy-iface 10.0.0.2", "10.0.0.2:13370 10.0.0.1:7"),
        // What another serves already is not opened twice.
        ("--vm-listen 10.0.0.1:9 --vm-listen 10.0.0.1:8 --proxy-port 9", "0.0.0.0:9 10.0.0.1:8"),
        ("--vm-listen fd:vm --vm-listen fd:vm", "fd:vm"),
    ] {
        assert_eq!(listen(args), places, "{args}");
    }
    assert_eq!(parse("--vm-listen 10.0.0.1:7").unwrap().vm_port(), 7);
    assert_eq!(parse("--vm-listen vsock:7").unwrap().vm_port(), 13370);
}

#[test]
fn where_the_admin_port_is_may_be_said_in_one_word_and_then_it_has_to_be_there() {
    let listen = |args: &str| {
        let options = parse(args).unwrap();
        let all = options.config(10).admin_listen;
        let all = all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        (all, options.needs_admin(), options.exposed_admin().is_some())
    };
    for (args, places, is_needed, is_exposed) in [
        ("", "127.0.0.1:13371", false, false),
        ("--admin-listen unix:/run/a", "/run/a", true, false),
        ("--admin-listen 10.0.0.1:7 --admin-socket /run/a", "/run/a 10.0.0.1:7", true, true),
        ("--admin-listen fd:admin --admin-port 9", "127.0.0.1:9 fd:admin", true, false),
        ("--admin-listen vsock:2:9 --no-admin", "vsock:2:9", true, false),
        ("--no-admin", "", false, false),
    ] {
        assert_eq!(listen(args), (places.to_owned(), is_needed, is_exposed), "{args}");
    }
}

#[test]
fn every_option_reaches_the_configuration() {
    let config = parse(
        "--proxy-port 1 --proxy-iface 10.0.0.1,[2001:db8::1] --proxy-iface 10.0.0.2 --service-uri u \
         --multi-console --identify-timeout 2 --vm-expire-time 3 --interface ::1 --port-range-start 4 \
         --port-range-end 5 --max-clients 6 --raw-ports --no-banner --vm-port-scrollback 7 \
         --slow-client wait --lag-limit 1M --scrollback 8K --journal-memory 9M --takeover refuse",
    )
    .unwrap()
    .config(10);
    let listen: Vec<String> = config.vm_listen.iter().map(ToString::to_string).collect();
    assert_eq!(listen, ["10.0.0.1:1", "[2001:db8::1]:1", "10.0.0.2:1"]);
    assert_eq!(config.service_uri.as_deref(), Some("u"));
    assert!(config.multi_console && !config.banner);
    assert_eq!(config.identify_timeout, Duration::from_secs(2));
    assert_eq!(config.vm_expire, Duration::from_secs(3));
    assert_eq!(config.client_interface.ip(), "::1".parse().ok());
    assert_eq!(config.client_ports, Some(PortRange { first: 4, last: 5 }));
    assert_eq!((config.max_clients, config.raw_ports), (Some(6), true));
    assert_eq!(parse("--max-clients none").unwrap().config(10).max_clients, None);
    assert_eq!((config.client_scrollback, config.scrollback, config.lag_limit), (7, 8 << 10, 1 << 20));
    assert_eq!(config.slow_client, SlowClient::Wait);
    assert_eq!(config.takeover, Takeover::Refuse);
    assert_eq!((config.journal_memory, config.max_descriptors), (9 << 20, 10));
    assert_eq!(parse("--no-vm-ports").unwrap().config(10).client_ports, None);
    let any_port = parse("--port-range-start 0").unwrap().config(10);
    assert_eq!(any_port.client_ports, Some(PortRange { first: 0, last: 0 }));
}

#[test]
fn an_address_that_another_covers_is_not_listened_on_twice() {
    for (given, kept) in [
        ("0.0.0.0,::", "[::]:9"),
        ("::,127.0.0.1,::1", "[::]:9"),
        ("127.0.0.1,0.0.0.0,::1", "0.0.0.0:9 [::1]:9"),
        ("127.0.0.1,127.0.0.1", "127.0.0.1:9"),
        ("::ffff:127.0.0.1,[::ffff:10.0.0.1],127.0.0.1", "127.0.0.1:9 10.0.0.1:9"),
        ("::ffff:0.0.0.0,10.0.0.1", "0.0.0.0:9"),
    ] {
        let config = parse(&format!("--proxy-port 9 --proxy-iface {given}")).unwrap().config(10);
        let listen: Vec<String> = config.vm_listen.iter().map(ToString::to_string).collect();
        assert_eq!(listen.join(" "), kept, "{given}");
    }
}

#[test]
fn an_ipv4_address_mapped_into_ipv6_is_that_ipv4_address() {
    let config = parse("--interface ::ffff:127.0.0.1").unwrap().config(10);
    assert_eq!(config.client_interface.ip(), Some(IpAddr::from([127, 0, 0, 1])));
    let exposed = parse("--interface [::ffff:0.0.0.0]").unwrap().exposed();
    assert_eq!(exposed, Some(IpAddr::from([0, 0, 0, 0])));
}

#[test]
fn an_amount_beyond_sense_is_refused_with_the_largest_that_is_taken() {
    for (option, most) in [
        ("--lag-limit", "1T"),
        ("--scrollback", "1T"),
        ("--vm-port-scrollback", "1T"),
        ("--journal-memory", "1T"),
        ("--max-clients", "1000000"),
        ("--identify-timeout", "86400"),
        ("--vm-expire-time", "3155760000"),
    ] {
        let sizes = ["16E", "1125899906842624"];
        let numbers = ["4294967295", "4294967296", "18446744073709551615", "18446744073709551616"];
        for amount in sizes.iter().chain(&numbers[if most == "1T" { 2 } else { 0 }..]) {
            let line = parse(&format!("{option} {amount}")).expect_err(option);
            assert!(line.contains(option) && line.contains(most), "{option} {amount}: {line}");
        }
        let fits = format!("--journal-memory 1T --lag-limit 1T --scrollback 1T {option} {most}");
        let fits = fits.replacen(&format!("{option} 1T"), "", usize::from(most == "1T"));
        parse(&fits).unwrap_or_else(|line| panic!("{fits}: {line}"));
    }
}

#[test]
fn every_fault_is_one_line_that_names_the_option() {
    for (args, named) in [
        ("--proxy-port 70000", "--proxy-port"),
        ("--proxy-port x", "--proxy-port"),
        ("--proxy-iface localhost", "--proxy-iface"),
        ("--vm-listen localhost:1", "--vm-listen"),
        ("--admin-listen unix:a", "--admin-listen"),
        ("--proxy-iface 127.0.0.1,", "--proxy-iface"),
        ("--interface 10.0.0", "--interface"),
        ("--port-range-start 5000 --port-range-end 4999", "--port-range-end"),
        ("--port-range-start 0 --port-range-end 9", "--port-range-end"),
        ("--port-range-start 9 --port-range-end 0", "--port-range-end"),
        ("--max-clients 0", "--max-clients"),
        ("--max-clients some", "none for any"),
        ("--identify-timeout 0", "--identify-timeout"),
        ("--identify-timeout -1", "--identify-timeout"),
        ("--vm-expire-time 1h", "--vm-expire-time"),
        ("--lag-limit 1023K", "give at least 1M"),
        ("--lag-limit 2X", "--lag-limit"),
        ("--scrollback 4M", "--lag-limit"),
        ("--vm-port-scrollback 17K", "--scrollback"),
        ("--journal-memory 1M", "--journal-memory"),
        ("--slow-client never", "skip, disconnect, wait"),
        ("--takeover always", "probe, newest, refuse"),
        ("--slow-clients skip", "--slow-client"),
        ("--service-uri=", "--service-uri"),
        ("--proxy-port", "--proxy-port"),
        ("--debug --debug", "--debug"),
        ("stray", "stray"),
    ] {
        let line = parse(args).expect_err(args);
        assert!(line.contains(named), "{args}: {line}");
        assert!(!line.contains('\n'), "{args}: {line}");
        assert!(!line.starts_with("error"), "{args}: {line}");
    }
}

#[test]
fn help_is_grouped_and_tells_units_defaults_and_examples() {
    let help = parse("--help").unwrap_err();
    for words in
        [VMS, CLIENTS, MEMORY, DIAGNOSTICS, "Examples:", "[default: 13370]", "[default: 256M]", "in seconds"]
    {
        assert!(help.contains(words), "{words} is missing in\n{help}");
    }
    assert!(help.contains("vspc --proxy-iface ::"));
    assert!(parse("--version").unwrap_err().starts_with("vspc "));
}

#[test]
fn help_names_the_least_lag_limit_and_every_exit_code() {
    let help = parse("--help").unwrap_err();
    assert!(help.contains(&format!("at least {LEAST_LAG}")), "{help}");
    let codes = help.split_once("Exit code: ").unwrap().1;
    assert!(["0 ", "2 ", "128 ", "1 "].iter().all(|code| codes.contains(code)), "{codes}");
}
