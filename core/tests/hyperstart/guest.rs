//! hyperstart's end of its two channels, as docs/protocol/hyperstart.md has it: what tests answer with. Its
//! processes are what a test says that they do.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// A guest whose channels are two vectors.
pub(crate) struct V1Guest {
    pub(crate) api: u32,
    control: Vec<u8>,
    stream: Vec<u8>,
    /// What it has to say on the control channel, and on that of streams.
    pub(crate) says: Vec<u8>,
    pub(crate) streams: Vec<u8>,
    /// Commands that it was sent, all but GETVERSION.
    pub(crate) commands: Vec<(u32, String)>,
    /// Processes that run, by the stream of their standard input.
    pub(crate) running: BTreeMap<u64, Running>,
    pub(crate) containers: Vec<String>,
    /// What has come for each stream, and those that have ended.
    pub(crate) came: BTreeMap<u64, Vec<u8>>,
    pub(crate) ended: Vec<u64>,
    /// What of each process' input is in its buffer, of which each turn of its loop hands on all.
    held: BTreeMap<u64, usize>,
    /// So many answers to messages for streams that it does not know have no room.
    pub(crate) mute: usize,
    /// It counts what it reads, and says so.
    pub(crate) acks: bool,
    /// Commands are not answered.
    pub(crate) is_stuck: bool,
}

/// One process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Running {
    pub(crate) container: String,
    pub(crate) process: String,
    pub(crate) stderr: u64,
    pub(crate) args: Vec<String>,
    pub(crate) terminal: bool,
}

impl V1Guest {
    pub(crate) fn new() -> Self {
        Self {
            api: 4244,
            control: Vec::new(),
            stream: Vec::new(),
            says: Vec::new(),
            streams: Vec::new(),
            commands: Vec::new(),
            running: BTreeMap::new(),
            containers: Vec::new(),
            came: BTreeMap::new(),
            ended: Vec::new(),
            held: BTreeMap::new(),
            mute: 0,
            acks: true,
            is_stuck: false,
        }
    }

    /// It has begun.
    pub(crate) fn boot(&mut self) {
        *self = Self { api: self.api, ..Self::new() };
        self.say(8, b"");
    }

    pub(crate) fn say(&mut self, code: u32, payload: &[u8]) {
        self.says.extend_from_slice(&code.to_be_bytes());
        self.says.extend_from_slice(&(8 + payload.len() as u32).to_be_bytes());
        self.says.extend_from_slice(payload);
    }

    fn read(&mut self, n: usize) {
        if n > 0 && self.acks {
            self.say(14, &(n as u32).to_be_bytes());
        }
    }

    /// Bytes came on the control channel. Each read is one of a header or of what stands behind it.
    pub(crate) fn handle_control(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let needed = match self.control.get(4..8) {
                None => 8,
                Some(length) => u32::from_be_bytes(length.try_into().unwrap()) as usize,
            };
            assert!(needed >= 8, "a length of {needed}");
            let (taken, rest) = bytes.split_at(bytes.len().min(needed - self.control.len()));
            self.control.extend_from_slice(taken);
            bytes = rest;
            self.read(taken.len());
            let length = self.control.get(4..8).map(|length| u32::from_be_bytes(length.try_into().unwrap()));
            if length.is_some_and(|length| length as usize == self.control.len()) {
                let message = std::mem::take(&mut self.control);
                let code = u32::from_be_bytes(message[..4].try_into().unwrap());
                self.obey(code, &String::from_utf8(message[8..].into()).unwrap());
            }
        }
    }

    fn obey(&mut self, code: u32, payload: &str) {
        if code == 0 {
            return self.say(9, &self.api.to_be_bytes());
        }
        self.commands.push((code, payload.to_owned()));
        if self.is_stuck {
            return;
        }
        let told: Value = serde_json::from_str(payload).unwrap_or_default();
        let is_done = match code {
            1 | 4 | 12 => true,
            6 => self.run(&told, told["container"].as_str().unwrap_or_default()),
            11 => self.found(&told).is_some() || told["seq"].is_u64(),
            17 => {
                let id = told["id"].as_str().unwrap_or_default().to_owned();
                let is_new = !self.containers.contains(&id);
                self.containers.push(id.clone());
                is_new && self.run(&told, &id)
            }
            18 | 24 => self.found(&told).is_some(),
            _ => false,
        };
        self.say(if is_done { 9 } else { 10 }, b"");
    }

    fn found(&self, told: &Value) -> Option<u64> {
        let is_it = |running: &&Running| {
            told["container"] == *running.container
                && told["process"].as_str().is_none_or(|process| process == running.process)
        };
        let is_real = |running: &Running| self.containers.contains(&running.container);
        let mut all = self.running.iter();
        all.find(|(_, running)| is_it(running) && is_real(running)).map(|(&seq, _)| seq)
    }

    fn run(&mut self, told: &Value, container: &str) -> bool {
        let process = &told["process"];
        let text = |member: &str| process[member].as_str().unwrap_or_default().to_owned();
        let (stdio, stderr) =
            (process["stdio"].as_u64().unwrap_or(0), process["stderr"].as_u64().unwrap_or(0));
        let terminal = process["terminal"] == true;
        let is_there = container == "hyperstart" || self.containers.iter().any(|id| id == container);
        if stdio == 0 || !is_there || (!terminal && stderr == 0) {
            return false;
        }
        let args = process["args"].as_array().unwrap();
        let args = args.iter().map(|arg| arg.as_str().unwrap().to_owned()).collect();
        let running =
            Running { container: container.to_owned(), process: text("id"), stderr, args, terminal };
        self.running.insert(stdio, running);
        true
    }

    /// The only process that runs, and its stream.
    pub(crate) fn only(&self) -> (u64, Running) {
        assert_eq!(self.running.len(), 1, "{:?}", self.running);
        self.running.iter().map(|(&seq, running)| (seq, running.clone())).next().unwrap()
    }

    /// A process prints.
    pub(crate) fn print(&mut self, seq: u64, bytes: &[u8]) {
        for piece in bytes.chunks(10_228) {
            self.streams.extend_from_slice(&seq.to_be_bytes());
            self.streams.extend_from_slice(&(12 + piece.len() as u32).to_be_bytes());
            self.streams.extend_from_slice(piece);
        }
    }

    /// A process ends, and nobody has its output any more.
    pub(crate) fn exit(&mut self, seq: u64, status: u8) {
        let Running { container, process, .. } = self.running.remove(&seq).expect("it runs");
        self.streams.extend_from_slice(&seq.to_be_bytes());
        self.streams.extend_from_slice(&12u32.to_be_bytes());
        if self.api <= 4242 {
            self.streams.extend_from_slice(&seq.to_be_bytes());
            self.streams.extend_from_slice(&13u32.to_be_bytes());
            self.streams.push(status);
        } else {
            let told =
                json!({ "container": container, "process": process, "event": "finished", "status": status });
            self.say(23, told.to_string().as_bytes());
        }
    }

    /// Bytes came on the channel of streams.
    pub(crate) fn handle_stream(&mut self, bytes: &[u8]) {
        self.stream.extend_from_slice(bytes);
        while let Some(length) = self.stream.get(8..12) {
            let length = u32::from_be_bytes(length.try_into().unwrap()) as usize;
            // It dies of these.
            assert!((12..=4096).contains(&length), "a length of {length}");
            if self.stream.len() < length {
                break;
            }
            let message: Vec<u8> = self.stream.drain(..length).collect();
            let seq = u64::from_be_bytes(message[..8].try_into().unwrap());
            match self.running.get(&seq) {
                None => {
                    self.held.clear();
                    if self.mute > 0 {
                        self.mute -= 1;
                        continue;
                    }
                    self.streams.extend_from_slice(&seq.to_be_bytes());
                    self.streams.extend_from_slice(&12u32.to_be_bytes());
                }
                Some(running) if length == 12 => {
                    if !running.terminal {
                        self.ended.push(seq);
                    }
                }
                Some(_) => {
                    let held = self.held.entry(seq).or_default();
                    let taken = (length - 12).min(512 - *held);
                    *held += taken;
                    self.came.entry(seq).or_default().extend_from_slice(&message[12..12 + taken]);
                }
            }
        }
    }
}
