//! Certificates as files: refused with one line, or served with, and loaded anew while sessions live on.

use std::fs;
use std::process::Command;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::Signal;

use super::peer::Peer;
use super::process::{Server, run};
use super::program;
use super::programs::Folder;
use super::secure::Files;

pub(super) fn files_that_cannot_be_used_end_it_with_one_line_and_code_2() {
    let (files, others) = (Files::new("faults"), Files::new("others"));
    let garbage = files.folder.0.join("garbage");
    fs::write(&garbage, "hello").unwrap();
    let garbage = garbage.to_str().unwrap();
    for (options, words) in [
        (&["--ssl"][..], &["--ssl", "--cert"][..]),
        (&["--ssl", "--cert", "/missing"], &["--cert /missing", "No such file"]),
        (&["--ssl", "--cert", &files.cert], &[&files.cert, "--key"]),
        (
            &["--ssl", "--cert", &files.cert, "--key", &others.key],
            &[&others.key, "not that of the certificate"],
        ),
        (&["--ssl", "--cert", garbage, "--key", &files.key], &[garbage, "no certificate"]),
        (&["--require-tls", "--interface", "0.0.0.0"], &["--require-tls", "--client-tls"]),
        (&["--tls", "off", "--ssl"], &["--tls off", "--ssl"]),
    ] {
        let output = run(&[&["--proxy-iface", "127.0.0.1", "--proxy-port", "0"], options].concat());
        let text = String::from_utf8(output.stderr).unwrap();
        // What comes before it is the log.
        let last = text.lines().last().unwrap();
        assert_eq!(output.status.code(), Some(2), "{options:?}: {text}");
        assert!(words.iter().all(|word| last.contains(word)), "{options:?}: {last}");
    }
}

pub(super) fn a_certificate_is_made_once_and_never_replaced_unless_told_to() {
    let files = Files::new("made");
    let before = fs::read(&files.key).unwrap();
    let mut again = Command::new(program());
    again.args(["cert", "--hostname", "a", "--cert", &files.cert, "--key", &files.key]);
    let output = again.output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty() && text.lines().count() == 1 && text.contains("--force"), "{text}");
    assert_eq!(fs::read(&files.key).unwrap(), before);
    files.renew();
    assert_ne!(fs::read(&files.key).unwrap(), before);
}

pub(super) fn a_new_certificate_is_served_while_old_sessions_live_on() {
    let files = Files::new("reload");
    let server = Server::start(&files.options(&["--tls", "on", "--client-tls"]));
    let mut vm = files.connect(server.vms).introduced(1);
    let port = server.next_client_port();
    let mut client = files.connect(port).answering();
    server.line_with("client attached");
    let old = files.certificate();
    files.renew();
    assert_ne!(files.certificate(), old);
    server.signal(Signal::HUP);
    let line = server.line_with("certificate ");
    assert!(line.contains(&files.cert) && line.contains("SHA-256 "), "{line}");
    let uri = server.line_with("proxy URI with SHA-1");
    assert!(uri.contains("telnets://vspc.test:PORT#thumbprint="), "{uri}");
    // It trusts the new one only.
    let mut newcomer = files.connect(port).answering();
    server.line_with("client attached");
    vm.print(b"old and new");
    client.expect(b"old and new");
    newcomer.expect(b"old and new");
    client.print(b"k");
    vm.expect(b"k");
    newcomer.print(b"l");
    vm.expect(b"l");
}

pub(super) fn other_files_are_served_with_once_the_configuration_names_them() {
    let (files, others) = (Files::new("named"), Files::new("named-others"));
    let path = files.folder.0.join("vspc.toml");
    let text = |files: &Files, more: &str| {
        let Files { cert, key, .. } = files;
        format!("client-tls = true\nno-banner = true\ncert = '{cert}'\nkey = '{key}'\n{more}")
    };
    fs::write(&path, text(&files, "")).unwrap();
    let server = Server::start(&["--config", &path.display().to_string()]);
    let (mut vm, port) = Peer::vm(&server, 1);
    let mut client = files.connect(port).answering();
    server.line_with("client attached");
    // One that cannot be used changes nothing of that, but what else is new.
    let good = fs::read(&others.cert).unwrap();
    fs::write(&others.cert, &good[..good.len() / 2]).unwrap();
    fs::write(&path, text(&others, "vm-expire-time = 7\n")).unwrap();
    server.signal(Signal::HUP);
    server.line_with("SIGHUP: the certificate in use stays");
    server.line_with("SIGHUP: vm-expire-time is 7 now");
    drop(files.connect(port).answering());
    server.line_with("client attached");
    fs::write(&others.cert, good).unwrap();
    server.signal(Signal::HUP);
    server.line_with(&format!("SIGHUP: cert is \"{}\" now; it was \"{}\"", others.cert, files.cert));
    // It trusts the new one only.
    let mut newcomer = others.connect(port).answering();
    server.line_with("client attached");
    vm.print(b"old and new");
    client.expect(b"old and new");
    newcomer.expect(b"old and new");
}

pub(super) fn files_that_have_become_unusable_leave_the_certificate_in_use() {
    let files = Files::new("broken");
    let server = Server::start(&files.options(&["--client-tls"]));
    let (mut vm, port) = Peer::vm(&server, 1);
    let good = fs::read(&files.cert).unwrap();
    fs::write(&files.cert, &good[..good.len() / 2]).unwrap();
    server.signal(Signal::HUP);
    let line = server.line_with("SIGHUP");
    assert!(line.contains(" ERROR ") && line.contains("stays") && line.contains(&files.cert), "{line}");
    fs::write(&files.cert, good).unwrap();
    let mut client = files.connect(port).answering();
    server.line_with("client attached");
    client.print(b"k");
    vm.expect(b"k");
}

pub(super) fn a_pipe_in_a_files_place_holds_nobody_up_and_the_next_reload_works() {
    let files = Files::new("stuck");
    let server = Server::start(&files.options(&["--client-tls"]));
    let (mut vm, port) = Peer::vm(&server, 1);
    let mut client = files.connect(port).answering();
    server.line_with("client attached");
    for file in [&files.cert, &files.key] {
        let pem = fs::read(file).unwrap();
        fs::remove_file(file).unwrap();
        // Nobody ever writes into it.
        mknodat(CWD, file.as_str(), FileType::Fifo, Mode::RWXU, 0).unwrap();
        server.signal(Signal::HUP);
        let line = server.line_with("SIGHUP: the certificate in use stays");
        assert!(line.contains(&format!("{file}: is a pipe")), "{line}");
        client.print(b"k");
        vm.expect(b"k");
        fs::remove_file(file).unwrap();
        fs::write(file, pem).unwrap();
        server.signal(Signal::HUP);
        server.line_with("certificate ");
    }
    client.print(b"l");
    vm.expect(b"l");
}

pub(super) fn a_hangup_does_not_end_a_server_without_certificates() {
    let server = Server::start(&["--no-banner"]);
    let (mut vm, mut client) = Peer::vm_and_client(&server, 1);
    server.signal(Signal::HUP);
    server.line_with("SIGHUP: no option has changed");
    client.print(b"k");
    vm.expect(b"k");
}

pub(super) fn client_ports_that_are_open_to_the_network_in_clear_are_told_about() {
    let files = Files::new("exposed");
    let exposed = ["--interface", "0.0.0.0", "--proxy-iface", "192.0.2.1", "--proxy-port", "0"];
    for (options, told) in [
        (vec![], true),
        (files.options(&["--client-tls", "--require-tls"]), false),
        (vec!["--no-vm-ports", "--require-tls"], false),
    ] {
        // It ends at once, because TEST-NET-1 (RFC 5737) is nobody's address.
        let output = run(&[&exposed[..], &options].concat());
        let text = String::from_utf8(output.stderr).unwrap();
        let is_told = text.lines().any(|line| line.contains("WARN") && line.contains("without TLS"));
        assert_eq!(is_told, told, "{options:?}: {text}");
    }
}

pub(super) fn a_check_of_the_configuration_looks_at_certificates_too() {
    let folder = Folder::new("checked-cert");
    let path = folder.0.join("vspc.toml");
    let cert = folder.0.join("no-such.pem").display().to_string();
    fs::write(&path, format!("tls = 'on'\ncert = '{cert}'\n")).unwrap();
    let output = run(&["--config", &path.display().to_string(), "--check-config"]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains(&cert), "{text}");
}
