//! From a capture to what is to be played: which connections are vSPC's, what was said on them, what is
//! missing, and which of the captured moves each PEER belongs to.

use std::collections::{BTreeMap, HashMap};

use super::dialogue::{self, Act, By, Step};
use super::identity::{self, Identity};
use super::moves::{Ledger, Meaning, State};
use crate::capture::{Capture, Connection, Part, Side};
use crate::telnet::names::{AUTHENTICATION, DO, VMWARE, WILL, code};
use crate::telnet::{self, Word};

/// A captured session, ready to be played.
#[derive(Debug)]
pub struct Script {
    /// Its connections.
    pub conns: Vec<Conn>,
    /// Everything that was said, in the order of the capture.
    pub steps: Vec<Step>,
    /// The captured moves.
    pub moves: Ledger,
    /// What each step meant for them.
    pub meanings: Vec<Meaning>,
    /// Who each connection belongs to.
    pub identities: Vec<Identity>,
    /// What cannot be played, or only in part.
    pub remarks: Vec<String>,
}

/// One connection of the script.
#[derive(Clone, Debug)]
pub struct Conn {
    /// The VM side's endpoint.
    pub vm: std::net::SocketAddr,
    /// The concentrator's.
    pub proxy: std::net::SocketAddr,
    /// Its first and last frame.
    pub frames: (u64, u64),
    /// Its beginning is not in the capture.
    pub in_the_middle: bool,
    /// Something of it is not in the capture.
    pub lacking: bool,
    /// What has to be said for it because the capture lacks it.
    pub introduce: Introduce,
}

/// What has to be said for a connection because the capture lacks it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Introduce {
    /// Nothing.
    No,
    /// That it speaks the extension, and which VM it is.
    Vm,
    /// That it speaks the extension; it is a target, and who it is follows from its PEER.
    Target,
}

/// Why there is nothing to play.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum NothingToPlay {
    /// No connection has the port.
    #[error("no connection to port {port} in it{}", others(.elsewhere))]
    NoConnection {
        /// The port looked for.
        port: u16,
        /// Ports on which the extension is spoken, and on how many connections.
        elsewhere: BTreeMap<u16, usize>,
    },
    /// Those that have it carry no data from the VM's side.
    #[error("the connections to port {0} carry nothing from the vm's side")]
    Empty(u16),
    /// They are encrypted.
    #[error("the connections to port {0} are encrypted (tls): they cannot be played")]
    Encrypted(u16),
}

fn others(ports: &BTreeMap<u16, usize>) -> String {
    if ports.is_empty() {
        return ", and no other port speaks the vmware telnet extension".into();
    }
    let list: Vec<String> = ports.iter().map(|(port, n)| format!("{port} ({n} connections)")).collect();
    format!("; the vmware telnet extension is spoken on port {}: choose it with --port", list.join(", "))
}

/// Makes the script of all connections to `port`.
///
/// # Errors
///
/// There is nothing to play.
pub(super) fn of(capture: &Capture, port: u16) -> Result<Script, NothingToPlay> {
    let chosen: Vec<(&Connection, Side)> =
        capture.connections.iter().filter_map(|c| Some((c, c.server(port)?))).collect();
    if chosen.is_empty() {
        return Err(NothingToPlay::NoConnection { port, elsewhere: elsewhere(capture) });
    }
    let mut remarks = Vec::new();
    let talking: Vec<(&Connection, Side)> =
        chosen.iter().copied().filter(|(c, proxy)| !c.stream(proxy.other()).bytes.is_empty()).collect();
    if talking.is_empty() {
        return Err(NothingToPlay::Empty(port));
    }
    let is_tls = |(c, proxy): &(&Connection, Side)| opens_with_tls(&c.stream(proxy.other()).bytes);
    let clear: Vec<_> = talking.iter().copied().filter(|pair| !is_tls(pair)).collect();
    for (c, proxy) in talking.iter().filter(|pair| is_tls(pair)) {
        let (vm, frame) = (c.end(proxy.other()), c.first.0);
        remarks.push(format!("frame {frame}: the connection from {vm} is encrypted (tls) and is not played"));
    }
    if clear.is_empty() {
        return Err(NothingToPlay::Encrypted(port));
    }
    let silent = chosen.len() - talking.len();
    if silent > 0 {
        remarks.push(format!("{silent} connections carry nothing from the vm's side"));
    }
    let mut conns: Vec<Conn> = clear.iter().map(|(c, proxy)| conn(c, *proxy, &mut remarks)).collect();
    let steps = cut_encrypted(dialogue::of(&clear), &conns, &mut remarks);
    let mut moves = Ledger::default();
    let meanings: Vec<Meaning> = steps.iter().map(|step| moves.hear(step)).collect();
    let mut identities = identity::of(&steps, &moves, conns.len());
    introductions(&steps, &mut conns, &mut identities, &mut remarks);
    Ok(Script { conns, steps, moves, meanings, identities, remarks })
}

fn conn(connection: &Connection, proxy: Side, remarks: &mut Vec<String>) -> Conn {
    let (vm, in_the_middle) = (connection.end(proxy.other()), dialogue::starts_in_the_middle(connection));
    let mut lacking = in_the_middle;
    for (who, side) in [("vm", proxy.other()), ("proxy", proxy)] {
        let stream = connection.stream(side);
        for part in &stream.parts {
            let Part::Hole { length, after, before, clipped, .. } = part else { continue };
            lacking = true;
            let place = match (clipped, after, before) {
                (Some(frame), ..) => format!("frame {frame} is cut by the snap length"),
                (None, Some(after), Some(before)) => {
                    format!("between frames {} and {}", after.min(before), after.max(before))
                }
                (None, Some(after), None) => format!("after frame {after}"),
                (None, None, Some(before)) => format!("before frame {before}"),
                (None, None, None) => "everything".into(),
            };
            remarks.push(format!("{length} bytes of the {who} at {vm} are not in the capture: {place}"));
        }
        for frame in &stream.conflicts {
            remarks.push(format!("frame {frame} repeats bytes of the {who} at {vm} with another content"));
        }
        if let Some(frame) = stream.strays.first() {
            let n = stream.strays.len();
            remarks
                .push(format!("{n} frames of the {who} at {vm} are out of sequence, the first is {frame}"));
        }
    }
    Conn {
        vm,
        proxy: connection.end(proxy),
        frames: (connection.first.0, connection.last.0),
        in_the_middle,
        lacking,
        introduce: Introduce::No,
    }
}

/// Drops what follows an in-band start of TLS (tls-in-band.md §2): it cannot be read.
fn cut_encrypted(steps: Vec<Step>, conns: &[Conn], remarks: &mut Vec<String>) -> Vec<Step> {
    let mut encrypted = vec![false; conns.len()];
    let mut kept = Vec::with_capacity(steps.len());
    for step in steps {
        if encrypted[step.conn] && matches!(step.act, Act::Say(..)) {
            continue;
        }
        if let Act::Say(By::Proxy, word) = &step.act
            && let Word::Sub(AUTHENTICATION, body) = word
            && matches!(body[..], [2, 7, _, 2, ..])
        {
            encrypted[step.conn] = true;
            let (frame, vm) = (step.mark.frame, conns[step.conn].vm);
            remarks.push(format!("frame {frame}: the connection from {vm} is encrypted (tls) from here on"));
        }
        kept.push(step);
    }
    kept
}

/// Finds the connections for which the player has to say who they are.
fn introductions(steps: &[Step], conns: &mut [Conn], who: &mut [Identity], remarks: &mut Vec<String>) {
    let (mut opened, mut target) = (vec![false; conns.len()], vec![false; conns.len()]);
    for step in steps {
        let Act::Say(By::Vm, word) = &step.act else { continue };
        opened[step.conn] |= *word == Word::Negotiation(WILL, VMWARE);
        target[step.conn] |= word.as_vmware().is_some_and(|(what, _)| what == code::PEER);
    }
    for (n, conn) in conns.iter_mut().enumerate() {
        let (frame, vm) = (conn.frames.0, conn.vm);
        conn.introduce = match (conn.lacking, target[n]) {
            (true, true) if !opened[n] => Introduce::Target,
            (true, false) if !opened[n] || !who[n].own => Introduce::Vm,
            _ => Introduce::No,
        };
        if conn.introduce == Introduce::No && !conn.in_the_middle {
            continue;
        }
        let how = match (conn.introduce, &who[n].uuid) {
            (Introduce::No | Introduce::Target, _) => "it is played from there".to_owned(),
            (Introduce::Vm, Some(uuid)) => format!("played as {}", identity::dashed(uuid)),
            (Introduce::Vm, None) => "played with a made-up UUID".to_owned(),
        };
        let what = if conn.in_the_middle { "begins before the capture" } else { "lacks its opening" };
        remarks.push(format!("the connection from {vm} {what} (its first frame is {frame}): {how}"));
        if conn.introduce == Introduce::Vm {
            who[n].uuid.get_or_insert_with(|| format!("{:032x}", n + 1));
            who[n].name.get_or_insert_with(|| format!("vm at {vm}"));
        }
    }
}

/// The captured move that a PEER is about, as far as the capture tells, and whether the captured proxy
/// took it.
pub(super) fn moves_of_peers(script: &Script) -> HashMap<usize, (Option<usize>, bool)> {
    let mut peers = HashMap::new();
    for (n, meaning) in script.meanings.iter().enumerate() {
        let step = &script.steps[n];
        let later = || script.steps[n..].iter().filter(|later| later.conn == step.conn);
        let said = |by: By, what: u8| {
            later().any(|step| {
                matches!(&step.act, Act::Say(who, word)
                    if *who == by && word.as_vmware().is_some_and(|(code, _)| code == what))
            })
        };
        let taken = || said(By::Proxy, code::PEER_OK) || said(By::Vm, code::COMPLETE);
        match meaning {
            Meaning::Peer(m) => {
                peers.insert(n, (Some(*m), taken()));
            }
            Meaning::WrongPeer(named) => {
                // Where the capture lacks the GOAHEAD, the sequence has to do.
                let unanswered = |m: &usize| {
                    let m = &script.moves.moves[*m];
                    m.goahead.is_none() && m.state != State::Refused && script.conns[m.source].lacking
                };
                peers.insert(n, (named.filter(unanswered), taken()));
            }
            _ => {}
        }
    }
    peers
}

/// The server ports of connections that speak option 232.
fn elsewhere(capture: &Capture) -> BTreeMap<u16, usize> {
    let mut ports = BTreeMap::new();
    for connection in &capture.connections {
        let speaks = [Side::A, Side::B].into_iter().any(|side| {
            telnet::words(&connection.stream(side).bytes)
                .iter()
                .any(|word| matches!(word, Word::Negotiation(WILL | DO, VMWARE) | Word::Sub(VMWARE, _)))
        });
        if speaks {
            let server = match connection.opened_by {
                Some(side) => side.other(),
                // The one with the lower port is more likely to have listened.
                None if connection.ends[0].port() <= connection.ends[1].port() => Side::A,
                None => Side::B,
            };
            *ports.entry(connection.end(server).port()).or_default() += 1;
        }
    }
    ports
}

/// A TLS record of a ClientHello.
fn opens_with_tls(bytes: &[u8]) -> bool {
    matches!(bytes, [0x16, 3, 0..=4, ..])
}
