//! A server that does not run for a while (it is stopped, its control group is frozen, the machine that it
//! runs on is): its peers do not pay for it. That time has to pass, and so these tests wait for a length of
//! time, each a little longer than the deadline that it is about.

use std::thread::sleep;
use std::time::Duration;

use super::peer::{EXT, IAC, NOP, Peer, WILL};
use super::process::Server;

pub(super) fn bytes_that_came_while_the_process_stood_still_are_read_before_its_timers_fire() {
    let server = Server::start(&["--no-banner", "--identify-timeout", "1"]);
    let mut vm = Peer::connect(server.vms);
    vm.send(&[IAC, NOP]);
    server.line_with("vm connected");
    server.while_stopped(|| {
        vm.introduce(1);
        // As long as it has to say who it is.
        sleep(Duration::from_millis(1100));
    });
    vm.hear(71);
}

pub(super) fn who_had_no_time_to_say_which_vm_it_is_gets_it() {
    let server = Server::start(&["--identify-timeout", "1"]);
    let mut vm = Peer::connect(server.vms);
    vm.send(&[IAC, WILL, EXT]);
    server.line_with("vm connected");
    // Nothing waits in its socket when the server goes on: it asks what the server has not answered.
    server.while_stopped(|| sleep(Duration::from_millis(2500)));
    vm.introduced(1);
    server.next_client_port();
}

pub(super) fn a_move_goes_on_when_the_server_has_stood_still_for_longer_than_its_host_waits() {
    let server = Server::start(&["--no-banner", "--identify-timeout", "1"]);
    let (mut source, port) = Peer::vm(&server, 1);
    let mut client = Peer::client(port);
    server.line_with("client attached");
    source.tell(BEGIN);
    let goahead = source.hear(41);
    client.print(b"typed meanwhile");
    let mut target = Peer::connect(server.vms);
    server.while_stopped(|| {
        // What a source prints 5 s after BEGIN means that it runs again, unless its target has come.
        source.print(b"last words");
        target.send(&[IAC, WILL, EXT]);
        target.tell(&[0, 0, 1, 2, 3, 40, 41, 43, 44, 45, 46, 48, 70, 71, 80, 82]);
        target.tell(&[&[44][..], &goahead[2..]].concat());
        sleep(Duration::from_millis(5500));
    });
    target.hear(45);
    drop(source);
    target.tell(&[&[46][..], &BEGIN[1..]].concat());
    target.expect(b"typed meanwhile");
    target.print(b", and on");
    client.expect(b"last words, and on");
}

/// VMOTION-BEGIN with a sequence.
const BEGIN: &[u8] = b"\x28\x00\x01\xff\x02";
