//! The player: says what the VM side said, in the captured order, to another concentrator, and attaches a
//! client to each VM's console before that prints.
//!
//! Three things differ from the capture. Secrets are the other concentrator's: a PEER carries the one that
//! it issued for that sequence. What was an answer waits until it is one: nothing is said before this
//! side has said what the captured one had said on that connection by then, or has let a bounded time pass.
//! And where the two sides decide differently about a move, the VM does what a host would do then.

mod attach;
mod cue;
mod introduce;
mod moves;
mod wait;

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use super::clients::{Attached, Key, Typed};
use super::dialogue::{Act, By, Mark, Step};
use super::identity;
use super::moves::{Ledger, Meaning};
use super::script::{self, Introduce, Script};
use crate::capture::How;
use crate::drive::{Arrival, PeerId, Target, Trouble};
use crate::telnet::names::{NOP, code};
use crate::telnet::{Decoder, Word};

use cue::Cue;

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

    /// Our side ended a connection on which the VM had more to say.
    fn unsaid(&mut self, conn: usize, word: &Word) {
        let leg = &mut self.legs[conn];
        if !leg.told_gone && leg.peer.is_some() && matches!(word, Word::Data(_)) {
            leg.told_gone = true;
            self.differ("our side ended this connection while the vm had more to say on it".into());
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

/// What a server shows in one go comes with shorter pauses; in the end, what comes later is more than was
/// expected.
const QUIET: Duration = Duration::from_millis(150);
