//! What `vspc doctor` finds on a server's machine, and at an address (docs/doctor.md).

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output};
use std::thread;

use serde_json::Value;

use super::client_tour::Client;
use super::peer::Peer;
use super::process::{Server, run};
use super::program;
use super::programs::Folder;
use super::redis::Redis;

/// What was found: of each thing how bad it is, what was looked at, what was found, and what to do.
pub(super) struct Found(pub(super) Vec<[String; 4]>);

impl Found {
    fn read(output: &Output) -> Self {
        let report: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|why| panic!("{why}: {output:?}"));
        let word = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
        let findings = report["findings"].as_array().unwrap().iter();
        let found =
            Self(findings.map(|it| ["level", "check", "text", "remedy"].map(|key| word(it, key))).collect());
        let errors = found.0.iter().filter(|[level, ..]| level == "error").count();
        assert_eq!(report["errors"], errors, "{report}");
        assert_eq!(output.status.code(), Some(i32::from(errors > 0)), "{report}");
        found
    }

    /// By the server itself, with what it needs to be alone on the machine.
    fn by_server(options: &[&str]) -> Self {
        let doctor = ["--doctor=json", "--proxy-iface", "127.0.0.1", "--port-range-start", "0"];
        Self::read(&run(&[&doctor, options].concat()))
    }

    /// By somebody who looks at an address. `None`: vspc was not built.
    pub(super) fn at(address: SocketAddr) -> Option<Self> {
        let output = Client::new(&[])?.run(&["doctor", "--json", "--esxi", &address.to_string()]);
        Some(Self::read(&output))
    }

    /// This was looked at, with this outcome.
    pub(super) fn expect(&self, level: &str, check: &str, words: &str) {
        let is_it = |[is, of, text, remedy]: &[String; 4]| {
            is == level && of == check && (text.contains(words) || remedy.contains(words))
        };
        assert!(self.0.iter().any(is_it), "no {level} of {check} with {words:?} in {:#?}", self.0);
    }

    pub(super) fn has_error(&self) -> bool {
        self.0.iter().any(|[level, ..]| level == "error")
    }

    /// Something was said of this.
    pub(super) fn tells_of(&self, what: &str) -> bool {
        self.0.iter().any(|[_, check, ..]| check == what)
    }

    /// What is to be pasted as the server's URI.
    pub(super) fn uri(&self) -> &str {
        let settings = self.0.iter().find(|[_, check, ..]| check == "vsphere");
        settings.map_or("", |[.., remedy]| remedy.split_once("vSPC URI: ").unwrap().1.lines().next().unwrap())
    }
}

pub(super) fn the_doctor_tells_the_server_that_runs_from_whoever_else_has_its_port() {
    let folder = Folder::new("doctor-running");
    let path = |name: &str| folder.0.join(name).display().to_string();
    let (pid, socket, state) = (path("pid"), path("socket"), path("state"));
    let files = ["--pidfile", &pid, "--admin-socket", &socket];
    let state = ["--backend", "file", "--file", &state];
    let server = Server::keeping(&[&files[..], &state, &["--port-range-start", "20000"]].concat());
    let port = server.vms.port().to_string();
    let ports = ["--proxy-port", &port, "--admin-port", "0"];
    // Known by each of the three.
    for known_by in [&files[..2], &files[2..], &[]] {
        let found = Found::by_server(&[&ports[..], known_by].concat());
        found.expect("ok", "vm-port", "served by the server that runs");
        assert!(!found.has_error(), "{:#?}", found.0);
    }
    let options = [&["--doctor=json", "--proxy-iface", "127.0.0.1"], &ports[..], &files, &state].concat();
    let found = Found::read(&run(&options));
    found.expect("ok", "state-file", "kept by the server that runs");
    found.expect("ok", "admin-socket", "served by the server that runs");
    drop(server);

    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = other.local_addr().unwrap().port().to_string();
    let found = Found::by_server(&["--proxy-port", &port, "--admin-port", "0"]);
    found.expect("error", "vm-port", &format!("(pid {})", std::process::id()));
    found.expect("error", "vm-port", "choose another --proxy-port");
    drop(other);
    let found = Found::by_server(&["--proxy-port", &port, "--admin-port", "0"]);
    found.expect("ok", "vm-port", "is free");
    found.expect("ok", "server", "none");
}

pub(super) fn the_doctor_is_the_servers_own_program_and_passes_on_its_exit_code() {
    let Some(client) = Client::new(&[]) else { return };
    let doctor = |words: &[&str]| client.run(&[&["doctor", "--program", program()], words].concat());
    let folder = Folder::new("doctor-program");
    let path = folder.0.join("vspc.toml").display().to_string();
    fs::write(&path, "proxy-iface = '127.0.0.1'\nproxy-port = 0\nadmin-port = 0\nport-range-start = 0\n")
        .unwrap();
    let output = doctor(&["--config", &path]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("\nok     vm-port       the system chooses one on 127.0.0.1\n"), "{text}");
    assert!(text.ends_with(" warnings\n") || text.ends_with(" warning\n"), "{text}");
    assert_eq!(output.status.code(), Some(0), "{text}");
    // TEST-NET-1 (RFC 5737) is nobody's address.
    let output = doctor(&["--json", "--vms", "7", "--config", &path, "--", "--proxy-iface", "192.0.2.1"]);
    Found::read(&output).expect("error", "vm-port", "no interface of this machine");
    fs::write(&path, "proxy-prt = 1\nlag-limit = 'x'\n").unwrap();
    let output = doctor(&["--config", &path]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), text.lines().count()), (Some(2), 2), "{text}");
    let output = client.run(&["doctor", "--program", "/no/such"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

pub(super) fn the_doctor_sees_what_its_user_may_not_do() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can make files that others may not use");
        return;
    }
    let folder = Folder::new("doctor-user");
    fs::set_permissions(&folder.0, fs::Permissions::from_mode(0o755)).unwrap();
    let (logs, state) = (folder.0.join("logs"), folder.0.join("state"));
    fs::create_dir(&logs).unwrap();
    let shown = |path: &std::path::Path| path.display().to_string();
    let (socket, pid) = (shown(&logs.join("socket")), shown(&folder.0.join("pid")));
    let (dir, file) = (shown(&logs), shown(&state));
    let options = ["--log-dir", &dir, "--backend", "file", "--file", &file, "--admin-socket", &socket];
    let as_nobody = || {
        let mut command = Command::new(program());
        command.args([
            "--doctor=json",
            "--proxy-iface",
            "127.0.0.1",
            "--proxy-port",
            "0",
            "--admin-port",
            "0",
        ]);
        command.args(options).args(["--pidfile", &pid]).uid(NOBODY).gid(NOBODY);
        command.output().map(|output| Found::read(&output))
    };
    fs::set_permissions(&logs, fs::Permissions::from_mode(0o700)).unwrap();
    let Ok(found) = as_nobody() else {
        println!("skipped: the server's program is where nobody else may run it");
        return;
    };
    found.expect("error", "log-dir", "chown vspc:");
    found.expect("error", "state-file", "cannot be used");
    found.expect("error", "admin-socket", "cannot be used");
    found.expect("error", "pidfile", "cannot be used");
    for path in [&logs, &folder.0] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    }
    let found = as_nobody().unwrap();
    assert!(!found.has_error(), "{:#?}", found.0);
    found.expect("ok", "user", "65534");
}

pub(super) fn the_doctor_asks_redis_whether_it_lets_the_server_in_and_takes_writes() {
    let Some(redis) = Redis::start("doctor", &["--requirepass", "right"]) else { return };
    let url = |secret: &str| redis.url().replace("redis://", &format!("redis://{secret}"));
    let look = |url: &str| {
        let doctor =
            ["--doctor=json", "--proxy-iface", "127.0.0.1", "--proxy-port", "0", "--admin-port", "0"];
        let options = redis.options(url, "doctor");
        let options: Vec<&str> = doctor.into_iter().chain(options.iter().map(String::as_str)).collect();
        Found::read(&run(&options))
    };
    look(&url(":right@")).expect("ok", "redis", "answers, Redis ");
    look(&url(":wrong@")).expect("error", "redis", "lets this server not in");
    look(&url("")).expect("error", "redis", "lets this server not in");
    let replica = Redis::start("doctor-replica", &["--replicaof", "127.0.0.1", "1"]).unwrap();
    look(&replica.url()).expect("error", "redis", "takes no writes");
    let url = replica.url();
    drop(replica);
    look(&url).expect("error", "redis", "does not answer");
}

pub(super) fn what_a_host_finds_at_a_server_in_clear_is_told_with_what_to_paste() {
    let server = Server::start(&["--no-banner"]);
    let Some(found) = Found::at(server.vms) else { return };
    found.expect("ok", "telnet", "option 232");
    found.expect("warn", "reach", "this machine alone");
    assert!(!found.has_error(), "{:#?}", found.0);
    assert_eq!(found.uri(), format!("telnet://{}", server.vms));
    found.expect("ok", "govc", &format!("-vspc-proxy 'telnet://{}' vSPC.py", server.vms));
    found.expect("ok", "powercli", "Direction = 'server'");
    // Nothing is left of it: the next VM is the first console.
    let (mut vm, port) = Peer::vm(&server, 1);
    let mut client = Peer::client(port);
    server.line_with("client attached");
    Peer::talk(&mut vm, &mut client);
}

pub(super) fn whoever_else_is_at_an_address_is_told_from_a_concentrator() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let Some(found) = Found::at(closed) else { return };
    found.expect("error", "reach", "refuses connections");

    let ssh = stand_in(|mut stream| {
        stream.write_all(b"SSH-2.0-OpenSSH_9.2p1\r\n").unwrap();
        let _ = stream.read(&mut [0; 4096]);
    });
    Found::at(ssh).unwrap().expect("error", "telnet", "an ssh server answers (SSH-2.0-OpenSSH_9.2p1)");

    let http = stand_in(|mut stream| {
        let mut line = Vec::new();
        if BufReader::new(&stream).read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            let _ = stream.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n");
        }
    });
    Found::at(http).unwrap().expect("error", "telnet", "a web server answers");

    let silent = stand_in(|mut stream| while stream.read(&mut [0; 4096]).is_ok_and(|n| n > 0) {});
    Found::at(silent).unwrap().expect("error", "telnet", "says nothing");

    let server = Server::start(&[]);
    let admin = server.admin_port();
    let (_vm, client_port) = Peer::vm(&server, 1);
    Found::at(client_port).unwrap().expect("error", "telnet", "without VMware's extension");
    assert!(Found::at(admin).unwrap().has_error());
}

/// Somebody who does this with each that connects.
fn stand_in(serve: impl Fn(TcpStream) + Send + Clone + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let serve = serve.clone();
            thread::spawn(move || serve(stream));
        }
    });
    address
}

/// The user who has nothing.
const NOBODY: u32 = 65534;
