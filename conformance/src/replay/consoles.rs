//! What each console must have shown: the VM side's serial data under the vMotion rules (vmotion.md §3),
//! computed from the dialogue alone.
//!
//! A connection's bytes belong to its VM's console once it has said who it is, the earlier ones included.
//! A target's belong to it from COMPLETE on; the source's no longer from then on. A target whose move ends
//! otherwise, or whose PEER fits nothing, belongs to none.

use super::clients::Key;
use super::dialogue::{Act, By, Step};
use super::identity::{self, Identity};
use super::moves::{Ledger, Meaning};
use crate::telnet::Word;
use crate::telnet::names::{BINARY, WILL, WONT, code};

/// One VM's serial port.
#[derive(Clone, Debug)]
pub(super) struct Console {
    /// The VM's UUID, folded.
    pub uuid: String,
    /// The service URI, where that tells consoles apart.
    pub uri: String,
    /// The VM's name, as told last.
    pub name: String,
    /// The connections that had a part in it, in the order in which they joined.
    pub conns: Vec<usize>,
    /// What the VM printed.
    pub bytes: Vec<u8>,
    /// Which frame each byte came in: where a run begins, and its step's place in the dialogue.
    pub runs: Vec<Run>,
    /// Bytes of sources after their VM had moved: they belong nowhere.
    pub late: usize,
}

/// A run of a console's bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    /// Where it begins in [`Console::bytes`].
    pub at: usize,
    /// The frame it came in.
    pub frame: u64,
    /// The step that said it.
    pub step: usize,
}

impl Console {
    /// What it is told apart by.
    #[must_use]
    pub(super) fn key(&self) -> Key {
        (self.uuid.clone(), self.uri.clone())
    }

    /// The frame that carried the byte at `at`.
    #[must_use]
    pub(super) fn frame(&self, at: usize) -> Option<u64> {
        let next = self.runs.partition_point(|run| run.at <= at);
        self.runs.get(next.checked_sub(1)?).map(|run| run.frame)
    }

    /// How many bytes were said before step `step` of the dialogue.
    #[must_use]
    pub(super) fn said_before(&self, step: usize) -> usize {
        self.runs.iter().find(|run| run.step >= step).map_or(self.bytes.len(), |run| run.at)
    }

    fn take(&mut self, piece: Piece) {
        self.runs.push(Run { at: self.bytes.len(), frame: piece.frame, step: piece.step });
        self.bytes.extend(piece.data);
    }
}

/// All consoles of a dialogue, and the connections that joined none.
#[must_use]
pub(super) fn of(steps: &[Step], identities: &[Identity], multi_console: bool) -> (Vec<Console>, Vec<usize>) {
    let mut all = All { identities, multi_console, consoles: Vec::new(), legs: Vec::new() };
    all.legs.resize_with(identities.len(), Leg::default);
    let mut ledger = Ledger::default();
    for (n, step) in steps.iter().enumerate() {
        let before = ledger.arriving(step.conn).filter(|n| ledger.moves[*n].is_open());
        let meaning = ledger.hear(step);
        if let Act::Say(By::Vm, word) = &step.act {
            all.say(step.conn, word, n, step.mark.frame);
        }
        match meaning {
            Meaning::Peer(_) => all.legs[step.conn].role = Role::Target,
            Meaning::WrongPeer(_) if before.is_none() => all.legs[step.conn].role = Role::Stray,
            Meaning::Completed(n) => all.complete(ledger.moves[n].source, step.conn),
            Meaning::Aborted(n) | Meaning::GivenUp(n) | Meaning::Begun(_, Some(n)) => {
                if let Some(target) = ledger.moves[n].target {
                    all.legs[target].role = Role::Stray;
                }
            }
            _ => {}
        }
    }
    let apart = (0..identities.len()).filter(|n| all.legs[*n].console.is_none()).collect();
    (all.consoles, apart)
}

struct All<'a> {
    identities: &'a [Identity],
    multi_console: bool,
    consoles: Vec<Console>,
    legs: Vec<Leg>,
}

#[derive(Default)]
struct Leg {
    console: Option<usize>,
    role: Role,
    /// Said before it was known where to put it.
    waiting: Vec<Piece>,
    /// It refuses BINARY, so CR NUL is CR; and whether the last byte was that CR.
    nvt: bool,
    after_cr: bool,
    name: Option<String>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Role {
    #[default]
    Plain,
    Target,
    Stray,
    /// Its VM has moved away.
    Left,
}

struct Piece {
    data: Vec<u8>,
    frame: u64,
    step: usize,
}

impl All<'_> {
    fn say(&mut self, conn: usize, word: &Word, step: usize, frame: u64) {
        let leg = &mut self.legs[conn];
        match (word, word.as_vmware()) {
            (Word::Negotiation(WONT, BINARY), _) => leg.nvt = true,
            (Word::Negotiation(WILL, BINARY), _) => leg.nvt = false,
            (Word::Data(data), _) => {
                let data = leg.fold(data);
                if leg.role == Role::Left {
                    if let Some(console) = leg.console {
                        self.consoles[console].late += data.len();
                    }
                } else {
                    leg.waiting.push(Piece { data, frame, step });
                    self.flush(conn);
                }
            }
            (_, Some((code::UUID | code::BIOS_UUID, text))) => {
                if leg.role == Role::Plain
                    && leg.console.is_none()
                    && let Some(own) = identity::fold(text)
                {
                    self.join(conn, &own);
                }
            }
            (_, Some((code::NAME, text))) => {
                let name = String::from_utf8_lossy(text).into_owned();
                leg.name = Some(name.clone());
                if let Some(console) = leg.console {
                    self.consoles[console].name = name;
                }
            }
            _ => {}
        }
    }

    fn join(&mut self, conn: usize, own: &str) {
        let identity = &self.identities[conn];
        if identity.uuid.as_deref() != Some(own) {
            return;
        }
        let uuid = own.to_owned();
        let uri = if self.multi_console { identity.uri.clone().unwrap_or_default() } else { String::new() };
        let found = self.consoles.iter().position(|console| console.uuid == uuid && console.uri == uri);
        let console = found.unwrap_or(self.consoles.len());
        if found.is_none() {
            let name = identity.name.clone().unwrap_or_default();
            let (conns, bytes, runs) = (Vec::new(), Vec::new(), Vec::new());
            self.consoles.push(Console { uuid, uri, name, conns, bytes, runs, late: 0 });
        }
        self.belong(conn, console);
    }

    fn complete(&mut self, source: usize, target: usize) {
        self.legs[source].role = Role::Left;
        self.legs[target].role = Role::Plain;
        if let Some(console) = self.legs[source].console {
            self.belong(target, console);
        }
    }

    fn belong(&mut self, conn: usize, console: usize) {
        self.legs[conn].console = Some(console);
        let entry = &mut self.consoles[console];
        if !entry.conns.contains(&conn) {
            entry.conns.push(conn);
        }
        if let Some(name) = &self.legs[conn].name {
            entry.name.clone_from(name);
        }
        self.flush(conn);
    }

    fn flush(&mut self, conn: usize) {
        let leg = &mut self.legs[conn];
        if let Some(console) = leg.console {
            for piece in leg.waiting.drain(..) {
                self.consoles[console].take(piece);
            }
        }
    }
}

impl Leg {
    /// Data as the guest meant it.
    fn fold(&mut self, data: &[u8]) -> Vec<u8> {
        if !self.nvt {
            self.after_cr = false;
            return data.to_vec();
        }
        let mut out = Vec::with_capacity(data.len());
        for byte in data {
            if !(std::mem::replace(&mut self.after_cr, *byte == b'\r') && *byte == 0) {
                out.push(*byte);
            }
        }
        out
    }
}
