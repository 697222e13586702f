//! Finds the rules that a dialogue breaks. It listens to any dialogue, captured or replayed, and takes no
//! part in it. What it cannot know, because the capture lacks it, it does not complain about.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::dialogue::{Act, By, Mark, Step};
use super::identity;
use super::moves::{HOST_WAITS, Ledger, Meaning, State};
use super::rules::{self, Rule};
use crate::capture::How;
use crate::telnet::Word;
use crate::telnet::names::{self, DO, TIMING_MARK, VMWARE, WILL, WONT, code};

/// A rule broken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Violation {
    /// Which rule.
    pub rule: Rule,
    /// On which connection.
    pub conn: usize,
    /// When, and in which frame.
    pub mark: Mark,
    /// What exactly; may be empty.
    pub detail: String,
}

/// The rules broken in `steps`. `partial` says of which connections something is missing.
#[must_use]
pub(super) fn check(steps: &[Step], partial: &[bool]) -> Vec<Violation> {
    let mut check = Check { talks: HashMap::new(), ledger: Ledger::default(), found: Vec::new() };
    for step in steps {
        let lacking = partial.get(step.conn).copied().unwrap_or(false);
        let new = || Talk { lacking, whole: [!lacking; 2], ..Talk::default() };
        check.talks.entry(step.conn).or_insert_with(new).last = step.mark;
        check.step(step);
    }
    let end = steps.last().map_or(Mark::default(), |step| step.mark);
    check.finish(end);
    check.found.sort_by_key(|violation| violation.mark.time);
    check.found
}

struct Check {
    talks: HashMap<usize, Talk>,
    ledger: Ledger,
    found: Vec<Violation>,
}

/// What is known of one connection.
#[derive(Default)]
struct Talk {
    /// Something of it is not in the capture.
    lacking: bool,
    /// Whether each side's last word is whole and known: what follows a gap may be half a message.
    whole: [bool; 2],
    /// Each side stopped in the middle of a command.
    half: [bool; 2],
    last: Mark,
    ended: bool,
    /// The last WILL (true) or WONT of a side for an option.
    claims: BTreeMap<(By, u8), bool>,
    /// The last DO (true) or DONT of a side for the other's option.
    wishes: BTreeMap<(By, u8), bool>,
    /// WILLs and DOs not answered yet, by who has to.
    open: BTreeMap<(By, u8, u8), Mark>,
    known: [Option<Vec<u8>>; 2],
    /// The codes each side has sent.
    sent: [Vec<u8>; 2],
    /// Codes the proxy has to deny.
    unknown: Vec<(u8, Mark)>,
    do_proxy: Option<Mark>,
    uuid: Option<String>,
    told_uuid: bool,
}

impl Check {
    fn talk(&mut self, conn: usize) -> &mut Talk {
        self.talks.entry(conn).or_default()
    }

    fn report(&mut self, rule: Rule, step: &Step, detail: impl Into<String>) {
        self.found.push(Violation { rule, conn: step.conn, mark: step.mark, detail: detail.into() });
    }

    fn step(&mut self, step: &Step) {
        match &step.act {
            Act::Open => {}
            Act::Gap(by, _) => {
                self.talk(step.conn).lacking = true;
                self.talk(step.conn).whole[*by as usize] = false;
            }
            Act::Half(by, _) => self.talk(step.conn).half[*by as usize] = true,
            Act::End(by, how) => {
                let ended = std::mem::replace(&mut self.talk(step.conn).ended, true);
                if *by == By::Proxy && !ended && self.is_owed(step.conn) {
                    self.report(rules::PROXY_CLOSES, step, "");
                }
                let talk = self.talk(step.conn);
                if talk.half[*by as usize] && *how == How::Fin && !talk.lacking {
                    self.report(of(*by, rules::VM_CUT, rules::PROXY_CUT), step, "");
                }
            }
            Act::Say(by, word) => self.say(*by, word, step),
        }
    }

    fn say(&mut self, by: By, word: &Word, step: &Step) {
        let whole = std::mem::replace(&mut self.talk(step.conn).whole[by as usize], true);
        match word {
            Word::Fault(_) if whole => {
                self.report(of(by, rules::VM_MALFORMED, rules::PROXY_MALFORMED), step, word.to_string());
            }
            Word::Negotiation(verb, option) => self.verb(by, *verb, *option, word, step),
            Word::Sub(VMWARE, body) if body.is_empty() => {
                self.report(of(by, rules::VM_EMPTY, rules::PROXY_EMPTY), step, "");
            }
            Word::Sub(VMWARE, body) => self.extension(by, body[0], &body[1..], step),
            Word::Data(data) => self.data(by, data.len(), step),
            _ => {}
        }
        self.moves(by, word, step);
    }

    /// Whether the proxy has no reason to end this connection: the VM is known, was not refused, and has
    /// no part in a move that is over.
    fn is_owed(&mut self, conn: usize) -> bool {
        let over =
            |n: Option<usize>, ends: &[State]| n.is_some_and(|n| ends.contains(&self.ledger.moves[n].state));
        let left = over(self.ledger.leaving(conn), &[State::Completed]);
        let stray = over(self.ledger.arriving(conn), &[State::Aborted, State::GivenUp]);
        let talk = self.talk(conn);
        talk.told_uuid && !left && !stray && !talk.sent[By::Proxy as usize].contains(&code::WONT_PROXY)
    }

    fn verb(&mut self, by: By, verb: u8, option: u8, word: &Word, step: &Step) {
        if option == TIMING_MARK {
            return;
        }
        let talk = self.talk(step.conn);
        let other = by.other();
        let mut again = false;
        match verb {
            WILL | WONT => {
                talk.open.remove(&(by, DO, option));
                let will = verb == WILL;
                again = talk.claims.insert((by, option), will) == Some(true) && will;
                if will && talk.wishes.get(&(other, option)) != Some(&true) {
                    talk.open.insert((other, WILL, option), step.mark);
                } else if !will {
                    talk.wishes.remove(&(other, option));
                }
            }
            _ => {
                talk.open.remove(&(by, WILL, option));
                let wish = verb == DO;
                again |= talk.wishes.insert((by, option), wish) == Some(true) && wish;
                if wish && talk.claims.get(&(other, option)) != Some(&true) {
                    talk.open.insert((other, DO, option), step.mark);
                } else if !wish {
                    talk.claims.remove(&(other, option));
                }
            }
        }
        if again && !talk.lacking {
            self.report(of(by, rules::VM_REPEATS, rules::PROXY_REPEATS), step, word.to_string());
        }
    }

    /// A message of the extension, apart from what moves are about.
    fn extension(&mut self, by: By, what: u8, parameters: &[u8], step: &Step) {
        let name = names::message(what);
        let talk = self.talk(step.conn);
        let offered = talk.claims.get(&(By::Vm, VMWARE)) == Some(&true);
        // Whoever hears the extension spoken may speak it too.
        let spoken = by == By::Proxy && !talk.sent[By::Vm as usize].is_empty();
        let agreed = offered || spoken || talk.lacking;
        let listed = talk.known[1].is_some() || talk.lacking || !offered;
        let asked = talk.sent[by.other() as usize].contains(parameters.first().unwrap_or(&0)) || talk.lacking;
        talk.sent[by as usize].push(what);
        if !agreed {
            self.report(of(by, rules::VM_EARLY, rules::PROXY_EARLY), step, &name);
        }
        if of(by, &PROXY_CODES, &VM_CODES).contains(&what) {
            self.report(of(by, rules::VM_WRONG_ROLE, rules::PROXY_WRONG_ROLE), step, &name);
        }
        if by == By::Proxy && !listed && what != code::KNOWN_2 {
            self.report(rules::PROXY_LATE_LIST, step, &name);
        }
        let talk = self.talk(step.conn);
        match (by, what) {
            (By::Vm, code::KNOWN_1) => {
                let before = talk.known[0].replace(parameters.to_vec());
                if before.is_some_and(|before| before != parameters) {
                    self.report(rules::VM_LIST_CHANGED, step, "");
                }
            }
            (By::Proxy, code::KNOWN_2) => talk.known[1] = Some(parameters.to_vec()),
            (By::Vm, code::UNKNOWN_1) if !asked => self.report(rules::VM_DENIES, step, ""),
            (By::Proxy, code::UNKNOWN_2) => {
                let denied = parameters.first().copied().unwrap_or(0);
                talk.unknown.retain(|(code, _)| *code != denied);
                // What only a proxy may say is rightly denied to a VM.
                let known = VM_CODES.contains(&denied)
                    && talk.known[1].as_ref().is_some_and(|list| list.contains(&denied));
                let name = names::message(denied);
                if !asked {
                    self.report(rules::PROXY_DENIES, step, &name);
                } else if known {
                    self.report(rules::PROXY_DENIES_KNOWN, step, &name);
                }
            }
            (By::Vm, code::DO_PROXY) => {
                talk.do_proxy = Some(step.mark);
                if !matches!(parameters.first(), Some(b'S' | b'C')) {
                    self.report(rules::VM_BAD_SERVICE, step, names::parameters(parameters));
                }
            }
            (By::Proxy, code::WILL_PROXY | code::WONT_PROXY)
                if talk.do_proxy.take().is_none() && !talk.lacking =>
            {
                self.report(rules::PROXY_ANSWERS_NOTHING, step, &name);
            }
            (By::Vm, code::UUID | code::BIOS_UUID | code::LOCATION_UUID) => self.uuid(what, parameters, step),
            (By::Vm, _) if !VM_CODES.contains(&what) && !PROXY_CODES.contains(&what) => {
                talk.unknown.push((what, step.mark));
            }
            (By::Proxy, _) if !VM_CODES.contains(&what) && !PROXY_CODES.contains(&what) => {
                self.report(rules::PROXY_UNKNOWN_CODE, step, &name);
            }
            _ => {}
        }
    }

    fn uuid(&mut self, what: u8, text: &[u8], step: &Step) {
        let folded = identity::fold(text);
        if folded.is_none() && !(text.is_empty() && what == code::UUID) {
            self.report(rules::VM_BAD_UUID, step, String::from_utf8_lossy(text));
        }
        if what == code::LOCATION_UUID {
            return;
        }
        let talk = self.talk(step.conn);
        talk.told_uuid |= folded.is_some();
        if what == code::UUID
            && let Some(uuid) = folded
            && talk.uuid.replace(uuid.clone()).is_some_and(|before| before != uuid)
        {
            self.report(rules::VM_NEW_UUID, step, "");
        }
    }

    fn data(&mut self, by: By, bytes: usize, step: &Step) {
        let leaving = self.ledger.leaving(step.conn).map(|n| &self.ledger.moves[n]);
        let arriving = self.ledger.arriving(step.conn).map(|n| &self.ledger.moves[n]);
        let rule = match by {
            By::Vm if leaving.is_some_and(|m| m.state == State::Completed) => rules::VM_LATE_DATA,
            By::Proxy
                if leaving.is_some_and(|m| {
                    let waited = step.mark.time.saturating_sub(m.begun.0);
                    m.state == State::Completed || m.holds_input() && waited < FORGOTTEN
                }) =>
            {
                rules::PROXY_DATA_SOURCE
            }
            By::Proxy if arriving.is_some_and(|m| matches!(m.state, State::PeerSeen | State::PeerOk)) => {
                rules::PROXY_DATA_TARGET
            }
            _ => return,
        };
        self.report(rule, step, format!("{bytes} bytes"));
    }

    fn moves(&mut self, by: By, word: &Word, step: &Step) {
        let target = self.ledger.arriving(step.conn).map(|n| self.ledger.moves[n].state);
        let unfinished = matches!(target, Some(State::PeerSeen | State::PeerOk));
        let meaning = self.ledger.hear(step);
        let lacking = self.talk(step.conn).lacking;
        match (by, word.as_vmware().map(|(code, _)| code), meaning) {
            (_, _, Meaning::Begun(..)) => {
                if !self.talk(step.conn).told_uuid && !lacking {
                    self.report(rules::VM_BEGIN_UNKNOWN, step, "");
                }
                if unfinished {
                    self.report(rules::VM_BEGIN_TARGET, step, "");
                }
            }
            (_, _, Meaning::WrongPeer(named)) => {
                if self.ledger.leaving(step.conn).is_some() {
                    self.report(rules::VM_PEER_SOURCE, step, "");
                } else {
                    let why = named.map_or("no such sequence", |n| match self.ledger.moves[n].state {
                        State::Begun => "the move has no GOAHEAD yet",
                        State::GoneAhead | State::PeerSeen | State::PeerOk => "the secret is another",
                        _ => "the move is over",
                    });
                    self.report(rules::VM_PEER, step, why);
                }
            }
            (_, _, Meaning::GoneAhead(n) | Meaning::Refused(n)) => {
                self.in_time(self.ledger.moves[n].begun.0, rules::PROXY_BEGIN_SILENT, step);
            }
            (_, _, Meaning::PeerOk(n)) => {
                let longer =
                    word.as_vmware().map_or(0, |(_, what)| what.len()) - self.ledger.moves[n].sequence.len();
                if longer > 0 {
                    self.report(rules::PROXY_PEER_OK_LONG, step, format!("by {longer} bytes"));
                }
            }
            (By::Vm, Some(code::ABORT), Meaning::OutOfPlace) => {
                self.report(if unfinished { rules::VM_BEGIN_TARGET } else { rules::VM_ABORT }, step, "");
            }
            // The PEER, or its GOAHEAD on another connection, may be what the capture lacks.
            (_, Some(code::COMPLETE | code::PEER_OK), Meaning::OutOfPlace) if self.lacks_any() => {}
            (By::Vm, Some(code::COMPLETE), Meaning::OutOfPlace) => self.report(rules::VM_COMPLETE, step, ""),
            (By::Proxy, Some(code::GOAHEAD), Meaning::OutOfPlace) => self.goahead(word, step, lacking),
            (By::Proxy, Some(code::NOTNOW), Meaning::OutOfPlace) if !lacking => {
                self.report(rules::PROXY_NOTNOW, step, "");
            }
            (By::Proxy, Some(code::PEER_OK), Meaning::OutOfPlace) => {
                self.report(rules::PROXY_PEER_OK, step, "");
            }
            _ => {}
        }
    }

    fn goahead(&mut self, word: &Word, step: &Step, lacking: bool) {
        let begun = self.ledger.leaving(step.conn).map(|n| &self.ledger.moves[n]);
        let bare = begun.is_some_and(|m| word.as_vmware().is_some_and(|(_, what)| what == m.sequence));
        if bare {
            self.report(rules::PROXY_NO_SECRET, step, "");
        } else if !lacking {
            self.report(rules::PROXY_GOAHEAD, step, "");
        }
    }

    /// Whether something of any connection so far is not in the capture.
    fn lacks_any(&self) -> bool {
        self.talks.values().any(|talk| talk.lacking)
    }

    fn in_time(&mut self, since: Duration, rule: Rule, step: &Step) {
        let waited = step.mark.time.saturating_sub(since);
        if waited > HOST_WAITS {
            self.report(rule, step, format!("{} ms", waited.as_millis()));
        }
    }

    /// What was never answered although there was time to.
    fn finish(&mut self, end: Mark) {
        let mut late = Vec::new();
        for (conn, talk) in &self.talks {
            if talk.lacking {
                continue;
            }
            // A connection that is still up had time until the end of it all.
            let until = if talk.ended { talk.last.time } else { end.time };
            let patient = |mark: &Mark| until.saturating_sub(mark.time) > PATIENCE;
            let mut push = |rule, mark: Mark, detail: String| {
                late.push(Violation { rule, conn: *conn, mark, detail });
            };
            for ((by, verb, option), mark) in &talk.open {
                if patient(mark) {
                    let word = Word::Negotiation(*verb, *option);
                    push(of(*by, rules::VM_SILENT, rules::PROXY_SILENT), *mark, word.to_string());
                }
            }
            for (code, mark) in talk.unknown.iter().filter(|(_, mark)| patient(mark)) {
                push(rules::PROXY_IGNORES, *mark, format!("code {code}"));
            }
            if let Some(mark) = talk.do_proxy.filter(patient) {
                push(rules::PROXY_NO_ANSWER, mark, String::new());
            }
            let agreed = talk.claims.get(&(By::Vm, VMWARE)) == Some(&true);
            if agreed && talk.known[1].is_none() && talk.sent[0].len() > 1 {
                push(rules::PROXY_NO_LIST, talk.last, String::new());
            }
        }
        self.found.append(&mut late);
        for m in &self.ledger.moves {
            let (conn, rule) = match (m.state, m.target) {
                (State::Begun, _) => (m.source, rules::PROXY_BEGIN_SILENT),
                (State::PeerSeen, Some(target)) => (target, rules::PROXY_PEER_SILENT),
                _ => continue,
            };
            let talk = &self.talks[&conn];
            let until = if talk.ended { talk.last.time } else { end.time };
            let mark = Mark { time: m.begun.0, frame: m.begun.1 };
            if until.saturating_sub(mark.time) > HOST_WAITS && !talk.lacking {
                self.found.push(Violation { rule, conn, mark, detail: String::new() });
            }
        }
    }
}

fn of<T>(by: By, vm: T, proxy: T) -> T {
    match by {
        By::Vm => vm,
        By::Proxy => proxy,
    }
}

/// What a VM may send (vmware.md §2).
const VM_CODES: [u8; 11] = [
    code::KNOWN_1,
    code::UNKNOWN_1,
    code::BEGIN,
    code::PEER,
    code::COMPLETE,
    code::ABORT,
    code::DO_PROXY,
    code::UUID,
    code::NAME,
    code::BIOS_UUID,
    code::LOCATION_UUID,
];

/// What a proxy may send.
const PROXY_CODES: [u8; 11] = [
    code::KNOWN_2,
    code::UNKNOWN_2,
    code::GOAHEAD,
    code::NOTNOW,
    code::PEER_OK,
    code::WILL_PROXY,
    code::WONT_PROXY,
    code::GET_UUID,
    code::GET_NAME,
    code::GET_BIOS_UUID,
    code::GET_LOCATION_UUID,
];

/// An answer that is not there after this long will not come.
const PATIENCE: Duration = Duration::from_secs(2);

/// A move without any further word is forgotten after this long.
const FORGOTTEN: Duration = Duration::from_secs(60);
