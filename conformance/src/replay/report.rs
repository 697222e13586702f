//! What is found out in the end: per VM, what it printed and whether it was seen, its moves, and who broke
//! which rule in which frame.

use std::fmt;

use super::check::{self, Violation};
use super::clients::Attached;
use super::consoles::{self, Console};
use super::dialogue::{Act, By, Step};
use super::identity;
use super::moves::{State, Tally};
use super::play::Played;
use super::rules;
use super::script::Script;
use crate::telnet::Word;

/// Everything found out.
#[derive(Clone, Debug)]
pub struct Report {
    /// The capture's name.
    pub capture: String,
    /// Frames in it.
    pub frames: u64,
    /// Why it was not read to its end, if it was not.
    pub broken: Option<String>,
    /// What was left out or made up.
    pub remarks: Vec<String>,
    /// The VMs' serial ports.
    pub vms: Vec<Vm>,
    /// Connections that belong to none.
    pub apart: Vec<Apart>,
    /// Where our side decided otherwise than the captured proxy.
    pub differences: Vec<(u64, String)>,
    /// What went wrong that is no VM's.
    pub failures: Vec<(u64, String)>,
}

/// One serial port of a VM.
#[derive(Clone, Debug)]
pub struct Vm {
    /// Its UUID, folded.
    pub uuid: String,
    /// Its service URI, where that tells ports apart.
    pub uri: String,
    /// Its name.
    pub name: String,
    /// Its connections: endpoint, first and last frame.
    pub conns: Vec<(String, u64, u64)>,
    /// Its moves in the capture.
    pub captured: Tally,
    /// Its moves with our side.
    pub replayed: Tally,
    /// Bytes from the VM.
    pub bytes: usize,
    /// Bytes of a source after its VM had moved.
    pub late: usize,
    /// What the attached client saw.
    pub client: Verdict,
    /// Bytes typed again, and how many of them the VM got, in order.
    pub typed: (usize, usize),
    /// Bytes from the VM that are no telnet.
    pub malformed: usize,
    /// The rules broken.
    pub violations: Vec<Line>,
}

/// A connection that never became part of a VM.
#[derive(Clone, Debug)]
pub struct Apart {
    /// Its endpoint.
    pub vm: String,
    /// Its first and last frame.
    pub frames: (u64, u64),
    /// Bytes from it.
    pub bytes: usize,
    /// The rules broken.
    pub violations: Vec<Line>,
}

/// A rule broken, ready to be shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    /// Who broke it.
    pub by: Culprit,
    /// In which frame; for our side: after which.
    pub frame: u64,
    /// The rule's short name, section and meaning.
    pub rule: (&'static str, &'static str, &'static str),
    /// What exactly.
    pub detail: String,
}

/// Who breaks rules.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Culprit {
    /// The captured VM.
    Vm,
    /// The captured proxy.
    CapturedProxy,
    /// The concentrator played against.
    OurSide,
}

/// What a client saw of what it had to see.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Exactly that, from this byte of the VM's on.
    Exact {
        /// Bytes said before a client could attach.
        from: usize,
    },
    /// Something else.
    Differs {
        /// How many bytes it saw.
        saw: usize,
        /// The first byte of the VM's that it did not see as it was.
        at: usize,
        /// The frame that carried it.
        frame: Option<u64>,
    },
    /// No client could be attached.
    NoClient,
}

impl Report {
    /// Whether our side broke no rule and lost nothing.
    #[must_use]
    pub fn is_good(&self) -> bool {
        let clean = |lines: &[Line]| lines.iter().all(|line| line.by != Culprit::OurSide);
        self.failures.is_empty()
            && self.apart.iter().all(|apart| clean(&apart.violations))
            && self.vms.iter().all(|vm| {
                matches!(vm.client, Verdict::Exact { .. })
                    && vm.typed.0 == vm.typed.1
                    && clean(&vm.violations)
            })
    }
}

/// Draws up the report.
#[must_use]
pub fn draw(script: &Script, played: &Played, multi_console: bool) -> Report {
    let (found, apart) = consoles::of(&played.steps, &script.identities, multi_console);
    let partial: Vec<bool> = script.conns.iter().map(|conn| conn.lacking).collect();
    let captured = check::check(&script.steps, &partial);
    // Of the replay nothing is missing.
    let replayed = check::check(&played.steps, &[]);
    let lines = |conns: &[usize]| lines(&captured, &replayed, conns);
    let mut failures = played.failures.clone();
    for attached in played.clients.iter().filter(|attached| attached.client.malformed > 0) {
        failures.push((0, format!("malformed telnet was sent to the client on port {}", attached.port)));
    }
    let vms = found.iter().map(|console| {
        let has = |conn: &usize| console.conns.contains(conn);
        let of = |moves: &super::moves::Ledger| Tally::of(moves.moves.iter().filter(|m| has(&m.source)));
        Vm {
            uuid: console.uuid.clone(),
            uri: console.uri.clone(),
            name: console.name.clone(),
            conns: console.conns.iter().map(|n| place(script, *n)).collect(),
            captured: of(&script.moves),
            replayed: of(&played.moves),
            bytes: console.bytes.len(),
            late: console.late,
            client: verdict(console, &played.clients),
            typed: typed(console, played),
            malformed: malformed(&captured, &console.conns),
            violations: lines(&console.conns),
        }
    });
    let vms: Vec<Vm> = vms.collect();
    let apart = apart.into_iter().map(|n| {
        let (vm, first, last) = place(script, n);
        Apart { vm, frames: (first, last), bytes: said(&script.steps, n), violations: lines(&[n]) }
    });
    Report {
        capture: String::new(),
        frames: 0,
        broken: None,
        remarks: script.remarks.clone(),
        apart: apart.collect(),
        vms,
        differences: played.differences.clone(),
        failures,
    }
}

fn place(script: &Script, conn: usize) -> (String, u64, u64) {
    let conn = &script.conns[conn];
    (conn.vm.to_string(), conn.frames.0, conn.frames.1)
}

fn said(steps: &[Step], conn: usize) -> usize {
    let length = |step: &Step| match &step.act {
        Act::Say(By::Vm, Word::Data(data)) if step.conn == conn => data.len(),
        _ => 0,
    };
    steps.iter().map(length).sum()
}

fn malformed(captured: &[Violation], conns: &[usize]) -> usize {
    captured.iter().filter(|found| found.rule == rules::VM_MALFORMED && conns.contains(&found.conn)).count()
}

/// The captured sides' violations come from the capture, our side's from the replay: what the VM does is
/// the same in both.
fn lines(captured: &[Violation], replayed: &[Violation], conns: &[usize]) -> Vec<Line> {
    let line = |by: Culprit| {
        move |violation: &Violation| Line {
            by,
            frame: violation.mark.frame,
            rule: (violation.rule.id, violation.rule.section, violation.rule.text),
            detail: violation.detail.clone(),
        }
    };
    let on = |violation: &&Violation| conns.contains(&violation.conn);
    let mut lines = Vec::new();
    for violation in captured.iter().filter(on) {
        let by = if violation.rule.of == By::Vm { Culprit::Vm } else { Culprit::CapturedProxy };
        lines.push(line(by)(violation));
    }
    let ours = replayed.iter().filter(on).filter(|violation| violation.rule.of == By::Proxy);
    lines.extend(ours.map(line(Culprit::OurSide)));
    lines
}

/// Compares what a console had to show with what its client saw.
fn verdict(console: &Console, clients: &[Attached]) -> Verdict {
    let key = console.key();
    let Some(attached) = clients.iter().find(|attached| attached.console == key) else {
        return Verdict::NoClient;
    };
    let from = console.said_before(attached.attached_at);
    let (due, saw) = (&console.bytes[from..], attached.saw());
    if saw == due {
        return Verdict::Exact { from };
    }
    let at = from + saw.iter().zip(due).take_while(|(a, b)| a == b).count();
    let frame = console.frame(at.min(console.bytes.len().max(1) - 1));
    Verdict::Differs { saw: saw.len(), at, frame }
}

/// How much was typed at a console, and how much of it came out at its VM, in order.
fn typed(console: &Console, played: &Played) -> (usize, usize) {
    let Some(typed) = played.typed.get(&console.key()).map(|typed| &typed.bytes) else { return (0, 0) };
    let mut got = Vec::new();
    for step in &played.steps {
        if let Act::Say(By::Proxy, word) = &step.act
            && console.conns.contains(&step.conn)
            && let Word::Data(data) = word
        {
            got.extend_from_slice(data);
        }
    }
    if got == *typed || without_nul(&got) == without_nul(typed) {
        return (typed.len(), typed.len());
    }
    // Our side has ended the connection that it was typed for: whether it might is another rule's business.
    let moves = &played.moves;
    let left = |conn| moves.leaving(conn).is_some_and(|n| moves.moves[n].state == State::Completed);
    let ends = |step: &Step| {
        let by_us = matches!(step.act, Act::End(By::Proxy, ..));
        by_us && console.conns.contains(&step.conn) && !left(step.conn)
    };
    if played.steps.iter().any(ends) {
        return (got.len(), got.len());
    }
    let same = got.iter().zip(typed).take_while(|(a, b)| a == b).count();
    let held = played.moves.moves.iter().any(|m| console.conns.contains(&m.source) && m.holds_input());
    // What is held for a move that the capture does not see the end of is not lost.
    if held && same == got.len() {
        (same, same)
    } else {
        (typed.len(), same.min(typed.len().saturating_sub(1)))
    }
}

/// Towards a VM that refused BINARY a bare CR travels as CR NUL.
fn without_nul(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    for byte in bytes {
        if !(*byte == 0 && out.last() == Some(&b'\r')) {
            out.push(*byte);
        }
    }
    out
}

impl fmt::Display for Culprit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Vm => "vm",
            Self::CapturedProxy => "captured proxy",
            Self::OurSide => "our side",
        })
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (id, section, text) = self.rule;
        let when = if self.by == Culprit::OurSide { "after frame" } else { "frame" };
        write!(f, "{when} {}: {}: {text}", self.frame, self.by)?;
        if !self.detail.is_empty() {
            write!(f, " ({})", self.detail)?;
        }
        write!(f, " [{id}, {section}]")
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} begun, {} completed, {} aborted, {} refused",
            self.begun, self.completed, self.aborted, self.refused
        )?;
        if self.unfinished > 0 { write!(f, ", {} unfinished", self.unfinished) } else { Ok(()) }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let conns: usize = self.vms.iter().map(|vm| vm.conns.len()).sum::<usize>() + self.apart.len();
        writeln!(
            f,
            "{}: {} frames, {conns} connections, {} serial ports of vms",
            self.capture,
            self.frames,
            self.vms.len()
        )?;
        for note in self.broken.iter().chain(&self.remarks) {
            writeln!(f, "  note: {note}")?;
        }
        for vm in &self.vms {
            writeln!(f, "\n{vm}")?;
        }
        for apart in &self.apart {
            let (first, last) = apart.frames;
            writeln!(
                f,
                "\nconnection from {} (frames {first}-{last}) belongs to no vm: {} bytes",
                apart.vm, apart.bytes
            )?;
            for line in &apart.violations {
                writeln!(f, "  {line}")?;
            }
        }
        if !self.differences.is_empty() {
            writeln!(f, "\nour side decided otherwise than the captured proxy:")?;
        }
        for (frame, what) in &self.differences {
            writeln!(f, "  frame {frame}: {what}")?;
        }
        for (frame, what) in &self.failures {
            writeln!(f, "\nfailure: frame {frame}: {what}")?;
        }
        let verdict = if self.is_good() {
            "ok: our side broke no rule and lost nothing"
        } else {
            "FAILED: our side broke a rule or lost something"
        };
        write!(f, "\n{verdict}")
    }
}

impl fmt::Display for Vm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.conns.len();
        write!(f, "{:?} {}", self.name, identity::dashed(&self.uuid))?;
        if !self.uri.is_empty() {
            write!(f, " port {:?}", self.uri)?;
        }
        write!(f, "\n  {n} connection{}:", if n == 1 { "" } else { "s" })?;
        for (place, first, last) in &self.conns {
            write!(f, " {place} (frames {first}-{last})")?;
        }
        write!(f, "\n  vmotions: {}", self.captured)?;
        if self.replayed != self.captured {
            write!(f, "; with our side: {}", self.replayed)?;
        }
        write!(f, "\n  {} bytes from the vm: ", self.bytes)?;
        match self.client {
            Verdict::Exact { from: 0 } => write!(f, "the client saw exactly these, in order")?,
            Verdict::Exact { from } => {
                write!(f, "the client saw exactly these, in order, from byte {from} on (it attached then)")?;
            }
            Verdict::Differs { saw, at, frame } => {
                write!(f, "the client saw {saw} bytes, and other ones from byte {at} on")?;
                if let Some(frame) = frame {
                    write!(f, " (frame {frame})")?;
                }
            }
            Verdict::NoClient => write!(f, "no client could be attached")?,
        }
        if self.late > 0 {
            write!(f, "; {} more from its old host after it had moved, rightly dropped", self.late)?;
        }
        match self.typed {
            (0, _) => {}
            (typed, got) if typed == got => write!(f, "\n  {typed} bytes typed: the vm got them all")?,
            (typed, got) => {
                write!(f, "\n  {typed} bytes typed: the vm got only the first {got} as they were")?;
            }
        }
        write!(f, "\n  malformed: {}", self.malformed)?;
        if self.violations.is_empty() {
            write!(f, ", rules broken: none")?;
        }
        for line in &self.violations {
            write!(f, "\n  {line}")?;
        }
        Ok(())
    }
}
