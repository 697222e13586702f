//! The player: says what the VM side said, in the captured order, to another concentrator, and attaches a
//! client to each VM's console before that prints.
//!
//! Three things differ from the capture. Secrets are the other concentrator's: a PEER carries the one that
//! it issued for that sequence. What was an answer waits until it is one: nothing is said before this
//! side has said what the captured one had said on that connection by then, or has let a bounded time pass.
//! And where the two sides decide differently about a move, the VM does what a host would do then.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use super::clients::{Attached, Key, Typed};
use super::consoles;
use super::dialogue::{Act, By, Mark, Step};
use super::identity;
use super::moves::{HOST_WAITS, Ledger, Meaning, Move, State};
use super::script::{self, Introduce, Script};
use crate::capture::How;
use crate::drive::{Arrival, PeerId, Target, Trouble};
use crate::random::nonce;
use crate::telnet::names::{
    self, AUTHENTICATION, BINARY, COM_PORT, DO, DONT, ECHO, NOP, SGA, VMWARE, WILL, WONT, code,
};
use crate::telnet::{Client, Decoder, Word};

/// How fast to play.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Speed {
    /// As fast as the answers come.
    Max,
    /// This many times the original speed.
    Times(f64),
}

/// What came of it.
#[derive(Debug)]
pub struct Played {
    /// The dialogue with the other concentrator.
    pub steps: Vec<Step>,
    /// Its moves.
    pub moves: Ledger,
    /// Where it decided differently from the captured one: the frame, and how.
    pub differences: Vec<(u64, String)>,
    /// What could not be played, for reasons on our side: each is a failure.
    pub failures: Vec<(u64, String)>,
    /// What was typed at each console.
    pub typed: HashMap<Key, Typed>,
    /// The clients that were attached, at most one to each console.
    pub clients: Vec<Attached>,
}

/// Plays `script` to `target`; with `multi_console`, serial ports of one VM have consoles of their own.
/// `tell` is called with each step as it happens.
pub fn play(
    script: &Script,
    target: &mut dyn Target,
    speed: Speed,
    multi_console: bool,
    tell: &mut dyn FnMut(&Step),
) -> Played {
    let mut player = Player {
        script,
        target,
        tell,
        speed,
        multi_console,
        peers: script::moves_of_peers(script),
        legs: script.conns.iter().map(|_| Leg::default()).collect(),
        ends: HashMap::new(),
        batch: None,
        frame: 0,
        shift: Duration::ZERO,
        attached: HashMap::new(),
        ours: HashMap::new(),
        calls_off: VecDeque::new(),
        is_broken: false,
        played: Played {
            steps: Vec::new(),
            moves: Ledger::default(),
            differences: Vec::new(),
            failures: Vec::new(),
            typed: HashMap::new(),
            clients: Vec::new(),
        },
    };
    for n in 0..script.steps.len() {
        player.step(n);
    }
    player.flush();
    player.linger();
    player.finish();
    player.played
}

struct Player<'a> {
    script: &'a Script,
    target: &'a mut dyn Target,
    tell: &'a mut dyn FnMut(&Step),
    speed: Speed,
    multi_console: bool,
    peers: HashMap<usize, (Option<usize>, bool)>,
    legs: Vec<Leg>,
    /// Who is at the near end of each connection.
    ends: HashMap<PeerId, End>,
    /// Bytes of one frame that go out together: their connection, frame, and the bytes.
    batch: Option<(usize, u64, Vec<u8>)>,
    /// The frame played last.
    frame: u64,
    /// By how much waiting has delayed everything.
    shift: Duration,
    /// Consoles to which a client was to be attached, and the client, if it was.
    attached: HashMap<Key, Option<usize>>,
    /// Captured moves by their number: ours.
    ours: HashMap<usize, usize>,
    /// Sources that are about to call their move off.
    calls_off: VecDeque<usize>,
    /// The target broke its contract.
    is_broken: bool,

    played: Played,
}

#[derive(Clone, Copy)]
enum End {
    Vm(usize),
    Client(usize),
}

#[derive(Default)]
struct Leg {
    peer: Option<PeerId>,
    /// The VM has said who it is.
    is_known: bool,
    /// Our side, or its absence, has ended it.
    gone: bool,
    told_gone: bool,
    /// The VM side has ended it.
    ended: bool,
    reader: Decoder,
    /// What the captured proxy had said by now; what ours has said; what ours was waited for in vain.
    captured: HashSet<Cue>,
    heard: HashSet<Cue>,
    waived: HashSet<Cue>,
    refused: HashSet<u8>,
    /// The last thing said was no whole command.
    half: bool,
    /// The move was not taken up: its COMPLETE is not said either.
    not_moving: bool,
}

/// The kind of a thing said, as far as it makes the VM go on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Cue {
    /// DO or DONT, an option.
    Ask(u8),
    /// WILL or WONT, an option.
    Tell(u8),
    /// A message of the extension; the answers to one question count as one.
    Code(u8),
}

impl Cue {
    fn of(word: &Word) -> Option<Self> {
        match (word, word.as_vmware()) {
            (Word::Negotiation(DO | DONT, option), _) => Some(Self::Ask(*option)),
            (Word::Negotiation(WILL | WONT, option), _) => Some(Self::Tell(*option)),
            (_, Some((code::NOTNOW, _))) => Some(Self::Code(code::GOAHEAD)),
            (_, Some((code::WONT_PROXY, _))) => Some(Self::Code(code::WILL_PROXY)),
            (_, Some((what, _))) => Some(Self::Code(what)),
            _ => None,
        }
    }

    /// What the VM may have waited for before it said `word`.
    fn before(word: &Word) -> Vec<Self> {
        let code = match (word, word.as_vmware()) {
            (Word::Negotiation(WILL | WONT, COM_PORT), _) => {
                return vec![Self::Ask(COM_PORT), Self::Code(code::WILL_PROXY)];
            }
            (Word::Negotiation(WILL | WONT, option), _) => return vec![Self::Ask(*option)],
            (Word::Negotiation(DO | DONT, option), _) => return vec![Self::Tell(*option)],
            (Word::Sub(option @ (COM_PORT | AUTHENTICATION), _), _) => return vec![Self::Ask(*option)],
            (_, Some((code::KNOWN_1 | code::DO_PROXY, _))) => code::KNOWN_2,
            (_, Some((code::UUID, _))) => code::GET_UUID,
            (_, Some((code::NAME, _))) => code::GET_NAME,
            (_, Some((code::BIOS_UUID, _))) => code::GET_BIOS_UUID,
            (_, Some((code::LOCATION_UUID, _))) => code::GET_LOCATION_UUID,
            (_, Some((code::COMPLETE, _))) => code::PEER_OK,
            (_, Some((code::ABORT | code::BEGIN, _))) => code::GOAHEAD,
            _ => return Vec::new(),
        };
        vec![Self::Code(code)]
    }
}

impl Player<'_> {
    fn step(&mut self, n: usize) {
        let script = self.script;
        let step = &script.steps[n];
        let conn = step.conn;
        match &step.act {
            Act::Open => {
                self.go_to(step.mark);
                self.open(conn);
            }
            Act::Say(By::Vm, word) => self.say(n, word),
            // Unfinished as it is, it was sent.
            Act::Half(By::Vm, begun) => self.say(n, &Word::Fault(begun.clone())),
            Act::Say(By::Proxy, word) => {
                if let Some(word) = Cue::of(word) {
                    self.legs[conn].captured.insert(word);
                    // Another BEGIN needs another answer.
                    if word == Cue::Code(code::GOAHEAD) {
                        self.legs[conn].waived.remove(&word);
                    }
                    // What it has to say about a move makes both hosts go on.
                    if matches!(word, Cue::Code(code::GOAHEAD | code::PEER_OK))
                        && self.legs[conn].peer.is_some()
                    {
                        self.wait_for(conn, &[word]);
                    }
                }
                if let Word::Data(data) = word {
                    self.type_in(step, data);
                }
            }
            Act::End(By::Vm, how) => {
                self.go_to(step.mark);
                self.wait_for(conn, &[Cue::Code(code::GOAHEAD), Cue::Code(code::PEER_OK)]);
                self.end(conn, *how);
            }
            Act::End(By::Proxy, How::Rst) => {
                let later = |later: &Step| later.conn == conn && matches!(later.act, Act::End(By::Vm, ..));
                if !script.steps[n..].iter().any(later) {
                    self.go_to(step.mark);
                    self.end(conn, How::Fin);
                }
            }
            Act::End(By::Proxy, How::Fin) | Act::Half(By::Proxy, _) | Act::Gap(..) => {}
        }
    }

    fn say(&mut self, n: usize, word: &Word) {
        let step = &self.script.steps[n];
        let conn = step.conn;
        if !matches!(&self.batch, Some((c, frame, _)) if *c == conn && *frame == step.mark.frame) {
            self.go_to(step.mark);
        }
        let told = word.as_vmware().map(|(what, _)| what);
        if matches!(word, Word::Data(_)) || told == Some(code::BEGIN) {
            self.attach(conn);
        }
        self.wait_for(conn, &Cue::before(word));
        if self.legs[conn].gone || self.legs[conn].peer.is_none() {
            self.unsaid(conn, word);
            return;
        }
        let said = self.translate(n, word);
        // Half a subnegotiation ends with the command behind it: if that is left out, another has to end it.
        let half = std::mem::replace(&mut self.legs[conn].half, matches!(word, Word::Fault(_)));
        let Some(word) = said.or(half.then_some(Word::Command(NOP))) else { return };
        let (_, _, bytes) = self.batch.get_or_insert_with(|| (conn, step.mark.frame, Vec::new()));
        word.encode(bytes);
        if let Meaning::Begun(captured, _) = self.script.meanings[n] {
            self.ours.insert(captured, self.played.moves.moves.len());
            self.legs[conn].heard.remove(&Cue::Code(code::GOAHEAD));
            self.legs[conn].captured.remove(&Cue::Code(code::GOAHEAD));
        }
        if let Some((code::UUID | code::BIOS_UUID, text)) = word.as_vmware() {
            let own = identity::fold(text);
            self.legs[conn].is_known |= own.is_some() && own == self.script.identities[conn].uuid;
        }
        self.record(conn, Act::Say(By::Vm, word));
        if matches!(told, Some(code::UUID | code::BIOS_UUID | code::BEGIN | code::COMPLETE | code::ABORT)) {
            self.flush();
        }
    }

    /// The console of a VM that has said who it is, as the clients know it.
    fn console(&self, conn: usize) -> Option<Key> {
        let who = &self.script.identities[conn];
        let uri = who.uri.clone().filter(|_| self.multi_console).unwrap_or_default();
        Some((who.uuid.clone()?, uri))
    }

    /// Attaches a client to the console of a VM that has said who it is, the first time that it needs one:
    /// before it prints, moves, is typed to or goes.
    fn attach(&mut self, conn: usize) {
        let leg = &self.legs[conn];
        if !leg.is_known || leg.gone || leg.half {
            return;
        }
        let Some(console) = self.console(conn).filter(|console| !self.attached.contains_key(console)) else {
            return;
        };
        let moves = &self.played.moves;
        if moves.arriving(conn).is_some_and(|n| moves.moves[n].state != State::Completed) {
            return;
        }
        self.flush();
        let before = self.target.now();
        let client = self.client_of(conn, &console);
        self.shift += self.target.now().saturating_sub(before);
        if let Err(Trouble::NotOffered(why) | Trouble::Failed(why)) = &client {
            self.differ(format!("no client can be attached: {why}"));
        }
        self.attached.insert(console, client.ok());
        self.listen();
    }

    fn client_of(&mut self, conn: usize, console: &Key) -> Result<usize, Trouble> {
        let Some(vm) = self.legs[conn].peer else { return Err(Trouble::Failed("the vm has gone".into())) };
        let port = self.target.client_port(vm)?;
        let peer = self.target.connect_client(port)?;
        let client = self.played.clients.len();
        let shows_all = self.target.shows_all();
        self.ends.insert(peer, End::Client(client));
        self.played.clients.push(Attached {
            console: console.clone(),
            port,
            peer,
            attached_at: if shows_all { 0 } else { self.played.steps.len() },
            greeting: 0,
            client: Client::default(),
        });
        if !shows_all {
            self.begin(client, vm);
        }
        Ok(client)
    }

    /// Lets the VM print words until one of them is the last thing that its client sees: what the server
    /// shows of its own accord, and of the past, is before that, and from there on every byte counts.
    fn begin(&mut self, client: usize, vm: PeerId) {
        let limit = self.target.now() + SHOWN;
        let (mut word, mut before) = (Vec::new(), usize::MAX);
        while self.target.now() < limit {
            let seen = &self.played.clients[client].client.bytes;
            if seen.len() == before {
                if !word.is_empty() && seen.ends_with(&word) {
                    break;
                }
                word = format!("[from here {:016x}]", nonce()).into_bytes();
                self.target.send(vm, &word);
            }
            before = self.played.clients[client].client.bytes.len();
            let quiet = self.target.now() + QUIET;
            while self.pump(quiet) {}
        }
        self.played.clients[client].greeting = self.played.clients[client].client.bytes.len();
    }

    /// What the captured VM said, as it has to be said here; `None`: not at all.
    fn translate(&mut self, n: usize, word: &Word) -> Option<Word> {
        let conn = self.script.steps[n].conn;
        if let Word::Sub(option @ (COM_PORT | AUTHENTICATION), _) = word
            && self.legs[conn].refused.contains(option)
        {
            self.differ(format!("our side refused what this needs, so it is not said: {word}"));
            return None;
        }
        match word.as_vmware() {
            Some((code::PEER, _)) => self.peer(n, word),
            Some((code::COMPLETE, _)) if self.legs[conn].not_moving => None,
            _ => Some(word.clone()),
        }
    }

    /// A PEER with the secret that our side issued.
    fn peer(&mut self, n: usize, word: &Word) -> Option<Word> {
        let conn = self.script.steps[n].conn;
        let (captured, taken) = self.peers.get(&n).copied().unwrap_or((None, false));
        let Some(captured) = captured else {
            if taken {
                self.legs[conn].not_moving = true;
                self.differ(
                    "the move began before the capture: the target is played as a new connection".into(),
                );
                return None;
            }
            return Some(word.clone());
        };
        let answered = |player: &Self| player.our_move(captured).is_some_and(|m| m.state != State::Begun);
        self.wait_until(ANSWER, answered);
        match self.our_move(captured).and_then(|m| m.goahead.clone()) {
            Some(goahead) => Some(Word::vmware(code::PEER, &goahead)),
            None => {
                self.legs[conn].not_moving = true;
                self.differ("our side gave no GOAHEAD: the target is played as a new connection".into());
                None
            }
        }
    }

    fn our_move(&self, captured: usize) -> Option<&Move> {
        self.ours.get(&captured).and_then(|n| self.played.moves.moves.get(*n))
    }

    /// Waits, for a bounded time, until our side has said that of `words` which the captured one had said
    /// by now.
    fn wait_for(&mut self, conn: usize, words: &[Cue]) {
        let missing = |leg: &Leg| -> Vec<Cue> {
            let lacks = |word: &&Cue| {
                leg.captured.contains(word) && !leg.heard.contains(word) && !leg.waived.contains(word)
            };
            words.iter().filter(lacks).copied().collect()
        };
        if self.legs[conn].gone || missing(&self.legs[conn]).is_empty() {
            return;
        }
        self.wait_until(ANSWER, |player| player.legs[conn].gone || missing(&player.legs[conn]).is_empty());
        let leg = &mut self.legs[conn];
        let (waived, gone) = (missing(leg), leg.gone);
        leg.waived.extend(&waived);
        for word in waived {
            if let Cue::Code(what) = word
                && !gone
            {
                let name = names::message(what);
                self.differ(format!("the captured proxy had said {name} by now, our side does not"));
            }
        }
    }

    fn wait_until(&mut self, limit: Duration, done: impl Fn(&Self) -> bool) {
        self.flush();
        self.listen();
        let start = self.target.now();
        let limit = start + limit;
        while !done(self) && self.pump(limit) {
            self.listen();
        }
        self.shift += self.target.now().saturating_sub(start);
    }

    /// Lets time pass up to a captured moment.
    fn go_to(&mut self, mark: Mark) {
        self.flush();
        if let Speed::Times(factor) = self.speed {
            self.advance(mark.time.div_f64(factor) + self.shift);
        }
        self.listen();
        self.frame = mark.frame;
    }

    fn advance(&mut self, to: Duration) {
        while self.pump(to) {
            self.listen();
        }
    }

    fn open(&mut self, conn: usize) {
        let here = &self.script.conns[conn];
        // A new connection between the same endpoints: whatever became of the old one, it is dead.
        for old in 0..conn {
            let same = (self.script.conns[old].vm, self.script.conns[old].proxy) == (here.vm, here.proxy);
            if same && self.legs[old].peer.is_some() && !self.legs[old].ended {
                self.end(old, How::Rst);
            }
        }
        match self.target.connect_vm_from(here.vm) {
            Ok(peer) => {
                self.legs[conn].peer = Some(peer);
                self.ends.insert(peer, End::Vm(conn));
                self.record(conn, Act::Open);
                if here.introduce != Introduce::No {
                    self.introduce(conn);
                }
                self.listen();
            }
            Err(Trouble::NotOffered(why) | Trouble::Failed(why)) => {
                self.played.failures.push((self.frame, format!("the connection from {}: {why}", here.vm)));
            }
        }
    }

    fn end(&mut self, conn: usize, how: How) {
        self.flush();
        self.attach(conn);
        if self.legs[conn].peer.is_none() || self.legs[conn].ended {
            return;
        }
        self.legs[conn].ended = true;
        if self.legs[conn].gone {
            return;
        }
        self.record(conn, Act::End(By::Vm, how));
        if let Some(peer) = self.legs[conn].peer {
            match how {
                How::Fin => self.target.close(peer),
                How::Rst => self.target.reset(peer),
            }
        }
        self.listen();
    }

    fn flush(&mut self) {
        if let Some((conn, _, bytes)) = self.batch.take() {
            self.send(conn, &bytes);
            self.listen();
        }
    }

    fn send(&mut self, conn: usize, bytes: &[u8]) {
        if let Some(peer) = self.legs[conn].peer {
            self.target.send(peer, bytes);
        }
    }

    /// Waits for one arrival, until `until` at the latest, and takes it down; false if there was none.
    fn pump(&mut self, until: Duration) -> bool {
        if self.is_broken {
            return false;
        }
        match self.target.pump(until) {
            Ok(None) => false,
            Ok(Some(arrival)) => {
                self.take(arrival);
                true
            }
            Err(why) => {
                self.is_broken = true;
                self.played.failures.push((self.frame, why));
                false
            }
        }
    }

    fn take(&mut self, arrival: Arrival) {
        let peer = match &arrival {
            Arrival::Bytes(peer, _) | Arrival::Ended(peer) => *peer,
        };
        match (self.ends.get(&peer), arrival) {
            (Some(End::Vm(conn)), Arrival::Bytes(_, bytes)) => {
                let conn = *conn;
                for word in self.legs[conn].reader.read(&bytes) {
                    self.answered(conn, word);
                }
            }
            (Some(End::Vm(conn)), Arrival::Ended(_)) => {
                let conn = *conn;
                let begun = self.legs[conn].reader.abandon();
                if !self.legs[conn].ended {
                    if !begun.is_empty() {
                        self.record(conn, Act::Half(By::Proxy, begun));
                    }
                    self.record(conn, Act::End(By::Proxy, How::Fin));
                }
                self.legs[conn].gone = true;
            }
            (Some(End::Client(n)), Arrival::Bytes(_, bytes)) => {
                let answer = self.played.clients[*n].client.read(&bytes);
                if !answer.is_empty() {
                    self.target.send(peer, &answer);
                }
            }
            (Some(End::Client(n)), Arrival::Ended(_)) => self.played.clients[*n].client.closed = true,
            (None, _) => {}
        }
    }

    /// Takes down what our side has done, and does what a host would do then.
    fn listen(&mut self) {
        loop {
            while self.pump(self.target.now()) {}
            let Some(conn) = self.calls_off.pop_front() else { return };
            let abort = Word::vmware(code::ABORT, b"");
            let bytes = abort.wire();
            self.record(conn, Act::Say(By::Vm, abort));
            self.send(conn, &bytes);
        }
    }

    fn answered(&mut self, conn: usize, word: Word) {
        if let Some(word) = Cue::of(&word) {
            self.legs[conn].heard.insert(word);
        }
        match &word {
            Word::Data(data) => {
                let console = self.console(conn);
                if let Some(typed) = console.and_then(|console| self.played.typed.get_mut(&console)) {
                    typed.arrive(data.len());
                }
            }
            Word::Negotiation(DONT, option) => drop(self.legs[conn].refused.insert(*option)),
            Word::Negotiation(DO, option) => drop(self.legs[conn].refused.remove(option)),
            _ => {}
        }
        let meaning = self.record(conn, Act::Say(By::Proxy, word));
        let (ours, said) = match meaning {
            Meaning::GoneAhead(n) => (n, State::GoneAhead),
            Meaning::Refused(n) => (n, State::Refused),
            Meaning::PeerOk(n) => (n, State::PeerOk),
            _ => return,
        };
        let Some((&captured, _)) = self.ours.iter().find(|(_, n)| **n == ours) else { return };
        let theirs = &self.script.moves.moves[captured];
        match (said, theirs.state, theirs.goahead.is_some()) {
            (State::GoneAhead, State::Refused, _) => {
                self.differ(
                    "the captured proxy said NOTNOW, our side GOAHEAD: the vm calls the move off".into(),
                );
                self.calls_off.push_back(conn);
            }
            (State::GoneAhead, _, false) if self.had_time(captured) => {
                self.differ("the captured proxy said nothing to VMOTION-BEGIN, our side GOAHEAD".into());
            }
            (State::Refused, _, true) => {
                self.differ("the captured proxy said GOAHEAD, our side NOTNOW".into());
            }
            (State::PeerOk, State::PeerSeen | State::Aborted | State::GivenUp, _) => {
                let target = theirs.target;
                let ok = |step: &Step| {
                    Some(step.conn) == target
                        && matches!(&step.act, Act::Say(By::Proxy, word)
                            if word.as_vmware().is_some_and(|(what, _)| what == code::PEER_OK))
                };
                if !self.script.steps.iter().any(ok) && self.had_time(captured) {
                    self.differ("the captured proxy said nothing to VMOTION-PEER, our side PEER-OK".into());
                }
            }
            _ => {}
        }
    }

    /// Whether the capture goes on long enough after a BEGIN to show an answer.
    fn had_time(&self, captured: usize) -> bool {
        let begun = self.script.moves.moves[captured].begun.0;
        self.script.steps.iter().any(|step| step.mark.time.saturating_sub(begun) > HOST_WAITS)
    }

    /// Plays the opening of a connection whose own is not in the capture (vmware.md §3).
    fn introduce(&mut self, conn: usize) {
        let who = &self.script.identities[conn];
        let (uuid, name) = (who.uuid.clone().unwrap_or_default(), who.name.clone().unwrap_or_default());
        let uri =
            who.uri.clone().or_else(|| self.script.identities.iter().find_map(|other| other.uri.clone()));
        let service = [b"S", uri.unwrap_or_else(|| "vSPC".into()).as_bytes()].concat();
        let knows = [code::KNOWN_1, 1, 2, 3, 40, 41, 43, 44, 45, 46, 48, 70, 71, 73, 80, 81, 82, 83];
        let mut read = self.played.steps.len();
        let limit = self.target.now() + 2 * ANSWER;
        let target = self.script.conns[conn].introduce == Introduce::Target;
        let mut told = false;
        self.listen();
        while !told && self.target.now() < limit && !self.legs[conn].gone {
            let steps = self.played.steps[read..].to_vec();
            read += steps.len();
            for step in steps.iter().filter(|step| step.conn == conn) {
                let Act::Say(By::Proxy, word) = &step.act else { continue };
                let mut answer = Vec::new();
                match (word, word.as_vmware()) {
                    (Word::Negotiation(DO, VMWARE), _) => {
                        answer.push(Word::Negotiation(WILL, VMWARE));
                        answer.push(Word::vmware(code::KNOWN_1, &knows));
                        if target {
                            told = true;
                        } else {
                            answer.push(Word::vmware(code::DO_PROXY, &service));
                        }
                    }
                    (Word::Negotiation(DO, option @ (BINARY | SGA)), _) => {
                        answer.push(Word::Negotiation(WILL, *option));
                    }
                    (Word::Negotiation(WILL, option @ (BINARY | SGA | ECHO)), _) => {
                        answer.push(Word::Negotiation(DO, *option));
                    }
                    (_, Some((code::GET_NAME, _))) => answer.push(Word::vmware(code::NAME, name.as_bytes())),
                    (_, Some((code::GET_UUID, _))) if !target => {
                        answer.push(Word::vmware(code::UUID, identity::spoken(&uuid).as_bytes()));
                        told = true;
                        self.legs[conn].is_known = true;
                    }
                    _ => {}
                }
                for word in answer {
                    let bytes = word.wire();
                    self.record(conn, Act::Say(By::Vm, word));
                    self.send(conn, &bytes);
                }
            }
            self.listen();
            if !told && self.played.steps.len() == read && !self.pump(limit) {
                break;
            }
            self.listen();
        }
        if !told && !self.legs[conn].gone {
            self.differ(
                "our side does not ask a connection who it is whose beginning is not in the capture".into(),
            );
        }
    }

    /// What was typed in the capture is typed again, where a client is attached, and waited for: the captured
    /// VM had it by then, and so it has to be here before the VM goes on.
    fn type_in(&mut self, step: &Step, data: &[u8]) {
        let Some(console) = self.console(step.conn) else { return };
        self.go_to(step.mark);
        self.attach(step.conn);
        let client = self.attached.get(&console).copied().flatten().map(|n| &self.played.clients[n]);
        let Some(peer) = client.filter(|client| !client.client.closed).map(|client| client.peer) else {
            return;
        };
        self.played.typed.entry(console.clone()).or_default().bytes.extend_from_slice(data);
        self.target.send(peer, &Word::Data(data.to_vec()).wire());
        let has_arrived = |player: &Self| player.played.typed.get(&console).is_none_or(Typed::has_arrived);
        self.wait_until(ANSWER, has_arrived);
        if let Some(typed) = self.played.typed.get_mut(&console) {
            typed.give_up();
        }
    }

    /// Our side ended a connection on which the VM had more to say.
    fn unsaid(&mut self, conn: usize, word: &Word) {
        let leg = &mut self.legs[conn];
        if !leg.told_gone && leg.peer.is_some() && matches!(word, Word::Data(_)) {
            leg.told_gone = true;
            self.differ("our side ended this connection while the vm had more to say on it".into());
        }
    }

    /// Lets our side finish what it is about.
    fn linger(&mut self) {
        for conn in 0..self.legs.len() {
            self.attach(conn);
        }
        if let Speed::Times(_) = self.speed {
            self.advance(self.target.now() + LINGER);
        }
        self.listen();
    }

    /// Waits until each client has seen its console to the last byte, for a bounded time.
    fn finish(&mut self) {
        let (consoles, _) = consoles::of(&self.played.steps, &self.script.identities, self.multi_console);
        let limit = self.target.now() + FINISH;
        let seen = |player: &Self| {
            player.played.clients.iter().all(|attached| {
                let console = consoles.iter().find(|console| console.key() == attached.console);
                // The end of a stream tells that it has arrived.
                console.is_none_or(|console| {
                    let due = &console.bytes[console.said_before(attached.attached_at)..];
                    attached.saw().ends_with(&due[due.len().saturating_sub(TAIL)..])
                })
            })
        };
        while self.target.now() < limit {
            let quiet = if seen(self) { QUIET } else { LAST_QUIET };
            if !self.pump(self.target.now() + quiet) {
                return;
            }
        }
    }

    fn differ(&mut self, what: String) {
        self.played.differences.push((self.frame, what));
    }

    fn record(&mut self, conn: usize, act: Act) -> Meaning {
        let step = Step { mark: Mark { frame: self.frame, time: self.target.now() }, conn, act };
        (self.tell)(&step);
        let meaning = self.played.moves.hear(&step);
        self.played.steps.push(step);
        meaning
    }
}

/// How long to wait for a word of our side that the captured one had said by then.
const ANSWER: Duration = Duration::from_millis(500);

/// How long the other side is listened to after the last step.
const LINGER: Duration = Duration::from_millis(200);

/// How long a client may take to show what its VM prints and nothing else. vSPC.py lets half a second pass in
/// which the client negotiates.
const SHOWN: Duration = Duration::from_secs(2);

/// What a server shows in one go comes with shorter pauses; in the end, what comes later is more than was
/// expected.
const QUIET: Duration = Duration::from_millis(150);

/// In the end: what has not come after this long of silence will not come.
const LAST_QUIET: Duration = Duration::from_secs(2);

/// How long all of that may take.
const FINISH: Duration = Duration::from_secs(60);

/// This much of the end of a stream is looked at.
const TAIL: usize = 4096;
