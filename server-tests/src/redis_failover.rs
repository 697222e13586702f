//! State in a Redis that fails over (docs/state.md §4): real redis-servers, one a replica of the other,
//! behind one address that leads to whichever is the master.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use super::peer::Peer;
use super::process::Server;
use super::programs::{Folder, is_here};
use super::redis::{Redis, talk};
use super::waiting::wait_until;

/// An address that leads to one Redis and, from some moment on, to another, as that of a load balancer does,
/// or one that moves from machine to machine.
struct Way {
    at: SocketAddr,
    led: Arc<Mutex<Led>>,
}

struct Led {
    to: SocketAddr,
    /// Both ends of each connection.
    through: Vec<(TcpStream, TcpStream)>,
}

impl Way {
    fn to(redis: &Redis) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let led = Arc::new(Mutex::new(Led { to: redis.address(), through: Vec::new() }));
        let leads = Arc::clone(&led);
        // Both threads end with the test program.
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let mut led = leads.lock().unwrap();
                let Ok(far) = TcpStream::connect(led.to) else { continue };
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    thread::spawn(move || {
                        let _ = io::copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Write);
                    });
                }
                led.through.push((near, far));
            }
        });
        Self { at, led }
    }

    /// From now on it leads there, and who was led elsewhere is cut off.
    fn lead_to(&self, redis: &Redis) {
        let mut led = self.led.lock().unwrap();
        led.to = redis.address();
        for (near, far) in led.through.drain(..) {
            let _ = near.shutdown(Shutdown::Both);
            let _ = far.shutdown(Shutdown::Both);
        }
    }

    fn url(&self) -> String {
        format!("redis://{}", self.at)
    }
}

/// A master and its replica, which has all that the master has.
fn pair(name: &str) -> Option<(Redis, Redis)> {
    let master = Redis::start(&format!("{name}-master"), &["--repl-diskless-sync-delay", "0"])?;
    let port = master.address().port().to_string();
    let replica = Redis::start(&format!("{name}-replica"), &["--replicaof", "127.0.0.1", &port])?;
    wait_until("the replica follows", || replica.info("replication").contains("master_link_status:up"));
    Some((master, replica))
}

fn await_replica(master: &Redis, replica: &Redis) {
    let offset = |redis: &Redis, name: &str| {
        let info = redis.info("replication");
        info.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned)
    };
    wait_until("the replica has all", || {
        offset(master, "master_repl_offset:") == offset(replica, "slave_repl_offset:")
    });
}

/// The replica is a master from now on, and lacks what the master is told later.
fn part(replica: &Redis) {
    replica.ask(&["REPLICAOF", "NO", "ONE"]);
}

fn ask_for_ok(redis: &Redis, command: &str) {
    let words: Vec<&str> = command.split_whitespace().collect();
    assert_eq!(redis.ask(&words), "+OK\r\n", "{command}");
}

/// Which server gives out the ports of which block.
fn blocks(redis: &Redis) -> BTreeMap<String, String> {
    let keys = redis.ask(&["KEYS", "vspc:block:*"]);
    let keys = keys.lines().filter(|line| line.starts_with("vspc:"));
    keys.filter_map(|key| Some((key.to_owned(), redis.value(&["GET", key])?))).collect()
}

fn count_of(blocks: &BTreeMap<String, String>, owner: &str) -> usize {
    blocks.values().filter(|&other| other == owner).count()
}

pub(super) fn a_failover_to_a_replica_that_lacks_the_last_writes_costs_nobody_anything() {
    let Some((mut master, replica)) = pair("behind") else { return };
    let way = Way::to(&master);
    let (mut a, mut b) = (master.keeper_by(&way.url(), "a"), master.keeper_by(&way.url(), "b"));
    let (mut vm, port) = Peer::vm(&a.server, 1);
    let mut client = Peer::client(port);
    a.server.line_with("client attached");
    a.wait_for(1);
    await_replica(&master, &replica);
    part(&replica);
    // The replica learns nothing of these, nor of the block of ports that they make the server ask for.
    let mut ports = BTreeMap::from([(port.port(), "a".to_owned())]);
    let mut vms = Vec::new();
    let mut add = |server: &Server, owner: &str, numbers: std::ops::Range<u8>| {
        for number in numbers {
            vms.push(Peer::vm_without_port(server, number));
            let port = server.next_client_port().port();
            assert_eq!(ports.insert(port, owner.to_owned()), None, "two have port {port}");
        }
    };
    add(&a.server, "a", 2..MANY);
    let kept = a.wait_for(usize::from(MANY) - 1);
    wait_until("a has another block", || count_of(&blocks(&master), "a") == 2);
    let before = blocks(&master);
    assert_eq!(count_of(&blocks(&replica), "a"), 1, "{:?}", blocks(&replica));
    // The other server meets the new master first, and wants another block, too.
    a.server.while_stopped(|| {
        master.kill();
        way.lead_to(&replica);
        b.server.line_with("the state cannot be kept");
        b.server.line_with("the state is kept again");
        add(&b.server, "b", 1..MANY);
        b.wait_for(usize::from(MANY) - 1);
    });
    a.server.line_with("the state cannot be kept");
    talk(&mut vm, &mut client);
    a.server.line_with("the state is kept again");
    let lost = |owner: &str| replica.ask(&["HLEN", &format!("vspc:consoles:{owner}")]);
    assert_eq!(lost("a"), format!(":{}\r\n", MANY - 1));
    assert_eq!(a.wait_for(usize::from(MANY) - 1), kept);
    let published = kept["vm2"].to_string();
    assert_eq!(replica.value(&["HGET", "VM:Port", "vm2"]), Some(published));
    // Whose the blocks are has not changed; what is missing is made up for when all have had time to say so.
    wait_until("b has another block", || count_of(&blocks(&replica), "b") == 2);
    let after = blocks(&replica);
    assert!(before.iter().all(|(block, owner)| after.get(block) == Some(owner)), "{before:?}, {after:?}");
    add(&a.server, "a", MANY..u8::MAX);
    add(&b.server, "b", MANY..u8::MAX);
    for server in [&a.server, &b.server] {
        let said = server.lines_so_far();
        let trouble = |line: &&String| line.contains("Redis has") || line.contains("the state");
        assert_eq!(said.iter().find(trouble), None);
    }
}

pub(super) fn a_master_that_was_made_a_replica_is_left_for_the_one_that_haproxy_leads_to() {
    if !is_here("haproxy") {
        return;
    }
    let Some((master, replica)) = pair("demoted") else { return };
    for redis in [&master, &replica] {
        ask_for_ok(redis, &format!("ACL SETUSER {}", shown("redis").strip_prefix("user ").unwrap()));
    }
    let haproxy = Haproxy::start(&[&master, &replica]);
    // It leads to each in turn, until it has looked what they are.
    wait_until("haproxy has found the master", || (0..4).all(|_| haproxy.leads_to_a_master()));
    let mut kept = master.keeper_by(&format!("redis://{}", haproxy.at), "a");
    let (mut vm, port) = Peer::vm(&kept.server, 1);
    let mut client = Peer::client(port);
    kept.server.line_with("client attached");
    kept.wait_for(1);
    await_replica(&master, &replica);
    for redis in [&master, &replica] {
        // From now on only HAProxy's own user may ask for that.
        ask_for_ok(redis, "ACL SETUSER default -info");
    }
    // As Sentinel does when it is asked for a failover.
    part(&replica);
    master.ask(&["REPLICAOF", "127.0.0.1", &replica.address().port().to_string()]);
    let (_second, second) = Peer::vm(&kept.server, 2);
    talk(&mut vm, &mut client);
    assert_eq!(kept.wait_for(2)["vm2"], second.port());
    let has_it = |redis: &Redis| redis.value(&["HGET", "VM:Port", "vm2"]) == Some(second.port().to_string());
    assert!(has_it(&replica));
    wait_until("the new replica has it, too", || has_it(&master));
}

/// The text that docs/state.md §4 shows in this language.
fn shown(language: &str) -> &'static str {
    let page = include_str!("../../docs/state.md");
    page.split_once(&format!("```{language}\n")).unwrap().1.split_once("```").unwrap().0
}

/// The one that docs/state.md §4 shows, which leads to whichever Redis is the master.
struct Haproxy {
    child: Child,
    at: SocketAddr,
    _folder: Folder,
}

impl Haproxy {
    fn start(redis: &[&Redis]) -> Self {
        let at = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let folder = Folder::new(&format!("haproxy-redis-{}", at.port()));
        let mut text = "defaults\n timeout connect 5s\n timeout client 1h\n timeout server 1h\n".to_owned();
        text += &shown("haproxy").replace("bind :6379", &format!("bind {at}"));
        for (nth, redis) in redis.iter().enumerate() {
            let place = format!("redis{}.example.com:6379", nth + 1);
            assert!(text.contains(&place), "{text}");
            text = text.replace(&place, &redis.address().to_string());
        }
        let config = folder.0.join("haproxy.cfg");
        fs::write(&config, text).unwrap();
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(&config).stdout(Stdio::null()).stderr(Stdio::null());
        Self { child: command.spawn().unwrap(), at, _folder: folder }
    }

    fn leads_to_a_master(&self) -> bool {
        let Ok(mut to) = TcpStream::connect(self.at) else { return false };
        let mut said = String::new();
        let is_asked = to.write_all(b"INFO replication\r\nQUIT\r\n").is_ok();
        is_asked && to.read_to_string(&mut said).is_ok() && said.contains("role:master")
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// VMs that make a server want a second block of ports: it has a quarter more than are in use, and an eighth
/// of its range.
const MANY: u8 = 64;
