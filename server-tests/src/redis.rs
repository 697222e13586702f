//! State in Redis (docs/state.md §4), played with a real redis-server: it is shared, killed, emptied, slow,
//! and read-only, and the consoles do not notice.

use std::cell::{OnceCell, RefCell};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;

use rustix::process::Signal;

use super::peer::Peer;
use super::process::{PATIENCE, Server, run};
use super::programs::{Folder, is_here};
use super::state::{Kept, Moment, kill_at_any_moment};
use super::stretch::Stretch;
use super::waiting::wait_until;

/// A redis-server of a test's own.
pub(super) struct Redis {
    child: Child,
    folder: Folder,
    port: u16,
    options: Vec<String>,
    /// Claimed for the first server that keeps its state here: a replica has none, and needs no ports.
    ports: OnceCell<Stretch>,
}

impl Redis {
    /// `None`: there is none on this machine.
    pub(super) fn start(name: &str, options: &[&str]) -> Option<Self> {
        if !is_here("redis-server") {
            return None;
        }
        let folder = Folder::new(&format!("redis-{name}"));
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Self::spawn(&folder, port, options);
        let options = options.iter().map(|&option| option.to_owned()).collect();
        Some(Self { child, folder, port, options, ports: OnceCell::new() })
    }

    fn spawn(folder: &Folder, port: u16, options: &[&str]) -> Child {
        let mut child = Command::new("redis-server")
            .args(["--save", "", "--bind", "127.0.0.1", "--port", &port.to_string(), "--dir"])
            .arg(&folder.0)
            .args(options)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        while !lines.next().expect("redis-server starts").unwrap().contains("Ready to accept") {}
        thread::spawn(move || lines.for_each(drop));
        child
    }

    /// Ends it, as a machine does that loses power.
    pub(super) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts one that knows what this one has written to its disk: by default nothing.
    fn start_again(&mut self) {
        let options: Vec<&str> = self.options.iter().map(String::as_str).collect();
        self.child = Self::spawn(&self.folder, self.port, &options);
    }

    pub(super) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(super) fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    pub(super) fn info(&self, section: &str) -> String {
        self.value(&["INFO", section]).unwrap().replace("\r\n", "\n")
    }

    /// Asks it, and gives the reply as it is on the wire.
    pub(super) fn ask(&self, words: &[&str]) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut request = format!("*{}\r\n", words.len());
        words.iter().for_each(|word| request += &format!("${}\r\n{word}\r\n", word.len()));
        request += "*1\r\n$4\r\nQUIT\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        reply.strip_suffix("+OK\r\n").unwrap().to_owned()
    }

    pub(super) fn value(&self, words: &[&str]) -> Option<String> {
        self.ask(words).strip_prefix('$')?.split_once("\r\n").map(|(_, value)| value.trim_end().to_owned())
    }

    pub(super) fn options(&self, url: &str, owner: &str) -> Vec<String> {
        let [first, last] = self.ports.get_or_init(Stretch::claim).range(1536);
        let words = ["--no-banner", "--backend", "Redis", "--redis-url", url, "--redis-owner", owner];
        let range = ["--port-range-start", &first, "--port-range-end", &last];
        words.into_iter().chain(range).map(str::to_owned).collect()
    }

    fn keeper(&self, owner: &str) -> Kept {
        self.keeper_by(&self.url(), owner)
    }

    pub(super) fn keeper_by(&self, url: &str, owner: &str) -> Kept {
        Kept::of(Server::keeping(&refs(&self.options(url, owner))))
    }

    pub(super) fn refused(&self, url: &str, owner: &str) -> String {
        let mut options = self.options(url, owner);
        let ports = ["--proxy-iface", "127.0.0.1", "--proxy-port", "0", "--admin-port", "0"];
        options.extend(ports.map(str::to_owned));
        let output = run(&refs(&options));
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(super) fn refs(options: &[String]) -> Vec<&str> {
    options.iter().map(String::as_str).collect()
}

/// What is typed arrives, and what is printed.
pub(super) fn talk(vm: &mut Peer, client: &mut Peer) {
    for letter in b'a'..=b'z' {
        client.print(&[letter]);
        vm.expect(&[letter]);
        vm.print(&[letter]);
        client.expect(&[letter]);
    }
}

const UUID: &str = "00112233-4455-6677-8899-aabbccddee01";

pub(super) fn each_vm_has_its_port_again_after_a_kill_and_its_name_is_published() {
    let Some(redis) = Redis::start("again", &[]) else { return };
    redis.ask(&["SET", "Active:VM:Portothers", "1"]);
    redis.ask(&["HSET", "VM:Port", "others", "1"]);
    let mut kept = redis.keeper("a");
    let (_first, first) = Peer::vm(&kept.server, 1);
    let (_second, second) = Peer::vm(&kept.server, 2);
    kept.wait_for(2);
    kept.end_by(Signal::KILL);
    let mut kept = redis.keeper("a");
    let (_vm, port) = Peer::vm(&kept.server, 2);
    assert_eq!(port, second);
    let (_vm, port) = Peer::vm(&kept.server, 1);
    assert_eq!(port, first);
    kept.wait_for(2);
    let first = Some(first.port().to_string());
    let with_uuid = format!("vm1 ({UUID})");
    for name in ["vm1", &with_uuid] {
        assert_eq!(redis.value(&["GET", &format!("Active:VM:Port{name}")]), first, "{name}");
        assert_eq!(redis.value(&["GET", &format!("Saved:VM:Port{name}")]), first);
        assert_eq!(redis.value(&["HGET", "VM:Port", name]), first);
    }
    // Another program has published something else under a name of ours by now.
    redis.ask(&["SET", "Active:VM:Portvm2", "7"]);
    kept.end_by(Signal::TERM);
    assert_eq!(redis.ask(&["EXISTS", "Active:VM:Portvm1"]), ":0\r\n");
    assert_eq!(redis.ask(&["HEXISTS", "VM:Port", "vm1"]), ":0\r\n");
    assert_eq!(redis.value(&["GET", "Saved:VM:Portvm1"]), first, "for thirty days");
    assert_eq!(redis.value(&["GET", "Active:VM:Portvm2"]).as_deref(), Some("7"));
    assert_eq!(redis.value(&["HGET", "VM:Port", "others"]).as_deref(), Some("1"));
    assert_eq!(redis.value(&["GET", "Active:VM:Portothers"]).as_deref(), Some("1"));
}

pub(super) fn a_second_server_of_one_name_does_not_start() {
    let Some(redis) = Redis::start("name", &[]) else { return };
    let kept = redis.keeper("a");
    let why = redis.refused(&redis.url(), "a");
    assert!(why.contains("--redis-owner"), "{why}");
    kept.end_by(Signal::TERM);
    // Who stops in order leaves its name at once.
    redis.keeper("a");
}

pub(super) fn servers_that_share_a_redis_give_out_no_port_twice() {
    let Some(redis) = Redis::start("share", &[]) else { return };
    let mut servers = ["a", "b"].map(|owner| redis.keeper(owner));
    let mut owners = std::collections::BTreeMap::new();
    let mut vms = Vec::new();
    for (nth, kept) in servers.iter_mut().enumerate() {
        // More than a block, so that each has to get another one.
        for number in 0..=255_u8 {
            let vm = Peer::vm_without_port(&kept.server, number);
            let port = kept.server.next_client_port().port();
            assert_eq!(owners.insert(port, (nth, number)), None, "two have port {port}");
            vms.push(vm);
        }
    }
    assert_eq!(owners.len(), 512);
}

pub(super) fn a_redis_that_is_killed_and_comes_back_empty_costs_nobody_anything() {
    let Some(mut redis) = Redis::start("killed", &[]) else { return };
    let mut kept = redis.keeper("a");
    let (mut vm, port) = Peer::vm(&kept.server, 1);
    let mut client = Peer::client(port);
    kept.server.line_with("client attached");
    kept.wait_for(1);
    redis.kill();
    let (_second, second) = Peer::vm(&kept.server, 2);
    kept.server.line_with("the state cannot be kept");
    talk(&mut vm, &mut client);
    assert_eq!(kept.wait_for(1).len(), 1);
    redis.start_again();
    let next = kept.server.line_with("the state ");
    assert!(next.contains("kept again"), "{next}");
    assert_eq!(kept.wait_for(2)["vm2"], second.port());
    kept.end_by(Signal::KILL);
    let kept = redis.keeper("a");
    let (_vm, again) = Peer::vm(&kept.server, 2);
    assert_eq!(again, second);
}

/// In every other round, Redis is killed while VMs come and go; it comes back, by turns, before the server is
/// killed and after that.
pub(super) fn a_server_that_is_killed_and_its_redis_too_has_lost_no_port_that_was_reported_kept() {
    let safe = ["--appendonly", "yes", "--appendfsync", "always"];
    let Some(redis) = Redis::start("kills", &safe) else { return };
    let redis = RefCell::new(redis);
    let start = || redis.borrow().keeper("a");
    kill_at_any_moment(start, |moment, kill| {
        let mut redis = redis.borrow_mut();
        match moment {
            Moment::Halfway if kill % 2 == 0 => {
                redis.kill();
                if kill % 4 == 0 {
                    redis.start_again();
                }
            }
            Moment::Halfway => {}
            Moment::Between => {
                if kill % 4 == 2 {
                    redis.start_again();
                }
                // The name of a server that was killed is its own for some seconds more.
                redis.ask(&["DEL", "vspc:live:a"]);
            }
        }
    });
}

pub(super) fn a_redis_that_forgets_everything_is_told_it_again() {
    let Some(redis) = Redis::start("flushed", &[]) else { return };
    let mut kept = redis.keeper("a");
    let (_vm, port) = Peer::vm(&kept.server, 1);
    kept.wait_for(1);
    redis.ask(&["FLUSHALL"]);
    kept.server.line_with("Redis has forgotten");
    let port = Some(port.port().to_string());
    wait_until("it is published again", || redis.value(&["HGET", "VM:Port", "vm1"]) == port);
    assert!(redis.value(&["HGET", "vspc:consoles:a", UUID]).unwrap().contains("vm1"));
    assert!(redis.ask(&["KEYS", "vspc:block:*"]).contains("vspc:block:"));
}

/// One that stood still for long enough may find that its name was taken meanwhile.
pub(super) fn a_server_whose_name_another_one_has_says_so_once_and_leaves_alone_what_is_kept() {
    let Some(redis) = Redis::start("doubled", &[]) else { return };
    let mut kept = redis.keeper("a");
    let _first = Peer::vm(&kept.server, 1);
    kept.wait_for(1);
    let take_name = || {
        redis.ask(&["SET", "vspc:live:a", "another"]);
        redis.ask(&["SET", "vspc:revision:a", "another:1"]);
        let line = kept.server.line_with("Redis");
        assert!(line.contains("another server is called a in Redis"), "{line}");
        assert!(line.contains("--redis-owner"), "{line}");
    };
    take_name();
    let _second = Peer::vm_without_port(&kept.server, 2);
    let line = kept.server.line_with("vm identified");
    assert!(!line.contains("port="), "the other may give out the same: {line}");
    let asked = || -> u64 {
        let stats = redis.info("commandstats");
        let calls = stats.split_once("cmdstat_eval:calls=").and_then(|(_, rest)| rest.split_once(','));
        calls.unwrap().0.parse().unwrap()
    };
    let before = asked();
    wait_until("it tries again", || asked() >= before + 3);
    assert_eq!(redis.ask(&["HLEN", "vspc:consoles:a"]), ":1\r\n");
    assert_eq!(redis.value(&["GET", "vspc:revision:a"]).as_deref(), Some("another:1"));
    redis.ask(&["DEL", "vspc:live:a"]);
    // The next line of what is kept: it was told once, and nothing was forgotten.
    let next = kept.server.line_with("kept");
    assert!(next.contains("kept again"), "{next}");
    let line = kept.server.line_with("client port ");
    assert!(line.contains("is open now"), "{line}");
    take_name();
    redis.ask(&["DEL", "vspc:live:a"]);
    kept.server.line_with("kept again");
    kept.wait_for(2);
    assert_eq!(redis.ask(&["HLEN", "vspc:consoles:a"]), ":2\r\n");
}

pub(super) fn what_changes_right_after_redis_has_forgotten_everything_hides_nothing() {
    let Some(redis) = Redis::start("hidden", &[]) else { return };
    let mut kept = redis.keeper("a");
    let _first = Peer::vm(&kept.server, 1);
    kept.wait_for(1);
    redis.ask(&["FLUSHALL"]);
    // Before anybody can have looked whether all is there.
    let _second = Peer::vm(&kept.server, 2);
    kept.wait_for(2);
    let line = kept.server.line_with("Redis ");
    assert!(line.contains("Redis has forgotten"), "{line}");
    assert_eq!(redis.ask(&["HLEN", "vspc:consoles:a"]), ":2\r\n");
}

pub(super) fn a_redis_that_takes_no_writes_is_told_of_once_and_made_up_for() {
    let Some(redis) = Redis::start("replica", &[]) else { return };
    let mut kept = redis.keeper("a");
    let (mut vm, port) = Peer::vm(&kept.server, 1);
    let mut client = Peer::client(port);
    kept.server.line_with("client attached");
    kept.wait_for(1);
    // As one does that a failover has made a replica of another.
    redis.ask(&["REPLICAOF", "127.0.0.1", "1"]);
    let line = kept.server.line_with("the state cannot be kept");
    assert!(line.contains(&format!("{} is a replica", redis.address())), "{line}");
    let (_second, second) = Peer::vm(&kept.server, 2);
    talk(&mut vm, &mut client);
    redis.ask(&["REPLICAOF", "NO", "ONE"]);
    let next = kept.server.line_with("the state ");
    assert!(next.contains("kept again"), "{next}");
    assert_eq!(kept.wait_for(2)["vm2"], second.port());
    assert_eq!(redis.ask(&["HLEN", "vspc:consoles:a"]), ":2\r\n");
}

pub(super) fn a_redis_that_stands_still_keeps_nobody_from_typing() {
    let Some(redis) = Redis::start("still", &[]) else { return };
    let mut kept = redis.keeper("a");
    let (mut vm, port) = Peer::vm(&kept.server, 1);
    let mut client = Peer::client(port);
    kept.server.line_with("client attached");
    kept.wait_for(1);
    redis.ask(&["CLIENT", "PAUSE", "3000", "ALL"]);
    let (_second, second) = Peer::vm(&kept.server, 2);
    talk(&mut vm, &mut client);
    assert_eq!(kept.wait_for(1).len(), 1);
    assert_eq!(kept.wait_for(2)["vm2"], second.port());
}

pub(super) fn a_user_with_a_password_a_unix_socket_and_a_database_lead_to_it() {
    let files = Folder::new("redis-ways-files");
    let socket = files.0.join("redis.sock").display().to_string();
    let mut options = vec!["--unixsocket", &socket];
    options.extend("--user vspc on >pass ~* &* +@all".split(' '));
    let Some(redis) = Redis::start("ways", &options) else { return };
    let urls = [
        format!("redis://vspc:pass@127.0.0.1:{}", redis.port),
        format!("redis://127.0.0.1:{}/3", redis.port),
        format!("unix://{socket}?user=vspc&pass=pass"),
    ];
    for (nth, url) in urls.iter().enumerate() {
        let mut kept = redis.keeper_by(url, &format!("owner{nth}"));
        let _vm = Peer::vm(&kept.server, 1);
        kept.wait_for(1);
    }
    let why = redis.refused(&format!("redis://vspc:wrong@127.0.0.1:{}", redis.port), "x");
    assert!(why.contains("--redis-url") && !why.contains("wrong@"), "{why}");
}

pub(super) fn a_redis_that_is_not_there_keeps_a_server_from_starting() {
    let Some(mut redis) = Redis::start("gone", &[]) else { return };
    redis.kill();
    let why = redis.refused(&redis.url(), "a");
    assert!(why.contains("cannot use Redis") && why.contains("--redis-url"), "{why}");
}
