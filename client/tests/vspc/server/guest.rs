//! A scripted guest with an agent (operator.md §11), written from APPLICATION.md: programs that are known by
//! name, files in memory, an echo to connect to, and facts.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use vspc_core::mux::{Received, Session, StreamId};
use vspc_guest::{Sum, Summer};

use super::serving::Peer;

/// What the guest has, and what the test wants of it.
#[derive(Default)]
pub(super) struct Guest {
    pub(super) is_away: bool,
    /// It knows one kind of checksum, and has to be told it before a copy comes.
    pub(super) is_old: bool,
    /// Nothing of a copy that has begun to come is taken.
    pub(super) holds: bool,
    /// What is refused because of that is reset as well.
    pub(super) resets_refused: bool,
    pub(super) files: BTreeMap<String, (Vec<u8>, u64)>,
    /// What is there of copies that were cut, by path and checksum.
    pub(super) parts: BTreeMap<String, Vec<u8>>,
    /// The next copy is cut once so many of its bytes have passed.
    pub(super) cut_after: Option<usize>,
    pub(super) facts: BTreeMap<String, String>,
    /// What has happened to processes and connections.
    pub(super) notes: Vec<String>,
}

/// A stream that is joined with one of the guest's.
pub(super) struct Joint {
    stream: StreamId,
    header: Value,
    came: Vec<u8>,
    ended: bool,
    out: Vec<u8>,
    fate: Fate,
    started: bool,
}

/// What comes of a stream once all was sent.
#[derive(PartialEq)]
enum Fate {
    Stays,
    Ends,
    IsCut,
    Done,
}

impl Joint {
    pub(super) fn new(stream: StreamId, header: Value) -> Self {
        let (came, out) = (Vec::new(), Vec::new());
        Self { stream, header, came, ended: false, out, fate: Fate::Stays, started: false }
    }

    fn op(&self) -> &str {
        self.header["op"].as_str().unwrap_or_default()
    }

    pub(super) fn is_facts(&self) -> bool {
        self.op() == "facts"
    }

    pub(super) fn say(&mut self, line: &Value) {
        self.out.extend(format!("{line}\n").bytes());
    }

    fn refuse(&mut self, code: &str) {
        self.say(&json!({"error": {"code": code, "message": "by the script"}}));
        self.fate = Fate::Ends;
        self.started = true;
    }

    fn line(&mut self) -> Option<Value> {
        let len = self.came.iter().position(|&byte| byte == b'\n')?;
        let line: Vec<u8> = self.came.drain(..=len).collect();
        Some(serde_json::from_slice(&line).unwrap())
    }

    fn read(&mut self, session: &mut Session) {
        if self.header["argv"][0] == "deaf" {
            return;
        }
        while self.came.len() < ROOM {
            match session.received(self.stream) {
                Ok(Received::Bytes(bytes)) => {
                    let n = bytes.len();
                    self.came.extend_from_slice(bytes);
                    session.consume(self.stream, n).unwrap();
                }
                Ok(Received::End) => return self.ended = true,
                _ => return,
            }
        }
    }

    fn write(&mut self, session: &mut Session) {
        let most = session.credit(self.stream).min(self.out.len());
        let n = session.write(self.stream, &self.out[..most]).unwrap_or(0);
        self.out.drain(..n);
        if !self.out.is_empty() {
            let _ = session.want_credit(self.stream);
            return;
        }
        match self.fate {
            Fate::Ends => drop(session.finish(self.stream)),
            _ => return,
        }
        self.fate = Fate::Done;
    }
}

impl Peer {
    /// The guest does what it can.
    pub(super) fn turn_guest(&mut self, guest: &mut Guest) {
        loop {
            for joint in &mut self.joints {
                joint.read(&mut self.session);
                if joint.header.is_null()
                    && let Some(header) = joint.line()
                {
                    joint.header = header;
                }
            }
            let full = self.joints.iter().position(|joint| joint.came.len() >= ROOM);
            for at in 0..self.joints.len() {
                match self.joints[at].op() {
                    "exec" | "shell" => self.turn_process(at, guest),
                    "put" => put(&mut self.joints[at], guest),
                    "get" => get(&mut self.joints[at], guest),
                    "connect" => connect(&mut self.joints[at]),
                    "taken" => taken(&mut self.joints[at], guest),
                    _ => {}
                }
            }
            // What did not fit waits in the session, of which nothing will be heard until it is read.
            if full.is_none_or(|at| self.joints[at].came.len() >= ROOM) {
                return;
            }
        }
    }

    /// Sends what the guest has said.
    pub(super) fn show_guest(&mut self) {
        for joint in &mut self.joints {
            joint.write(&mut self.session);
        }
    }

    pub(super) fn handle_joint_reset(&mut self, stream: StreamId, guest: &mut Guest) {
        for joint in self.joints.extract_if(.., |joint| joint.stream == stream) {
            guest.notes.push(format!("reset {}", joint.op()));
        }
    }

    /// Cuts copies whose bytes have all left. Whether there were any.
    pub(super) fn cut(&mut self) -> bool {
        let is_due = |joint: &&mut Joint| joint.fate == Fate::IsCut && joint.out.is_empty();
        let due: Vec<&mut Joint> = self.joints.iter_mut().filter(is_due).collect();
        let any = !due.is_empty();
        for joint in due {
            let _ = self.session.reset(joint.stream);
            joint.fate = Fate::Done;
        }
        any
    }

    /// The line to the guest is lost.
    pub(super) fn lose_guest(&mut self) {
        for joint in self.joints.extract_if(.., |joint| joint.fate != Fate::Done) {
            let _ = self.session.reset(joint.stream);
        }
    }

    /// The stream of that process.
    fn of(&mut self, op: &str, key: &Value) -> Option<&mut Joint> {
        self.joints.iter_mut().find(|joint| joint.op() == op && joint.header["key"] == *key)
    }

    fn turn_process(&mut self, at: usize, guest: &mut Guest) {
        let header = self.joints[at].header.clone();
        let key = &header["key"];
        let with: Vec<&str> =
            header["with"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        if !with.iter().all(|op| self.of(op, key).is_some()) {
            return;
        }
        let words: Vec<&str> =
            header["argv"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let program = words.first().copied().unwrap_or("shell");
        let begins = !std::mem::replace(&mut self.joints[at].started, true);
        if program == "mute" {
            // It is never answered.
            if begins {
                guest.notes.push("mute".to_owned());
            }
            return;
        }
        if begins {
            if program == "nosuch" {
                with.iter().for_each(|op| self.of(op, key).unwrap().refuse("no-such-file"));
                return self.joints[at].refuse("no-such-file");
            }
            with.iter().for_each(|op| self.of(op, key).unwrap().say(&json!({"ok": {}})));
            self.joints[at].say(&json!({"ok": {}}));
            if !header["pty"].is_null() {
                self.joints[at].out.extend(b"$ ");
            }
        }
        let mut ending = None;
        match program {
            "fail" if begins => {
                self.joints[at].out.extend(b"out\n");
                self.of("err", key).unwrap().out.extend(b"err\n");
                ending = Some(json!({"exit": 7}));
            }
            "show" if begins => {
                let shown =
                    json!({"argv": words, "env": header["env"], "cwd": header["cwd"], "pty": header["pty"]});
                self.joints[at].out.extend(shown.to_string().bytes());
                ending = Some(json!({"exit": 0}));
            }
            "wait" | "stubborn" if begins => self.joints[at].out.extend(b"ready\n"),
            "yes" => {
                let out = &mut self.joints[at].out;
                while out.len() < 65_536 {
                    out.extend(b"y\n");
                }
            }
            "cat" | "shell" => {
                let joint = &mut self.joints[at];
                let came = std::mem::take(&mut joint.came);
                if program == "shell" && came.ends_with(b"exit\r") {
                    ending = Some(json!({"exit": 3}));
                }
                joint.out.extend(came);
                if joint.ended && joint.fate == Fate::Stays {
                    ending = Some(json!({"exit": 0}));
                }
            }
            _ => {}
        }
        while let Some(line) = self.of("control", key).and_then(Joint::line) {
            guest.notes.push(line.to_string());
            if line["signal"] == "TERM" || line["signal"] == "INT" && program != "stubborn" {
                ending = Some(json!({"killed": line["signal"]}));
            }
        }
        if let Some(ending) = ending
            && self.joints[at].fate == Fate::Stays
        {
            self.of("control", key).unwrap().say(&ending);
            with.iter().for_each(|op| self.of(op, key).unwrap().fate = Fate::Ends);
            self.joints[at].fate = Fate::Ends;
        }
    }
}

fn put(joint: &mut Joint, guest: &mut Guest) {
    if joint.fate != Fate::Stays {
        return;
    }
    let (path, known) = (joint.header["path"].as_str().unwrap().to_owned(), joint.header["sha256"].clone());
    let place = format!("{path} {known} {}", joint.header["tag"]);
    let part = guest.parts.entry(place.clone()).or_default();
    let kind = kind(&joint.header, guest.is_old);
    if !std::mem::replace(&mut joint.started, true) {
        if path.starts_with("/forbidden") {
            return joint.refuse("not-allowed");
        }
        if path == "/folder" {
            return joint.refuse("not-a-file");
        }
        if guest.is_old && known.is_null() {
            guest.notes.push("a checksum is missing".to_owned());
            return joint.refuse("bad-line");
        }
        guest.notes.push(format!("put from {}", part.len()));
        joint.say(&answer(json!({"offset": part.len()}), kind));
    }
    if guest.holds {
        if joint.came.len() > 500_000 && !guest.notes.iter().any(|note| note == "holds") {
            guest.notes.push("holds".to_owned());
        }
        return;
    }
    let size = usize::try_from(joint.header["size"].as_u64().unwrap()).unwrap();
    let n = joint.came.len().min(size - part.len());
    part.extend(joint.came.drain(..n));
    if guest.cut_after.is_some_and(|most| part.len() >= most) {
        guest.cut_after = None;
        guest.notes.push(format!("cut at {}", part.len()));
        joint.fate = Fate::IsCut;
    } else if joint.ended {
        let bytes = guest.parts.remove(&place).unwrap();
        let sum = sum(kind, &bytes);
        joint.fate = Fate::Ends;
        let wanted = match known {
            Value::Null => joint.line().unwrap(),
            known => json!({"done": {"size": size, "sha256": known}}),
        };
        guest.notes.push(format!("told {wanted}"));
        if wanted["done"] != json!({"size": bytes.len(), kind: sum}) {
            return joint.say(&json!({"error": {"code": "checksum", "message": "it is another one"}}));
        }
        joint.say(&wanted);
        guest.files.insert(path, (bytes, joint.header["mode"].as_u64().unwrap()));
    }
}

fn get(joint: &mut Joint, guest: &mut Guest) {
    if std::mem::replace(&mut joint.started, true) {
        return;
    }
    let kind = kind(&joint.header, guest.is_old);
    let Some((bytes, mode)) = guest.files.get(joint.header["path"].as_str().unwrap()) else {
        return joint.refuse("no-such-file");
    };
    let tag = &sum("sha256", bytes)[..16];
    let from = joint.header["offset"].as_u64().filter(|_| joint.header["tag"] == tag).unwrap_or(0);
    let from = usize::try_from(from).unwrap();
    guest.notes.push(format!("get from {from}"));
    joint.say(&answer(json!({"offset": from, "size": bytes.len(), "mode": mode, "tag": tag}), kind));
    let end = guest.cut_after.take().map_or(bytes.len(), |most| bytes.len().min(from + most));
    joint.out.extend(&bytes[from..end]);
    if end == bytes.len() {
        joint.say(&json!({"done": {"size": bytes.len(), kind: sum(kind, bytes)}}));
        joint.fate = Fate::Ends;
    } else {
        joint.fate = Fate::IsCut;
    }
}

/// How a file is summed.
fn kind(header: &Value, is_old: bool) -> &'static str {
    if header["sum"] == "blake3" && !is_old { "blake3" } else { "sha256" }
}

/// An answer that holds this, and the kind of checksum where it is another than every side knows.
fn answer(mut ok: Value, kind: &str) -> Value {
    if kind != "sha256" {
        ok["sum"] = kind.into();
    }
    json!({"ok": ok})
}

/// An echo.
fn connect(joint: &mut Joint) {
    if !std::mem::replace(&mut joint.started, true) {
        if joint.header["to"] != "tcp:127.0.0.1:7" && joint.header["to"] != "unix:/run/echo" {
            return joint.refuse("refused");
        }
        joint.say(&json!({"ok": {}}));
    }
    joint.out.append(&mut joint.came);
    if joint.ended && joint.fate == Fate::Stays {
        joint.out.extend(b"bye");
        joint.fate = Fate::Ends;
    }
}

/// One that has come to a listener of the guest's.
fn taken(joint: &mut Joint, guest: &mut Guest) {
    if !joint.started
        && let Some(line) = joint.line()
    {
        joint.started = true;
        guest.notes.push(line.to_string());
        match line["ok"].is_object() {
            true => joint.out.extend(b"from the guest"),
            false => joint.fate = Fate::Ends,
        }
    }
    if joint.ended && joint.fate == Fate::Stays {
        guest.notes.push(format!("taken: {}", String::from_utf8_lossy(&joint.came)));
        joint.fate = Fate::Ends;
    }
}

fn sum(kind: &str, bytes: &[u8]) -> String {
    let mut summer = Summer::new(if kind == "blake3" { Sum::Blake3 } else { Sum::Sha256 });
    summer.take(bytes);
    summer.checksum().digits().to_owned()
}

/// Bytes of a stream that are read before somebody takes them.
const ROOM: usize = 1 << 20;
