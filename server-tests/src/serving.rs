//! Bytes go both ways between VMs and clients, whatever others do meanwhile.

use std::fs;
use std::io::Read;
use std::net::{SocketAddr, TcpListener};

use rustix::process::Signal;
use socket2::SockRef;

use super::peer::{IAC, NOP, Peer};
use super::process::Server;

pub(super) fn a_client_reads_what_its_vm_prints_and_types_into_it() {
    let server = Server::start(&["--no-banner"]);
    let (mut vm, mut client) = Peer::vm_and_client(&server, 1);
    Peer::talk(&mut vm, &mut client);
}

pub(super) fn a_telnet_client_is_greeted() {
    let server = Server::start(&[]);
    let (_vm, port) = Peer::vm(&server, 1);
    Peer::client(port).expect_somewhere(b"connected to vm1");
}

pub(super) fn megabytes_arrive_whole_in_both_directions_at_once() {
    let server = Server::start(&["--no-banner", "--slow-client", "wait"]);
    let (vm, client) = Peer::vm_and_client(&server, 1);
    Peer::exchange_megabytes(vm, client, 8);
}

pub(super) fn a_client_that_ends_its_input_has_its_bytes_delivered_and_goes_on_reading() {
    let server = Server::start(&["--no-banner"]);
    let (mut vm, mut client) = Peer::vm_and_client(&server, 1);
    client.print(b"halt\r");
    client.end_input();
    vm.expect(b"halt\r");
    vm.print(b"bye");
    client.expect(b"bye");
}

pub(super) fn a_client_that_never_reads_holds_little_in_the_kernel() {
    let server = Server::start(&["--no-banner"]);
    let (mut vm, port) = Peer::vm(&server, 1);
    let mut reader = Peer::client(port);
    let stalled = Peer::client(port);
    for _ in 0..2 {
        server.line_with("client attached");
    }
    let text = vec![b'x'; 1 << 20];
    for _ in 0..8 {
        vm.print(&text);
        reader.expect(&text);
    }
    // By now it is 8 MiB behind, and its socket has taken what it takes. What its peer has not acknowledged
    // (a receive buffer of 64 KiB or so is full) is the least of it.
    let held = unacknowledged(port, stalled.stream.local_addr().unwrap());
    assert!(held < 256 << 10, "{held} bytes");
}

/// Bytes in the send queue of the server's end of a connection: `tx_queue` in /proc/net/tcp (proc(5)).
fn unacknowledged(server: SocketAddr, client: SocketAddr) -> u64 {
    let hex = |address: SocketAddr| {
        let SocketAddr::V4(address) = address else { panic!("{address}") };
        format!("{:08X}:{:04X}", u32::from(*address.ip()).swap_bytes(), address.port())
    };
    let row = format!(" {} {} ", hex(server), hex(client));
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let found =
        table.lines().find(|line| line.contains(&row)).unwrap_or_else(|| panic!("no {row} in {table}"));
    let queue = found.split_whitespace().nth(4).unwrap().split(':').next().unwrap();
    u64::from_str_radix(queue, 16).unwrap()
}

pub(super) fn urgent_data_comes_where_it_was_sent() {
    let server = Server::start(&["--no-banner"]);
    let (mut vm, mut client) = Peer::vm_and_client(&server, 1);
    for round in 0..20_u8 {
        // Telnet's synch marks its last byte; what follows in the same breath must not wait for more.
        client.print(&[b'a' + round]);
        SockRef::from(&client.stream).send_out_of_band(b"!").unwrap();
        client.print(b"z");
        vm.expect(&[b'a' + round, b'!', b'z']);
    }
}

pub(super) fn a_console_and_its_clients_outlive_the_connection_of_the_vm() {
    let server = Server::start(&["--no-banner"]);
    let (mut vm, port) = Peer::vm(&server, 1);
    let mut client = Peer::client(port);
    server.line_with("client attached");
    vm.print(b"before ");
    vm.end_input();
    client.expect(b"before ");
    vm.expect_end();
    server.line_with("vm disconnected");
    let (mut vm, same_port) = Peer::vm(&server, 1);
    assert_eq!(port, same_port);
    Peer::talk(&mut vm, &mut client);
}

pub(super) fn the_table_of_descriptors_has_room_for_all_of_a_fleet_before_it_comes() {
    let server = Server::with_descriptors(3000, &[]);
    assert!(server.descriptor_table() >= 3000);
}

pub(super) fn garbage_on_every_port_leaves_others_alone() {
    let server = Server::start(&["--no-banner"]);
    let (mut vm, mut client) = Peer::vm_and_client(&server, 1);
    let (_, victim) = Peer::vm(&server, 2);
    let mut state = 1_u32;
    let mut garbage = move |len| -> Vec<u8> {
        std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // Half of it telnet commands, to reach deeper.
            if state >> 31 == 0 { (state >> 16) as u8 } else { 240 + (state >> 27 & 15) as u8 }
        })
        .take(len)
        .collect()
    };
    for round in 0..50 {
        for to in [server.vms, victim] {
            let mut stranger = Peer::connect(to);
            // The server may well close in the middle of it.
            let _ = std::io::Write::write_all(&mut stranger.stream, &garbage(20_000));
        }
        let line = format!("line {round}\r\n");
        vm.print(line.as_bytes());
        client.expect(line.as_bytes());
        client.print(b"k");
        vm.expect(b"k");
    }
}

pub(super) fn both_families_are_served() {
    if TcpListener::bind("[::1]:0").is_err() {
        return; // no IPv6 on this machine
    }
    let mut server = Server::start(&["--no-banner", "--proxy-iface", "::1", "--interface", "::1"]);
    let v4 = server.vms;
    server.vms = server.next_listener();
    assert!(v4.is_ipv4() && server.vms.is_ipv6());
    let (mut vm, mut client) = Peer::vm_and_client(&server, 1);
    vm.print(b"six");
    client.expect(b"six");
    Peer::connect(v4).send(&[IAC, NOP]);
    server.line_with("vm connected peer=127.0.0.1:");
}

pub(super) fn an_ipv4_address_mapped_into_ipv6_is_served() {
    let mapped = "::ffff:127.0.0.1";
    let server = Server::start(&["--proxy-iface", mapped, "--interface", mapped]);
    assert!(server.vms.is_ipv4());
    let (_vm, port) = Peer::vm(&server, 1);
    Peer::client(port).expect_somewhere(b"connected to vm1");
}

pub(super) fn counters_are_logged_when_asked_for() {
    let server = Server::start(&["--no-banner"]);
    let (mut vm, mut client) = Peer::vm_and_client(&server, 1);
    vm.print(b"12345");
    client.expect(b"12345");
    server.signal(Signal::USR1);
    let line = server.line_with("counters vm=");
    assert!(line.contains("vm=\"vm1\"") && line.contains(" bytes_from_vm=5"), "{line}");
    assert!(line.contains(" vms=1 clients=1"), "{line}");
    server.line_with("counters of all 1 consoles");
}

pub(super) fn a_raw_client_gets_the_vms_bytes_and_nothing_else_after_the_offers() {
    let server = Server::start(&[]);
    let (mut vm, port) = Peer::vm(&server, 1);
    let mut raw = Peer::connect(port);
    let mut offers = [0; 15];
    raw.stream.read_exact(&mut offers).unwrap();
    assert!(offers.chunks(3).all(|offer| offer[0] == IAC), "{offers:?}");
    // gdb's first bytes: from here on nothing is doubled.
    raw.send(b"+$");
    vm.expect(b"+$");
    vm.print(&[1, IAC, 2]);
    let mut bytes = [0; 3];
    raw.stream.read_exact(&mut bytes).unwrap();
    assert_eq!(bytes, [1, IAC, 2]);
}
