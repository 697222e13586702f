//! What a server refuses, and that others do not suffer from it.

use std::io::Write;
use std::net::Shutdown;
use std::thread;
use std::time::{Duration, Instant};

use vspc_core::concentrator::PortRange;
use vspc_host::local_ports::advice;

use super::peer::{EXT, IAC, Peer, WONT};
use super::process::{PATIENCE, Server, run};

pub(super) fn bad_options_and_addresses_end_it_with_one_line_and_code_2() {
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap();
    let port = taken.port().to_string();
    for (options, words) in [
        (&["--proxy-port", "x"][..], vec!["--proxy-port"]),
        (&["--frobnicate"], vec!["--frobnicate"]),
        (
            &["--proxy-iface", "127.0.0.1", "--proxy-port", &port],
            vec![&taken.to_string(), "already in use", "--proxy-port"],
        ),
        // TEST-NET-1 (RFC 5737) is nobody's address.
        (&["--proxy-iface", "192.0.2.1", "--proxy-port", "0"], vec!["192.0.2.1:0", "--proxy-iface"]),
        (
            &["--proxy-iface", "127.0.0.1", "--proxy-port", "0", "--admin-port", &port],
            vec![&taken.to_string(), "already in use", "--admin-port"],
        ),
        (
            &["--proxy-iface", "127.0.0.1", "--proxy-port", "0", "--admin-iface", "192.0.2.1"],
            vec!["192.0.2.1:13371", "--admin-iface"],
        ),
        (&["--interface", "192.0.2.1", "--proxy-port", "0"], vec!["192.0.2.1", "--interface"]),
    ] {
        let output = run(options);
        let text = String::from_utf8(output.stderr).unwrap();
        // What comes before it is the log.
        let last = text.lines().last().unwrap();
        assert_eq!(output.status.code(), Some(2), "{options:?}: {text}");
        assert!(words.iter().all(|word| last.contains(word)), "{options:?}: {last}");
    }
}

pub(super) fn a_default_admin_port_that_is_in_use_keeps_no_server_from_starting() {
    // Somebody else on this machine may have it for the moment.
    let deadline = Instant::now() + PATIENCE;
    let _holder = loop {
        match std::net::TcpListener::bind("127.0.0.1:13371") {
            Ok(holder) => break holder,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        thread::yield_now();
    };
    let server = Server::with_default_admin_port();
    let line = server.line_with("cannot listen on 127.0.0.1:13371");
    assert!(line.contains("ERROR"), "{line}");
    server.line_with("there is no admin port: choose one with --admin-port, or none with --no-admin");
    let (mut vm, port) = Peer::vm(&server, 1);
    Peer::client(port).print(b"served");
    vm.expect(b"served");
}

pub(super) fn client_ports_that_the_system_may_take_are_told_about_at_start() {
    // It ends at once, because TEST-NET-1 (RFC 5737) is nobody's address.
    let start = |options: &[&str]| {
        let output = run(&[&["--proxy-iface", "192.0.2.1", "--proxy-port", "0"], options].concat());
        String::from_utf8(output.stderr).unwrap()
    };
    let log = start(&[]);
    // Whether it does, and what to write, depends on the machine.
    match advice(PortRange { first: 50000, last: 65535 }) {
        Some(line) => assert!(log.contains(&line), "{line}: {log}"),
        None => assert!(!log.contains("ip_local_reserved_ports"), "{log}"),
    }
    for options in [&["--no-vm-ports"][..], &["--port-range-start", "0"]] {
        let log = start(options);
        assert!(!log.contains("ip_local_reserved_ports"), "{options:?}: {log}");
    }
}

pub(super) fn help_and_version_are_printed_and_that_is_all() {
    for option in ["--help", "--version"] {
        let output = run(&[option]);
        assert_eq!(output.status.code(), Some(0));
        assert!(output.stderr.is_empty() && !output.stdout.is_empty());
    }
}

pub(super) fn who_is_no_vm_is_told_so_even_if_it_talks_on() {
    let server = Server::start(&[]);
    let mut stranger = Peer::connect(server.vms);
    stranger.send(&[IAC, WONT, EXT]);
    // Unread input at close would make the kernel reset the connection, and its end would be an error.
    let mut talker = stranger.stream.try_clone().unwrap();
    let talk = thread::spawn(move || {
        (0..1000)
            .try_for_each(|_| talker.write_all(&[b'x'; 10_000]))
            .and_then(|()| talker.shutdown(Shutdown::Write))
    });
    let text = stranger.expect_end();
    assert!(text.is_ascii() && text.len() > 20, "{}", String::from_utf8_lossy(&text));
    talk.join().unwrap().unwrap();
}

pub(super) fn the_end_of_descriptors_is_survived_and_others_do_not_notice() {
    let server = Server::with_descriptors(80, &["--no-banner"]);
    let (mut vm, port) = Peer::vm(&server, 1);
    let mut client = Peer::client(port);
    server.line_with("client attached");
    let mut crowd: Vec<Peer> = (0..200).map(|_| Peer::connect(port)).collect();
    server.line_with("connections are refused");
    for round in 0..10 {
        let line = format!("line {round}\r\n");
        vm.print(line.as_bytes());
        client.expect(line.as_bytes());
        client.print(b"k");
        vm.expect(b"k");
    }
    assert!(server.descriptors() <= 80);
    // Those that were refused know it; they do not hang.
    assert!(crowd.last_mut().unwrap().is_cut_off());
    drop(crowd);
    // All that the crowd took comes back, as soon as its end has been read.
    let mut late = Peer::client(port);
    vm.print(b"after");
    client.expect(b"after");
    while server.descriptors() > 40 {
        thread::yield_now();
    }
    drop(late);
    late = Peer::client(port);
    vm.print(b"!");
    late.expect_somewhere(b"!");
}

pub(super) fn descriptors_that_run_out_unforeseen_cost_newcomers_only() {
    let server = Server::start(&["--no-banner"]);
    let (mut vm, port) = Peer::vm(&server, 1);
    let mut client = Peer::client(port);
    server.line_with("client attached");
    // Lower than the server found it at start, so that its own accounts do not protect it.
    server.limit_descriptors(server.descriptors() + 4);
    let mut crowd: Vec<Peer> = (0..100).map(|_| Peer::connect(port)).collect();
    let line = server.line_with("connections are refused");
    assert!(line.contains("no descriptor is left"), "{line}");
    Peer::talk(&mut vm, &mut client);
    assert!(crowd.last_mut().unwrap().is_cut_off());
    drop(crowd);
    // Nothing is left over of it: a newcomer gets in, if not at once then soon.
    server.limit_descriptors(1000);
    let mut late = Peer::client(port);
    vm.print(b"after");
    client.expect(b"after");
    late.print(b"l");
    vm.expect(b"l");
}

pub(super) fn a_listener_that_fails_on_a_quiet_server_is_asked_again() {
    let server = Server::start(&[]);
    // Below all that it has opened itself: not even the descriptor that it holds back helps.
    server.limit_descriptors(3);
    let waiting = Peer::connect(server.vms);
    server.line_with("connections are refused");
    server.limit_descriptors(1000);
    waiting.introduced(1);
}

pub(super) fn strangers_that_say_nothing_do_not_push_vms_out() {
    let server = Server::with_descriptors(200, &["--no-banner"]);
    let (mut vm, mut client) = Peer::vm_and_client(&server, 1);
    let _silent: Vec<Peer> = (0..500).map(|_| Peer::connect(server.vms)).collect();
    // Who comes in the same moment from the same address is turned away: strangers lose their places when
    // they have said nothing for a while.
    let (mut second, second_port) = Peer::persistent_vm(&server, 2);
    let mut second_client = Peer::persistent_client(second_port);
    second.print(b"two");
    second_client.expect(b"two");
    vm.print(b"one");
    client.expect(b"one");
}

pub(super) fn vms_that_come_together_take_the_places_of_strangers_and_none_is_turned_away() {
    // Without client ports a VM takes one descriptor: what strangers hold is all there is.
    let server = Server::with_descriptors(200, &["--no-vm-ports"]);
    let strangers: Vec<Peer> = (0..200).map(|_| Peer::connect(server.vms)).collect();
    let is_in = |stranger: &&Peer| stranger.stream.peek(&mut [0]).is_ok_and(|n| n > 0);
    assert!(strangers.iter().filter(is_in).count() > 150);
    // Who has come only just now is left alone; nothing tells when that is over.
    thread::sleep(Duration::from_millis(20));
    let mut vms = Vec::new();
    server.while_stopped(|| {
        for number in 1..=100 {
            let mut vm = Peer::connect(server.vms);
            vm.introduce(number);
            vms.push(vm);
        }
    });
    for vm in &mut vms {
        vm.hear(71);
    }
    assert!(server.descriptors() <= 200);
}
