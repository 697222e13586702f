//! Options from a file and from the environment (docs/configuration.md).

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use rustix::process::Signal;

use super::admin_socket::list_on;
use super::client_tour::Client;
use super::peer::Peer;
use super::process::{PATIENCE, Server, run};
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

/// A server with these options in its file, beside ports of the system's choosing, and that file.
fn configured(name: &str, text: &str) -> (Server, Folder, PathBuf) {
    let folder = Folder::new(name);
    let path = folder.0.join("vspc.toml");
    fs::write(&path, text).unwrap();
    (Server::start(&["--config", &path.display().to_string()]), folder, path)
}

pub(super) fn a_hangup_changes_what_it_can_and_says_what_takes_a_restart() {
    let (server, folder, path) = configured("hangup", "no-banner = true\nmax-clients = 5\n");
    let (mut vm, port) = Peer::vm(&server, 1);
    let mut client = Peer::client(port);
    client.print(b"a");
    vm.expect(b"a");
    let events = folder.0.join("events");
    let text = format!(
        "max-clients = 2\nvm-expire-time = 60\nevents-to = ['file:{}']\nmulti-console = true\ndebug = true\n",
        events.display()
    );
    fs::write(&path, text).unwrap();
    server.signal(Signal::HUP);
    // In the order in which --help has them.
    server.line_with("SIGHUP: vm-expire-time is 60 now; it was 86400");
    server.line_with("SIGHUP: max-clients is 2 now; it was 5");
    server.line_with("SIGHUP: no-banner is false now; it was true");
    server.line_with("SIGHUP: events-to is [\"file:");
    server.line_with("SIGHUP: debug is true now; it was false");
    let line = server.line_with("multi-console");
    assert!(line.contains(" WARN ") && line.contains("= true takes a restart; it stays false"), "{line}");
    // The newcomer is greeted and counted, who was there stays.
    let mut second = Peer::client(port);
    second.expect_somewhere(b"connected to vm1");
    server.line_with("client attached, 2 now");
    let mut third = Peer::connect(port);
    third.expect_end();
    client.print(b"b");
    vm.expect(b"b");
    server.signal(Signal::HUP);
    server.line_with("multi-console = true takes a restart");
    server.signal(Signal::TERM);
    assert!(server.end().success());
    let told = fs::read_to_string(events).unwrap();
    assert!(told.contains("\"kind\":\"client-attached\""), "{told}");
    assert!(!told.contains("vm-up") && !told.contains("port-assigned"), "that was before: {told}");
}

pub(super) fn a_file_with_a_fault_changes_nothing_at_a_hangup() {
    let (server, _folder, path) = configured("faulty-hangup", "no-banner = true\n");
    let (mut vm, port) = Peer::vm(&server, 1);
    fs::write(&path, "no-banner = false\nmax-clients = 0\nmax-cleints = 5\n").unwrap();
    server.signal(Signal::HUP);
    let line = server.line_with("SIGHUP: ");
    let said = format!("the options in use stay: {}:3: max-cleints is no option", path.display());
    assert!(line.contains(" ERROR ") && line.contains(&said), "{line}");
    fs::write(&path, "no-banner = false\nmax-clients = 0\n").unwrap();
    server.signal(Signal::HUP);
    let line = server.line_with("SIGHUP: ");
    assert!(line.contains("--max-clients 0 would let nobody in"), "{line}");
    // A telnet client would be greeted.
    let mut client = Peer::client(port);
    server.line_with("client attached");
    vm.print(b"first");
    client.expect(b"first");
    fs::remove_file(&path).unwrap();
    server.signal(Signal::HUP);
    server.line_with("SIGHUP: the options in use stay: cannot read the configuration file");
    fs::write(&path, "no-banner = true\n").unwrap();
    server.signal(Signal::HUP);
    server.line_with("SIGHUP: no option has changed");
    client.print(b"k");
    vm.expect(b"k");
}

pub(super) fn whoever_has_a_server_reload_is_told_what_came_of_it() {
    let options = "admin-rights = ['loopback=operator']\n";
    let (server, _folder, path) = configured("reloaded", &format!("{options}max-clients = 5\n"));
    let Some(client) = Client::new(&["--server", &server.admin_port().to_string()]) else { return };
    assert_eq!(client.says(&["reload"]), "no option has changed\n");
    fs::write(&path, format!("{options}max-clients = 2\npidfile = '/nowhere'\n")).unwrap();
    let waits = "pidfile = \"/nowhere\" takes a restart; it stays unset";
    assert_eq!(client.says(&["reload"]), format!("max-clients is 2 now; it was 5\n{waits}\n"));
    server.line_with("SIGHUP: max-clients is 2 now");
    let said = client.says(&["reload", "--json"]);
    let expected = "{\"changed\":[],\"faults\":[],\"restart\":[\"pidfile = \\\"/nowhere\\\" takes a restart";
    assert!(said.starts_with(expected), "{said}");
    fs::write(&path, format!("{options}max-cleints = 2\n")).unwrap();
    let output = client.run(&["reload"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let fault = format!("the options in use stay: {}:2: max-cleints is no option", path.display());
    assert!(output.status.code() == Some(1) && said.contains(&fault), "{output:?}");
}

pub(super) fn a_program_that_is_named_at_a_hangup_is_run_from_then_on() {
    let (server, folder, path) = configured("hooked-at-hangup", "");
    let (vm, _) = Peer::vm(&server, 1);
    let program = folder.0.join("program");
    let said = folder.0.join("said");
    let body = format!("#!/bin/sh\necho $VSPC_EVENT $VSPC_NAME >> {}\n", said.display());
    let mut shell = Command::new("sh");
    shell.args(["-c", "printf %s \"$1\" > \"$0\" && chmod 755 \"$0\""]).arg(&program).arg(body);
    assert!(shell.status().unwrap().success());
    fs::write(&path, format!("on-event = '{}'\n", program.display())).unwrap();
    server.signal(Signal::HUP);
    server.line_with("SIGHUP: on-event is ");
    drop(vm);
    server.line_with("vm disconnected");
    server.signal(Signal::TERM);
    assert!(server.end().success());
    assert_eq!(fs::read_to_string(said).unwrap(), "vm-down vm1\n");
}

pub(super) fn consoles_that_a_rule_takes_out_are_not_logged() {
    let folder = Folder::new("rules");
    let (path, logs) = (folder.0.join("vspc.toml"), folder.0.join("logs"));
    fs::create_dir(&logs).unwrap();
    let options = format!("log-dir = '{}'\nlog-layout = '{{name}}.log'\nno-banner = true\n", logs.display());
    let rules = |one, two| {
        format!("{options}[[console]]\nname = 'vm1'\nlog = {one}\n[[console]]\nname = 'vm2'\nlog = {two}\n")
    };
    fs::write(&path, rules(true, false)).unwrap();
    let server = Server::start(&["--config", &path.display().to_string()]);
    let (mut vm, _) = Peer::vm(&server, 1);
    let (mut second, _) = Peer::vm(&server, 2);
    vm.print(b"one ");
    second.print(b"secret ");
    while fs::read_dir(&logs).unwrap().count() == 0 {
        std::thread::yield_now();
    }
    fs::write(&path, rules(false, true)).unwrap();
    server.signal(Signal::HUP);
    server.line_with(r#"SIGHUP: [[console]] name = ["vm1"]: log is false now; it was true"#);
    server.line_with(r#"SIGHUP: [[console]] name = ["vm2"]: log is true now; it was false"#);
    vm.print(b"not this");
    second.print(b"public");
    let (mut third, _) = Peer::vm(&server, 3);
    third.print(b"three");
    let log = |name: &str| fs::read_to_string(logs.join(name)).unwrap_or_default();
    while !(log("vm2.log").ends_with("public") && log("vm3.log").ends_with("three")) {
        std::thread::yield_now();
    }
    server.signal(Signal::TERM);
    drop((vm, second, third));
    assert!(server.end().success());
    assert_eq!((&*log("vm1.log"), &*log("vm3.log")), ("one ", "three"));
    let second = log("vm2.log");
    assert!(second.ends_with("public") && !second.contains("secret"), "{second:?}");
}

pub(super) fn certain_consoles_are_served_as_their_rules_say() {
    let folder = Folder::new("ruled");
    let path = folder.0.join("vspc.toml");
    // One that is free: nobody else gets it in the moment until the server does.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let text = format!(
        "[[console]]\nname = 'vm1'\nport = {port}\nraw = true\nmax-clients = 1\n\
         [[console]]\nname = ['other', 'vm2']\nport = 'none'\n"
    );
    fs::write(&path, &text).unwrap();
    let server = Server::start(&["--config", &path.display().to_string()]);
    let admin = server.admin_port();
    let (mut vm, at) = Peer::vm(&server, 1);
    assert_eq!(at.port(), port);
    // A raw client is shown nothing but what the VM prints.
    let mut client = Peer::connect(at);
    server.line_with("client attached");
    vm.print(b"first");
    client.expect(b"first");
    assert!(Peer::connect(at).is_cut_off(), "there is one already");
    let _second = Peer::connect(server.vms).introduced(2);
    let line = server.line_with("vm identified");
    assert!(line.contains("vm2") && !line.contains("port="), "{line}");
    let mut third = Peer::client(Peer::vm(&server, 3).1);
    third.expect_somewhere(b"connected to vm3");
    assert!(TcpStream::connect(admin).is_ok());
    // All of it changes while it serves.
    let text = text.replace("max-clients = 1", "max-clients = 2").replace("port = 'none'", "raw = false");
    fs::write(&path, text).unwrap();
    server.signal(Signal::HUP);
    server.line_with(r#"SIGHUP: [[console]] name = ["vm1"]: max-clients is 2 now; it was 1"#);
    server
        .line_with(r#"SIGHUP: [[console]] name = ["other", "vm2"]: port is as elsewhere now; it was "none""#);
    server.line_with(r#"SIGHUP: [[console]] name = ["other", "vm2"]: raw is false now; it was as elsewhere"#);
    let mut another = Peer::connect(at);
    server.line_with("client attached, 2 now");
    vm.print(b"second");
    another.expect(b"second");
    client.expect(b"second");
}

pub(super) fn a_console_with_a_list_is_for_those_whom_it_names_from_one_hangup_to_the_next() {
    let folder = Folder::new("listed");
    let (path, socket) = (folder.0.join("vspc.toml"), folder.0.join("admin"));
    let write = |rule: &str| {
        let options = format!("admin-socket = '{}'\nno-banner = true\n", socket.display());
        fs::write(&path, options + rule).unwrap();
    };
    write("[[console]]\nname = 'vm2'\nmay = []\n");
    let server = Server::start(&["--config", &path.display().to_string()]);
    let admin = server.admin_port();
    let (_vm, _) = Peer::vm(&server, 1);
    let mut vm = Peer::connect(server.vms).introduced(2);
    let line = server.line_with("vm identified");
    assert!(line.contains("vm2") && !line.contains("port="), "{line}");
    let by_v3 = || String::from_utf8_lossy(&list_on(TcpStream::connect(admin).unwrap())).into_owned();
    assert!(by_v3().contains("vm1") && !by_v3().contains("vm2"), "{}", by_v3());

    let Some(own) = Client::new(&["--server", &format!("unix:{}", socket.display())]) else { return };
    let Some(other) = Client::new(&["--server", &admin.to_string()]) else { return };
    assert!(own.says(&["list"]).contains("vm2"), "its own user may all");
    assert!(!other.says(&["list"]).contains("vm2"));
    let refused = other.run(&["break", "vm2"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("there is no console vm2"), "{refused:?}");

    write("[[console]]\nname = 'vm2'\nmay = ['loopback=spectator']\n");
    server.signal(Signal::HUP);
    server.line_with(r#"[[console]] name = ["vm2"]: may is ["loopback=spectator"] now; it was []"#);
    assert!(other.says(&["list"]).contains("vm2"));
    let refused = other.run(&["break", "vm2"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("the right writer"), "{refused:?}");
    assert!(!by_v3().contains("vm2"), "who speaks that does not say where it is allowed to");

    write("");
    server.signal(Signal::HUP);
    server.line_with(r#"[[console]] name = ["vm2"] is no rule now"#);
    assert!(by_v3().contains("vm2"));
    other.says(&["break", "vm2"]);
    let port_of = |shown: String| {
        let rest = shown.split("\"port\":").nth(1)?.trim_start().to_owned();
        rest.split(|c: char| !c.is_ascii_digit()).next()?.parse::<u16>().ok()
    };
    let deadline = Instant::now() + PATIENCE;
    let port = loop {
        if let Some(port) = port_of(other.says(&["list", "--json", "vm2"])) {
            break port;
        }
        assert!(Instant::now() < deadline, "it has no port");
    };
    let mut client = Peer::client(SocketAddr::from(([127, 0, 0, 1], port)));
    server.line_with("client attached");
    vm.print(b"open to all");
    client.expect_somewhere(b"open to all");
}
