//! Those who make the server keep something: early bytes, answers that nobody reads, output that nobody
//! takes, descriptors of clients that have gone.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use super::super::attack::Attack;
use super::super::drill::Drill;
use super::super::ground::Victim;
use super::super::peer::{End, From, Peer};
use super::super::wire::{hello, message};
use crate::load::LoadError;
use crate::load::link::{TICK, numbered_vm, read_some};
use crate::telnet::names::code;

pub(super) const EARLY: Drill = Drill::new(
    "early",
    "700 strangers fill the pool of early bytes; a VM's first 16 000 bytes arrive, and moves lose nothing",
    early,
)
.moves();

pub(super) const NOTNOW: Drill = Drill::new(
    "notnow",
    "a VM begins moves without end and never reads the answers; memory has a bound",
    |attack| {
        let from = From { receive_buffer: Some(4096), ..From::default() };
        let begin = message(code::BEGIN, &[b'q'; 64]).repeat(64);
        let vms = attack.ground.vms();
        let mut peers: Vec<Peer> = Vec::new();
        for number in 0..8 {
            peers.extend(attack.connect(
                vms,
                from,
                hello(&numbered_vm(attack.victim_number() + 100 * (number + 1))),
            ));
        }
        while attack.is_on() {
            let mut sent = 0;
            for peer in &mut peers {
                sent += if peer.backlog() > 0 { peer.write() } else { peer.write_on(&begin) };
            }
            attack.effort.bytes += sent as u64;
            if sent == 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        Ok(())
    },
)
.takes_kib(8 << 10);

pub(super) const STALLED: Drill = Drill::new(
    "stalled",
    "60 clients of a VM that prints without end never read; what the kernel keeps for each has a bound",
    stalled,
)
.alone();

pub(super) const DEPARTED: Drill = Drill::new(
    "departed",
    "a VM takes nothing, one client has pasted, 200 others come and go; the server notices that they went",
    departed,
);

/// Strangers who say 64 KiB each, and a VM that says 16 000 bytes before who it is, again and again.
fn early(attack: &mut Attack<'_>) -> Result<(), LoadError> {
    let vms = attack.ground.vms();
    let mut victim = attack.ground.is_server.then(|| attack.victim()).transpose()?;
    if let Some(Err(why)) = victim.as_mut().map(|victim| first_bytes(attack, victim, 0)) {
        attack.facts.problem(format!("before any stranger came: {why}"));
    }
    let noise = vec![b'x'; 64 << 10];
    let mut strangers = attack.gather(vms, 700, 2000.0, |_| noise.clone());
    let (mut tries, mut whole) = (0, 0);
    while attack.is_on() {
        attack.look_at(&mut strangers);
        let Some(victim) = &mut victim else {
            attack.rest(TICK);
            continue;
        };
        tries += 1;
        match first_bytes(attack, victim, tries) {
            Ok(()) => whole += 1,
            Err(why) => attack.facts.problem(format!("try {tries}: {why}")),
        }
        if attack.facts.problems().len() > 3 {
            break;
        }
    }
    attack.facts.say(format!("{whole} of {tries} times a VM's first {FIRST_BYTES} bytes came whole"));
    attack.facts.put("first_bytes_whole", whole);
    attack.facts.put("first_bytes_tries", tries);
    Ok(())
}

/// The VM goes, comes back printing, and only then says who it is: its client sees all of it.
fn first_bytes(attack: &Attack<'_>, victim: &mut Victim, number: u64) -> Result<(), String> {
    let failed = |error: std::io::Error| error.to_string();
    // It goes first: two at a time would be something else.
    let _ = victim.vm.stream.shutdown(std::net::Shutdown::Both);
    std::thread::sleep(Duration::from_millis(20));
    let mut stream = std::net::TcpStream::connect(attack.ground.vms()).map_err(failed)?;
    let mut text = format!("early {number} ").into_bytes();
    text.resize(FIRST_BYTES - 4, b'e');
    text.extend_from_slice(b"end.");
    stream.write_all(&text).map_err(failed)?;
    // Time enough for the server to have read it, and for others to have it thrown out.
    std::thread::sleep(Duration::from_millis(50));
    stream.write_all(&hello(&numbered_vm(attack.victim_number()))).map_err(failed)?;
    victim.vm.stream = stream;
    let client = victim.client.as_mut().ok_or("nobody watches")?;
    let mut seen = Vec::new();
    let limit = Instant::now() + Duration::from_secs(3);
    let mut scratch = vec![0; 1 << 16];
    while !seen.ends_with(b"end.") && Instant::now() < limit {
        let n = read_some(&mut client.stream, &mut scratch, "the client").map_err(|e| e.to_string())?;
        seen.extend_from_slice(&scratch[..n]);
    }
    if seen.ends_with(&text) {
        return Ok(());
    }
    let tail = String::from_utf8_lossy(&seen[seen.len().saturating_sub(60)..]).into_owned();
    Err(format!("{} of {FIRST_BYTES} bytes, the last of them {tail:?}", seen.len()))
}

/// Clients with the smallest receive buffers, so that what is kept is the server's.
fn stalled(attack: &mut Attack<'_>) -> Result<(), LoadError> {
    let mut victim = attack.victim()?;
    let before = crate::load::process::tcp_memory_kib();
    let from = From { receive_buffer: Some(2048), ..From::default() };
    let mut peers = Vec::new();
    for _ in 0..STALLED_CLIENTS {
        peers.extend(attack.connect(victim.at, from, b"+$".to_vec()));
    }
    for peer in &mut peers {
        attack.effort.bytes += peer.write() as u64;
    }
    drop(victim.client.take());
    let line = b"a line that a VM prints, and nobody reads it\r\n".repeat(500);
    let mut pace = attack.pace(20e6);
    let mut most = 0;
    while attack.is_on() {
        if let Err(error) = victim.vm.print(&line) {
            attack.facts.problem(format!("the VM was held up: {error}"));
            return Ok(());
        }
        attack.effort.bytes += line.len() as u64;
        most = most.max(crate::load::process::tcp_memory_kib());
        attack.keep(&mut pace, line.len() as f64);
    }
    let each = most.saturating_sub(before) / STALLED_CLIENTS;
    attack.facts.say(format!("{each} KiB in the kernel for each of {STALLED_CLIENTS} stalled clients"));
    attack.facts.put("kernel_kib_per_stalled_client", each);
    if attack.ground.is_server && each > STALLED_KIB {
        attack.facts.problem(format!("{each} KiB in the kernel per stalled client, {STALLED_KIB} allowed"));
    }
    Ok(())
}

/// The VM's window is 0 all the time.
fn departed(attack: &mut Attack<'_>) -> Result<(), LoadError> {
    let vms = attack.ground.vms();
    if !attack.ground.is_server {
        attack.rest(attack.left());
        return Ok(());
    }
    // Found while it reads, it comes back as one that does not.
    let victim = attack.victim()?;
    let (at, Some(mut paster)) = (victim.at, victim.client) else { return Ok(()) };
    drop(victim.vm);
    let from = From { receive_buffer: Some(4096), ..From::default() };
    let mut stuck: Vec<Peer> =
        attack.connect(vms, from, hello(&numbered_vm(attack.victim_number()))).into_iter().collect();
    attack.rest(Duration::from_millis(300));
    let _ = paster.stream.set_write_timeout(Some(Duration::from_millis(500)));
    let text = vec![b'x'; 1 << 16];
    let mut pasted = 0;
    while let Ok(n) = paster.stream.write(&text)
        && pasted < 64 << 20
    {
        pasted += n;
    }
    attack.effort.bytes += pasted as u64;
    let before = attack.ground.connections_at(at)?;
    for number in 0..200 {
        let words = if number % 2 == 0 { b"hello\r".to_vec() } else { Vec::new() };
        let Some(mut peer) = attack.connect(at, From::default(), words) else { continue };
        std::thread::sleep(Duration::from_millis(2));
        attack.effort.bytes += peer.write() as u64;
        // Who has read all that he was told, and closes, may be one whose input has ended and who goes on
        // reading: nobody can tell. Who has not, is found out by what comes back.
        peer.leave(if number % 4 < 2 { End::Close } else { End::Reset });
    }
    // Longer than the attack: half-closed clients have 10 s.
    let gone = Instant::now();
    let left = loop {
        let left = attack.ground.connections_at(at)?.saturating_sub(before);
        if left == 0 || gone.elapsed() > NOTICED_WITHIN {
            break left;
        }
        std::thread::sleep(Duration::from_millis(200));
    };
    let seconds = gone.elapsed().as_secs_f64();
    attack.facts.say(format!("{left} of 200 departed left after {seconds:.1} s"));
    attack.facts.put("departed_left", left);
    if left > 0 {
        attack
            .facts
            .problem(format!("{left} of 200 clients that have gone are still held after {seconds:.0} s"));
    }
    // It has been there all the time, and has not been closed.
    stuck.iter_mut().for_each(|peer| attack.look(peer));
    let mut rest = Vec::new();
    let _ = paster.stream.set_read_timeout(Some(TICK));
    let _ = paster.stream.read_to_end(&mut rest);
    if stuck.iter().any(|peer| !peer.is_open) {
        attack.facts.problem("the VM that takes nothing was disconnected");
    }
    Ok(())
}

/// More than the engine keeps of a connection before it knows whose it is; less than 16 KiB.
const FIRST_BYTES: usize = 16_000;
/// Clients that never read.
const STALLED_CLIENTS: u64 = 60;
/// A send buffer that fills a fast line for a few milliseconds, in the kernel's own accounting.
const STALLED_KIB: u64 = 256;
/// How long a server may take to see that a client has gone.
const NOTICED_WITHIN: Duration = Duration::from_secs(15);
