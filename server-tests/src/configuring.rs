//! Options from a file and from the environment (docs/configuration.md).

use std::fs;
use std::process::Command;

use super::peer::Peer;
use super::process::{Server, run};
use super::program;
use super::programs::Folder;

pub(super) fn a_file_says_how_to_serve_and_who_starts_the_server_may_say_otherwise() {
    let folder = Folder::new("configured");
    let path = folder.0.join("vspc.toml");
    // TEST-NET-1 (RFC 5737) is nobody's address: a server that believes the file does not start.
    let text = "proxy-iface = '192.0.2.1'\nproxy-port = 0\nport-range-start = 0\nadmin-port = 0\n\
                no-admin = true\nno-banner = true\n";
    fs::write(&path, text).unwrap();
    let mut command = Command::new(program());
    command.args(["--proxy-iface", "127.0.0.1", "--no-admin=false"]).env("VSPC_CONFIG", &path);
    command.env("VSPC_RAW_PORTS", "true");
    let server = Server::of(&mut command);
    server.admin_port();
    let (mut vm, port) = Peer::vm(&server, 1);
    // A raw port sends nothing of its own before the VM does.
    let mut client = Peer::client(port);
    vm.print(b"first");
    client.expect(b"first");
}

pub(super) fn a_file_with_a_fault_is_refused_with_its_line_and_one_without_is_checked() {
    let folder = Folder::new("checked");
    let path = folder.0.join("vspc.toml");
    let path_text = path.display().to_string();
    fs::write(&path, "proxy-port = 0\nproxy-ifaec = '127.0.0.1'\n").unwrap();
    let output = run(&["--config", &path_text]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    let said = format!("{path_text}:2: proxy-ifaec is no option; did you mean proxy-iface?\n");
    assert!(text.ends_with(&said), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");

    fs::write(&path, "proxy-port = 0\nproxy-iface = '127.0.0.1'\n").unwrap();
    let output = run(&["--config", &path_text, "--check-config"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{path_text}: no faults\n"));
}
