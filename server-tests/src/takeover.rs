//! Who gets what is typed where two connections say that they are the same VM (vmware.md §4): what the kernel
//! knows of a silent holder counts, and reaches the engine.

use std::time::{Duration, Instant};

use super::peer::Peer;
use super::process::Server;

/// A VM that has said all, and someone at its console who has typed into it.
fn vm_and_client(server: &Server) -> (Peer, Peer) {
    let (mut vm, mut client) = Peer::vm_and_client(server, 1);
    client.print(b"first");
    vm.expect(b"first");
    // It is asked for its name as every VM is, and again when somebody else comes.
    vm.hear(83);
    (vm, client)
}

/// Nothing that is typed comes here for longer than a wholly silent holder keeps the input.
fn gets_nothing(newcomer: &mut Peer) {
    let until = Instant::now() + LONGER_THAN_SILENCE;
    while Instant::now() < until {
        assert_eq!(newcomer.take(), None);
    }
}

pub(super) fn a_newcomer_to_a_live_vm_gets_nothing_that_is_typed() {
    let server = Server::start(&["--no-banner"]);
    let (mut vm, mut client) = vm_and_client(&server);
    let mut newcomer = Peer::vm_without_port(&server, 1);
    client.print(b"held until the vm has answered");
    vm.hear(83);
    vm.say_name(1);
    vm.expect(b"held until the vm has answered");
    server.line_with("two serial ports? give each its own URI and --multi-console");
    client.print(b"secret");
    vm.expect(b"secret");
    assert_eq!(newcomer.take(), None);
}

pub(super) fn a_vm_that_stands_still_while_its_kernel_acknowledges_keeps_the_input() {
    let server = Server::start(&["--no-banner"]);
    let (mut vm, mut client) = vm_and_client(&server);
    let mut newcomer = Peer::vm_without_port(&server, 1);
    client.print(b"typed");
    // It never answers. After two seconds of silence its kernel's word decides.
    gets_nothing(&mut newcomer);
    client.print(b" and more");
    vm.expect(b"typed and more");
    assert_eq!(newcomer.take(), None);
}

pub(super) fn a_vm_that_takes_nothing_keeps_the_input() {
    let server = Server::start(&["--no-banner"]);
    let (mut vm, mut client) = vm_and_client(&server);
    client.fill();
    let mut newcomer = Peer::vm_without_port(&server, 1);
    gets_nothing(&mut newcomer);
    vm.expect(&[b'x'; 1 << 20]);
    assert_eq!(newcomer.take(), None);
}

pub(super) fn a_newcomer_gets_what_is_typed_as_soon_as_the_vm_is_reset() {
    let server = Server::start(&["--no-banner"]);
    let (vm, mut client) = vm_and_client(&server);
    let mut newcomer = Peer::vm_without_port(&server, 1);
    client.print(b"held");
    vm.reset();
    newcomer.expect(b"held");
    server.line_with("input taken over from 127.0.0.1: it has ended");
    client.print(b"!");
    newcomer.expect(b"!");
}

/// A holder that says nothing in any way loses the input after two seconds.
const LONGER_THAN_SILENCE: Duration = Duration::from_secs(3);
