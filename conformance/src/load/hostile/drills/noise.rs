//! Those who say much: negotiation without end, whatever makes log lines, garbage.

use std::net::SocketAddr;

use super::super::attack::{Attack, Visits};
use super::super::drill::{Drill, Tls};
use super::super::wire::{ON_AND_OFF, OPENING, hello, made_up, message};
use crate::load::LoadError;
use crate::load::garbage::make_garbage;
use crate::random::Random;
use crate::telnet::names::code;

pub(super) const NEGOTIATION: Drill = Drill::new(
    "negotiation",
    "200 strangers turn option 232 on and off without end; another console's key does not wait",
    |attack| {
        let pattern = ON_AND_OFF.repeat(10_000);
        let vms = attack.ground.vms();
        let returned = attack.flood(vms, 200, &pattern, |_| Vec::new(), 200e6);
        attack.facts.say(format!("{returned} came back"));
        Ok(())
    },
);

pub(super) const LOG: Drill = Drill::new(
    "log",
    "four connections do as fast as they can what makes log lines; the log has a bound",
    log,
)
.logs(LOG_PER_SECOND);

pub(super) const CONNECTS: Drill = Drill::new(
    "connects",
    "3000 connections a second that say nothing and go, half of them by reset; the log has a bound",
    |attack| {
        let visits = Visits { to: attack.ground.vms(), per_second: 3000.0, kept: 16, end: None };
        attack.visits(visits, |_, _| Vec::new(), |_| {});
        Ok(())
    },
)
.logs(LOG_PER_SECOND);

pub(super) const GARBAGE: Drill = Drill::new(
    "garbage",
    "64 connections of garbage to the VM port and a client port; nobody else notices",
    |attack| garbage(attack, |_| Vec::new()),
);

pub(super) const TLS_GARBAGE: Drill = Drill::new(
    "garbage-tls",
    "garbage in TLS records, and TLS records cut anywhere, to the VM port and a client port",
    |attack| garbage(attack, tls_record),
)
.tls(Tls::All);

/// Each does one thing without end: moves that nobody began, moves with wrong secrets, renames, moves that
/// are begun again.
fn log(attack: &mut Attack<'_>) -> Result<(), LoadError> {
    let vms = attack.ground.vms();
    let name = |n: usize| message(code::NAME, format!("{n:04}{}", "n".repeat(120)).as_bytes());
    let kinds: [(bool, Vec<u8>); 4] = [
        (false, message(code::COMPLETE, b"q")),
        (false, message(code::PEER, &[b'q'; 20])),
        (true, (0..100).flat_map(name).collect()),
        (true, message(code::BEGIN, b"q")),
    ];
    let mut peers = Vec::new();
    for (number, (is_vm, _)) in kinds.iter().enumerate() {
        let first = if *is_vm { hello(&made_up(number as u64)) } else { OPENING.to_vec() };
        peers.extend(attack.connect(vms, Default::default(), first));
    }
    let patterns: Vec<Vec<u8>> = kinds.iter().map(|(_, say)| say.repeat(16)).collect();
    while attack.is_on() {
        let mut sent = 0;
        for (peer, pattern) in peers.iter_mut().zip(&patterns) {
            if peer.backlog() == 0 {
                sent += peer.write_on(pattern);
            }
            attack.look(peer);
        }
        attack.effort.bytes += sent as u64;
        if sent == 0 {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
    Ok(())
}

/// Half of them to the VM port, half to a console; every word is another.
fn garbage(attack: &mut Attack<'_>, before: fn(&mut Random) -> Vec<u8>) -> Result<(), LoadError> {
    let mut victim = attack.victim()?;
    let at: [SocketAddr; 2] = [attack.ground.vms(), victim.at];
    let (mut peers, mut number) = (Vec::new(), 0);
    let mut pace = attack.pace(10e6);
    let mut chunk = Vec::new();
    while attack.is_on() {
        while peers.len() < 64 {
            number += 1;
            let first = before(&mut attack.random);
            peers.extend(attack.connect(at[number % 2], Default::default(), first));
        }
        for peer in &mut peers {
            let had = attack.effort.bytes;
            if peer.backlog() == 0 {
                make_garbage(&mut attack.random, &mut chunk);
                peer.say(&chunk);
            }
            attack.look(peer);
            let sent = attack.effort.bytes - had;
            attack.keep(&mut pace, sent as f64);
        }
        if victim.vm.receive_now().is_err() {
            break;
        }
        victim.vm.typed.clear();
        let random = &mut attack.random;
        peers.retain(|peer| peer.is_open && random.below(64) != 0);
    }
    drop(peers);
    if !victim.print_some() {
        attack.facts.problem("the VM whose console got the garbage lost its connection");
    }
    Ok(())
}

/// A record of some type and length, of which only the head may be true; or a hello of a client that goes on
/// wrong.
fn tls_record(random: &mut Random) -> Vec<u8> {
    let length = random.below(700);
    let kind = 20 + random.below(6) as u8;
    let mut record = vec![kind, 3, random.below(5) as u8];
    record.extend_from_slice(&(length as u16).to_be_bytes());
    let body = length.min(random.below(1000));
    record.extend((0..body).map(|_| random.next() as u8));
    if kind == 22 && body > 5 {
        // A client's hello, as far as its first six bytes.
        record[5..9].copy_from_slice(&[1, 0, (length >> 8) as u8, length as u8]);
    }
    record
}

/// Ten lines a second for each of the attackers, and what newcomers and bystanders make of their own, are not
/// half.
const LOG_PER_SECOND: u64 = 64 << 10;
