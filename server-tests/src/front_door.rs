//! The front door: sshd with a forced command is a complete, authenticated entrance (docs/vspc.md, "By ssh").
//! Played with a real sshd and a real ssh.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;

use super::client_tour::vspc;
use super::peer::Peer;
use super::process::{PATIENCE, Server};
use super::programs::{Folder, is_here};

/// An sshd whose only way in is `vspc door`.
struct Door {
    folder: Folder,
    port: u16,
    user: String,
    sshd: Child,
}

impl Door {
    /// One that leads to this admin port. `None`: something that it needs is not here.
    fn open(admin: SocketAddr) -> Option<Self> {
        let vspc = vspc()?;
        let sshd = PathBuf::from("/usr/sbin/sshd");
        if !sshd.is_file() {
            assert!(std::env::var_os("VSPC_REQUIRE_PEERS").is_none(), "sshd has to be here");
            println!("skipped: no sshd");
            return None;
        }
        if !is_here("ssh") || !is_here("ssh-keygen") {
            return None;
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = Folder::new(&format!("door-{port}"));
        let at = |name: &str| folder.0.join(name);
        let mut keys = String::new();
        for (key, words) in [("host", ""), ("ann", "door ann writer"), ("bob", "door bob spectator")] {
            let mut keygen = Command::new("ssh-keygen");
            let made = keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(at(key)).status();
            assert!(made.unwrap().success());
            if !words.is_empty() {
                let public = fs::read_to_string(at(&format!("{key}.pub"))).unwrap();
                let vspc = vspc.display();
                keys += &format!("restrict,pty,command=\"{vspc} --server {admin} {words}\" {public}");
            }
        }
        fs::write(at("authorized_keys"), keys).unwrap();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\nPidFile none\n\
             PermitRootLogin yes\n",
            at("host").display(),
            at("authorized_keys").display(),
        );
        fs::write(at("sshd_config"), config).unwrap();
        // Debian's sshd wants it, and the service makes it.
        let _ = fs::create_dir("/run/sshd");
        let mut sshd = Command::new(sshd)
            .args(["-D", "-e", "-f"])
            .arg(at("sshd_config"))
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = mpsc::channel();
        let stderr = BufReader::new(sshd.stderr.take().unwrap());
        thread::spawn(move || {
            // Somebody has to go on reading.
            stderr.lines().map_while(Result::ok).for_each(|line| drop(sender.send(line)));
        });
        while !lines.recv_timeout(PATIENCE).expect("sshd listens").contains("Server listening") {}
        let user = Command::new("id").arg("-un").output().unwrap().stdout;
        let user = String::from_utf8(user).unwrap().trim().to_owned();
        Some(Self { folder, port, user, sshd })
    }

    fn ssh(&self, key: &str, words: &[&str]) -> Command {
        let mut ssh = Command::new("ssh");
        ssh.args([
            "-F",
            "none",
            "-q",
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
        ])
        .args(["-o", "IdentitiesOnly=yes", "-p", &self.port.to_string(), "-i"])
        .arg(self.folder.0.join(key))
        .arg(format!("{}@127.0.0.1", self.user))
        .args(words)
        .env_remove("SSH_AUTH_SOCK");
        ssh
    }

    fn run(&self, key: &str, words: &[&str], typed: &[u8]) -> Output {
        let mut ssh = self.ssh(key, words);
        ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = ssh.spawn().unwrap();
        child.stdin.take().unwrap().write_all(typed).unwrap();
        child.wait_with_output().unwrap()
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        let _ = self.sshd.kill();
        let _ = self.sshd.wait();
    }
}

pub(super) fn whoever_has_a_key_uses_consoles_under_a_name_of_their_own_and_nothing_else() {
    let server = Server::start(&["--admin-rights", "loopback=writer+delegate"]);
    let admin = server.admin_port();
    let Some(door) = Door::open(admin) else { return };
    let (mut vm, _) = Peer::vm(&server, 1);
    let listed = door.run("ann", &["vspc", "list", "--json"], b"");
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.contains("\"state\":\"connected\""), "{listed}");
    let name = listed.split("\"name\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned();

    let mut sending = door.ssh("ann", &["send", &name, "--expect", "done", "--timeout", "20"]);
    let mut sending = sending.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    sending.stdin.take().unwrap().write_all(b"uptime\n").unwrap();
    vm.expect(b"uptime");
    vm.print(b"done\r\n");
    let sent = sending.wait_with_output().unwrap();
    assert!(sent.status.success(), "{sent:?}");
    let line = server.line_with("attached: ann@127.0.0.1 (via 127.0.0.1)");
    assert!(line.contains("to type"), "{line}");
    server.line_with("left: ann@127.0.0.1");

    let refused = door.run("bob", &["send", &name], b"reboot\n");
    assert_eq!(refused.status.code(), Some(4), "{refused:?}");
    for words in [&["vspc", "--server", "192.0.2.1", "list"][..], &["door", "root"], &["sh", "-c", "id"]] {
        let refused = door.run("ann", words, b"");
        assert_eq!(refused.status.code(), Some(2), "{words:?}: {refused:?}");
        assert!(!String::from_utf8_lossy(&refused.stdout).contains("uid="), "{refused:?}");
    }
}
