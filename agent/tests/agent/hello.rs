//! Who is let in (APPLICATION §2).

use vspc_guest::{Code, Exec, Header, Secret};

use crate::host::{Host, key};
use crate::machine::{Folder, Machine};

const EXEC: &str = "[exec]\nprograms = [\"*\"]\n";

fn exec() -> Header {
    Header::Exec(Exec { argv: vec!["true".to_owned()], ..Exec::new(key()) })
}

#[test]
fn nothing_is_done_before_hello_and_what_is_not_configured_never() {
    let machine = Machine::start("", &[]);
    let mut host = Host::raw(machine.line());
    assert_eq!(host.refusal(&exec()).code, Code::HELLO_FIRST);
    let guest = host.hello(None).unwrap();
    assert!(guest.agent.starts_with("vspc-agent "));
    assert!(guest.may.is_empty(), "{:?}", guest.may);
    assert_eq!(host.refusal(&exec()).code, Code::NOT_ALLOWED);
    // Once in a session.
    assert_eq!(host.hello(None).unwrap_err().code, Code::BAD_LINE);
}

#[test]
fn only_a_host_that_has_the_key_is_let_in() {
    let folder = Folder::new();
    let file = folder.write("key", [7; 32]);
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let machine = Machine::start_in(folder, &format!("key-file = {file:?}\n{EXEC}"), &[]);
    let right = || Secret::new(&[7; 32]);
    let mut host = Host::raw(machine.line());
    assert_eq!(host.refusal(&exec()).code, Code::HELLO_FIRST);
    // Without a key, and with a wrong one, the host itself finds out; and is let in to nothing.
    assert_eq!(host.hello(None).unwrap_err().code, Code::NOT_AUTHENTIC);
    assert_eq!(host.refusal(&exec()).code, Code::HELLO_FIRST);

    // The line comes back with a host that claims to have it, and then with one that does.
    drop(host);
    let mut host = Host::raw(machine.line());
    assert_eq!(host.hello_with_wrong_proof().code, Code::NOT_AUTHENTIC);
    assert_eq!(host.refusal(&exec()).code, Code::HELLO_FIRST);
    drop(host);
    let mut host = Host::raw(machine.line());
    // After a wrong proof nobody is answered for a second.
    let guest = loop {
        match host.hello(right()) {
            Ok(guest) => break guest,
            Err(refusal) => assert_eq!(refusal.code, Code::NOT_AUTHENTIC),
        }
    };
    assert_eq!(guest.may, ["exec"]);
}

#[test]
fn a_host_that_has_a_key_does_not_take_a_guest_without_it() {
    let machine = Machine::start(EXEC, &[]);
    let mut host = Host::raw(machine.line());
    assert_eq!(host.hello(Secret::new(&[7; 32])).unwrap_err().code, Code::NOT_AUTHENTIC);
}

#[test]
fn a_host_that_comes_after_another_has_to_say_hello_itself() {
    let machine = Machine::start(EXEC, &[]);
    let host = machine.host();
    drop(host);
    let mut host = Host::raw(machine.line());
    assert_eq!(host.refusal(&exec()).code, Code::HELLO_FIRST);
    host.hello(None).unwrap();
}
