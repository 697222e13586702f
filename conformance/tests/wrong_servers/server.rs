//! A small concentrator that shares no code with the project's own: everything in one struct, no timers, no
//! limits, no sockets. Without a [`Fault`] it passes the suite; with one it is wrong in one way, the way in
//! which some server in the field is or was wrong.

use std::collections::HashMap;

use vspc_conformance::telnet::{Decoder, Word};

/// What a server does wrong; faults.md tells who does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    None,
    // vMotion
    NoGoahead,
    SequenceNotDoubled,
    SecretNotDoubled,
    HeldUntilNextKey,
    InputToBothHosts,
    InputToSource,
    HeldInputLost,
    HoldsAfterAbort,
    AbortByAnyone,
    BelievesAnySecret,
    SecretLivesOn,
    SourceEndEndsMove,
    CompleteCrashes,
    TargetJoinsByUuid,
    BeginBeforeIdentity,
    ForgetsTargetOnAbort,
    NoMoves,
    // Bytes
    DropsNul,
    DropsXon,
    Utf8Only,
    FoldsLineEnds,
    HoldsUntilNegotiated,
    ForgetsAcrossReads,
    EscapedIacEndsSub,
    DataIacNotUndoubled,
    DataIacNotDoubled,
    TailLost,
    LineBuffered,
    Echoes,
    NvtNulKept,
    // Hangs and deaths
    UnknownFromVmKills,
    GarbageKills,
    OverlongCloses,
    AnswersEverything,
    NoTimingMark,
    TimingMarkOnce,
    NoAyt,
    // Sessions and identity
    WaitsForVm,
    KnownOnlyAsAnswer,
    UnknownNotAnswered,
    AcceptsDirectionC,
    KeepsStrangers,
    ClosesOldLeg,
    ClosesClientsWithVm,
    NewConsoleEachTime,
    IdentifiesByName,
    CaseSensitiveUuid,
    NoBiosUuid,
    EarlyDataLost,
    EarlyDataEverywhere,
    OneConsole,
    CommandsAsData,
    DirectionCUnanswered,
    // Seen without a client
    DeafAfterOddities,
    DiesWithStrangers,
    NameIsAFile,
    EarlyDataCloses,
    OnceOnly,
    // Takes connections on an admin listener, and says nothing there.
    DeafAdmin,
    InsistsOnBinary,
    NoSession,
    KnownOnceOnly,
    RefusesSilently,
    AsksAgain,
    AgreesAgain,
    NoOffersToClients,
    DoubledIacObeyed,
    SameNameCloses,
    ProxyCodesKill,
    FloodCloses,
    NonsenseUuidKills,
    StaysInClear,
    DeafAfterNull,
    // What clients are
    IgnoresInterrupt,
    TypesOpenings,
    RawByFirstByte,
    TypesStrangers,
    FinEndsOutput,
}

pub(crate) type Id = usize;

#[derive(Default)]
pub(crate) struct Server {
    fault: Option<Fault>,
    conns: Vec<Conn>,
    consoles: Vec<Console>,
    moves: Vec<Move>,
    secrets: u8,
    /// Bytes for peers, and the ends of connections (`None`), in order.
    pub(crate) out: Vec<(Id, Option<Vec<u8>>)>,
    /// It crashed.
    pub(crate) dead: bool,
}

#[derive(Default)]
struct Conn {
    decoder: Decoder,
    client_of: Option<usize>,
    /// The console that this VM feeds.
    console: Option<usize>,
    /// It sent PEER: it joins by COMPLETE or not at all.
    peered: bool,
    /// Its VM has moved away.
    left: bool,
    asked: bool,
    told: bool,
    name: Vec<u8>,
    early: Vec<u8>,
    line: Vec<u8>,
    waiting: Vec<u8>,
    answered: bool,
    cr: bool,
    him: HashMap<u8, On>,
    us: HashMap<u8, On>,
    marks: usize,
    /// It has said something.
    spoke: bool,
    /// A client that is taken for raw (a fault).
    raw: bool,
    /// It listens no more (a fault).
    deaf: bool,
    closed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum On {
    #[default]
    No,
    Asked,
    Yes,
}

#[derive(Default)]
struct Console {
    identity: Vec<u8>,
    legs: Vec<Id>,
    clients: Vec<Id>,
    held: Vec<u8>,
    /// Held bytes that nothing will ever send (a fault).
    stuck: bool,
}

struct Move {
    console: usize,
    source: Option<Id>,
    target: Option<Id>,
    sequence: Vec<u8>,
    secret: Vec<u8>,
    done: bool,
}

const VMWARE: u8 = 232;
const AUTH: u8 = 37;
const WILL: u8 = 251;
const WONT: u8 = 252;
const DO: u8 = 253;
const DONT: u8 = 254;
const TM: u8 = 6;

impl Server {
    pub(crate) fn new(fault: Fault) -> Self {
        Self { fault: Some(fault), ..Self::default() }
    }

    pub(crate) fn is(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    pub(crate) fn connect_vm(&mut self) -> Id {
        let id = self.conns.len();
        self.conns.push(Conn::default());
        self.offer(id, &[0, 3, 1], &[0, 3]);
        if !self.is(Fault::WaitsForVm) {
            self.offer(id, &[], &[VMWARE]);
        }
        id
    }

    /// The console that a VM feeds: where its client port leads.
    pub(crate) fn console_of(&self, vm: Id) -> Option<usize> {
        self.conns[vm].console
    }

    /// How many consoles there are; they are never forgotten.
    pub(crate) fn consoles(&self) -> usize {
        self.consoles.len()
    }

    pub(crate) fn connect_client(&mut self, console: usize) -> Id {
        let id = self.conns.len();
        self.conns.push(Conn { client_of: Some(console), ..Conn::default() });
        self.consoles[console].clients.push(id);
        if !self.is(Fault::NoOffersToClients) {
            self.offer(id, &[0, 3, 1], &[0, 3]);
        }
        id
    }

    fn offer(&mut self, id: Id, will: &[u8], r#do: &[u8]) {
        for option in will {
            self.conns[id].us.insert(*option, On::Asked);
            self.say(id, &Word::Negotiation(WILL, *option));
        }
        for option in r#do {
            self.conns[id].him.insert(*option, On::Asked);
            self.say(id, &Word::Negotiation(DO, *option));
        }
    }

    fn say(&mut self, id: Id, word: &Word) {
        let mut wire = Vec::new();
        word.encode(&mut wire);
        let raw_sub = match word {
            Word::Sub(VMWARE, payload) => match payload.first() {
                Some(41 | 43 | 45) if self.is(Fault::SequenceNotDoubled) => Some(payload),
                Some(41) if self.is(Fault::SecretNotDoubled) => Some(payload),
                _ => None,
            },
            _ => None,
        };
        if let Some(payload) = raw_sub {
            wire = [&[255, 250, VMWARE], payload.as_slice(), &[255, 240]].concat();
        }
        self.write(id, wire);
    }

    fn write(&mut self, id: Id, wire: Vec<u8>) {
        if !self.conns[id].closed && !self.dead && !wire.is_empty() {
            self.out.push((id, Some(wire)));
        }
    }

    fn data(&mut self, id: Id, bytes: &[u8]) {
        if self.is(Fault::DataIacNotDoubled) {
            self.write(id, bytes.to_vec());
        } else {
            self.say(id, &Word::Data(bytes.to_vec()));
        }
    }

    fn sub(&mut self, id: Id, code: u8, parameters: &[u8]) {
        self.say(id, &Word::Sub(VMWARE, [&[code], parameters].concat()));
    }

    fn close(&mut self, id: Id) {
        if !self.conns[id].closed {
            self.conns[id].closed = true;
            self.out.push((id, None));
        }
    }

    fn die(&mut self) {
        for id in 0..self.conns.len() {
            self.close(id);
        }
        self.dead = true;
    }

    pub(crate) fn receive(&mut self, id: Id, bytes: &[u8]) {
        if self.conns[id].closed || self.dead {
            return;
        }
        if self.is(Fault::FloodCloses) && bytes.len() > 16_384 {
            return self.end(id);
        }
        let bytes = match self.fault {
            Some(Fault::EscapedIacEndsSub) => naive_sub_end(bytes),
            Some(Fault::DoubledIacObeyed) => undoubled(bytes),
            _ => bytes.to_vec(),
        };
        if self.conns[id].client_of.is_some() && !std::mem::replace(&mut self.conns[id].spoke, true) {
            if is_at_the_wrong_port(&bytes) && !self.is(Fault::TypesStrangers) {
                return self.end(id);
            }
            self.conns[id].raw = self.is(Fault::RawByFirstByte) && bytes.first() != Some(&255);
        }
        if self.conns[id].raw {
            return self.client_types(id, bytes);
        }
        if self.is(Fault::ForgetsAcrossReads) {
            self.conns[id].decoder = Decoder::default();
        }
        for word in self.conns[id].decoder.read(&bytes) {
            if self.is(Fault::DeafAfterOddities) {
                self.conns[id].deaf |= match &word {
                    Word::Command(_) | Word::Fault(_) => true,
                    Word::Sub(option, payload) => *option != VMWARE || payload.is_empty(),
                    _ => false,
                };
            }
            match word {
                _ if self.conns[id].deaf => {}
                Word::Data(data) if self.conns[id].client_of.is_some() => self.client_types(id, data),
                Word::Data(data) => self.vm_prints(id, data),
                Word::Negotiation(verb, option)
                    if self.is(Fault::TypesOpenings)
                        && self.conns[id].client_of.is_some()
                        && matches!(option, 24..=39) =>
                {
                    self.client_types(id, vec![255, verb, option]);
                }
                Word::Negotiation(verb, option) => self.negotiate(id, verb, option),
                Word::Command(246) if self.conns[id].client_of.is_some() && !self.is(Fault::NoAyt) => {
                    self.data(id, b"[yes]");
                }
                Word::Command(command) if self.is(Fault::CommandsAsData) => match self.conns[id].client_of {
                    Some(_) => self.client_types(id, vec![command]),
                    None => self.vm_prints(id, vec![command]),
                },
                Word::Command(244)
                    if self.conns[id].client_of.is_some() && !self.is(Fault::IgnoresInterrupt) =>
                {
                    self.client_types(id, vec![3]);
                }
                Word::Sub(VMWARE, payload) if self.conns[id].client_of.is_none() => {
                    self.extension(id, &payload);
                }
                Word::Sub(AUTH, payload) if payload == [0, 7, 0, 1] && self.is(Fault::StaysInClear) => {
                    self.say(id, &Word::Sub(AUTH, vec![2, 7, 0, 2]));
                }
                Word::Sub(AUTH, payload) if payload == [0, 0, 0] && self.is(Fault::DeafAfterNull) => {
                    self.conns[id].deaf = true;
                }
                Word::Sub(_, payload) if payload.len() > 1024 && self.is(Fault::OverlongCloses) => {
                    self.end(id);
                }
                Word::Fault(_) if self.is(Fault::GarbageKills) => self.die(),
                _ => {}
            }
        }
    }

    /// The peer has sent its last byte. A client may still read.
    pub(crate) fn half_closed(&mut self, id: Id) {
        let ends = self.is(Fault::FinEndsOutput) || self.is(Fault::DiesWithStrangers);
        if self.conns[id].client_of.is_none() || ends {
            self.ended(id);
        }
    }

    /// The peer is a VM and has sent its last byte, or the connection was cut.
    pub(crate) fn ended(&mut self, id: Id) {
        let conn = &self.conns[id];
        let stranger = conn.client_of.is_none() && conn.console.is_none();
        if self.is(Fault::DiesWithStrangers) && (stranger || !conn.decoder.unfinished().is_empty()) {
            return self.die();
        }
        if !self.is(Fault::TailLost) {
            let line = std::mem::take(&mut self.conns[id].line);
            self.show(id, &line);
        }
        self.end(id);
    }

    fn end(&mut self, id: Id) {
        for console in &mut self.consoles {
            console.legs.retain(|leg| *leg != id);
            console.clients.retain(|client| *client != id);
        }
        let gone = self.is(Fault::SourceEndEndsMove);
        for moved in &mut self.moves {
            if moved.source == Some(id) {
                moved.source = None;
                moved.done |= gone;
            }
            if moved.target == Some(id) {
                moved.target = None;
            }
        }
        if let (Some(console), true) = (self.conns[id].console, self.is(Fault::ClosesClientsWithVm)) {
            for client in self.consoles[console].clients.clone() {
                self.close(client);
            }
        }
        self.close(id);
    }

    fn negotiate(&mut self, id: Id, verb: u8, option: u8) {
        self.conns[id].answered = true;
        let is_client = self.conns[id].client_of.is_some();
        if is_client {
            let waiting = std::mem::take(&mut self.conns[id].waiting);
            self.pass_to_vm(id, waiting);
        }
        if (verb, option) == (DO, TM) {
            self.conns[id].marks += 1;
            let silent =
                self.is(Fault::NoTimingMark) || (self.is(Fault::TimingMarkOnce) && self.conns[id].marks > 1);
            if !silent {
                self.say(id, &Word::Negotiation(WONT, TM));
            }
            return;
        }
        if (verb, option) == (WONT, 0) && !is_client && self.is(Fault::InsistsOnBinary) {
            return self.end(id);
        }
        if self.is(Fault::AnswersEverything) && !matches!(option, 0 | 1 | 3 | VMWARE) {
            let answer = if matches!(verb, WILL | WONT) { DONT } else { WONT };
            return self.say(id, &Word::Negotiation(answer, option));
        }
        let wanted = match verb {
            WILL | WONT => matches!(option, 0 | 3) || (option == VMWARE && !is_client),
            _ => matches!(option, 0 | 1 | 3),
        };
        if (verb, option) == (WILL, AUTH) && (self.is(Fault::StaysInClear) || self.is(Fault::DeafAfterNull)) {
            self.say(id, &Word::Negotiation(DO, AUTH));
            return self.say(id, &Word::Sub(AUTH, vec![1, 7, 0]));
        }
        let (yes, no) = if matches!(verb, WILL | WONT) { (DO, DONT) } else { (WILL, WONT) };
        let refuses_silently = self.is(Fault::RefusesSilently);
        let (agrees_again, asks_again) = (self.is(Fault::AgreesAgain), self.is(Fault::AsksAgain));
        let conn = &mut self.conns[id];
        let state =
            if yes == DO { conn.him.entry(option).or_default() } else { conn.us.entry(option).or_default() };
        let before = *state;
        let answer = match (matches!(verb, WILL | DO), before) {
            (true, On::No) if wanted => {
                *state = On::Yes;
                Some(yes)
            }
            (true, On::No) => (!refuses_silently).then_some(no),
            (true, _) => {
                *state = On::Yes;
                (agrees_again && before == On::Yes).then_some(yes)
            }
            (false, On::Yes) if asks_again => {
                *state = On::Asked;
                Some(yes)
            }
            (false, _) => {
                *state = On::No;
                (before == On::Yes).then_some(no)
            }
        };
        if let Some(answer) = answer {
            self.say(id, &Word::Negotiation(answer, option));
        }
        match (verb, option) {
            (WILL, VMWARE) if !is_client && before != On::Yes && !self.is(Fault::KnownOnlyAsAnswer) => {
                self.known(id);
            }
            (WONT, VMWARE) if !is_client && !self.is(Fault::KeepsStrangers) => {
                self.data(id, b"This port is for VMs.\r\n");
                self.end(id);
            }
            _ => {}
        }
    }

    fn known(&mut self, id: Id) {
        let moves: &[u8] = if self.is(Fault::NoMoves) { &[] } else { &[40, 41, 43, 44, 45, 46, 48] };
        let codes = [&[0, 1, 2, 3, 70, 71, 73, 80, 81, 82, 83, 84, 85], moves].concat();
        self.sub(id, 1, &codes);
    }

    fn extension(&mut self, id: Id, payload: &[u8]) {
        let Some((&code, parameters)) = payload.split_first() else {
            if self.is(Fault::GarbageKills) {
                self.die();
            }
            return;
        };
        if matches!(code, 0 | 44 | 70) && !std::mem::replace(&mut self.conns[id].asked, true) {
            if self.is(Fault::KnownOnlyAsAnswer) {
                self.known(id);
            }
            self.sub(id, 81, &[]);
            self.sub(id, 83, &[]);
        }
        match code {
            0 if self.is(Fault::KnownOnceOnly) && std::mem::replace(&mut self.conns[id].told, true) => {
                self.sub(id, 3, &[0]);
            }
            0 | 86 => {}
            41 | 45 | 71 | 73 | 81 if self.is(Fault::ProxyCodesKill) => self.die(),
            70 if self.is(Fault::NoSession) => {}
            2 if self.is(Fault::UnknownFromVmKills) => self.end(id),
            2 if parameters == [81] => self.ask_bios(id),
            2 => {}
            70 if parameters.first() == Some(&b'S') || self.is(Fault::AcceptsDirectionC) => {
                self.sub(id, 71, &[]);
            }
            70 if self.is(Fault::DirectionCUnanswered) => {}
            70 => self.sub(id, 73, &[]),
            80 if parameters.is_empty() => self.ask_bios(id),
            80 | 84 => self.identify(id, parameters),
            82 if self.is(Fault::NameIsAFile) && parameters.contains(&b'/') => self.end(id),
            82 => {
                let twin = self.conns.iter().position(|conn| conn.name == parameters && !conn.closed);
                if let (Some(twin), true) = (twin, self.is(Fault::SameNameCloses)) {
                    self.end(twin);
                }
                parameters.clone_into(&mut self.conns[id].name);
                if self.is(Fault::IdentifiesByName) {
                    self.join(id, parameters.to_vec());
                }
            }
            40 if !self.is(Fault::NoMoves) => self.begin(id, parameters),
            44 if !self.is(Fault::NoMoves) => self.peer(id, parameters),
            46 if !self.is(Fault::NoMoves) => self.complete(id, parameters),
            48 if !self.is(Fault::NoMoves) => self.abort(id),
            _ if self.is(Fault::UnknownNotAnswered) => {}
            code => self.sub(id, 3, &[code]),
        }
    }

    fn ask_bios(&mut self, id: Id) {
        if !self.is(Fault::NoBiosUuid) {
            self.sub(id, 85, &[]);
        }
    }

    fn identify(&mut self, id: Id, text: &[u8]) {
        let mut digits: Vec<u8> = text.iter().copied().filter(u8::is_ascii_hexdigit).collect();
        let is_uuid = digits.len() == 32 && text.len() == 47;
        if !self.is(Fault::CaseSensitiveUuid) {
            digits.make_ascii_lowercase();
        }
        if !is_uuid && !text.is_empty() && self.is(Fault::NonsenseUuidKills) {
            return self.die();
        }
        if self.is(Fault::OneConsole) {
            digits.clear();
        }
        if is_uuid && !self.is(Fault::IdentifiesByName) {
            self.join(id, digits);
        }
    }

    fn join(&mut self, id: Id, identity: Vec<u8>) {
        let may = !self.conns[id].peered || self.is(Fault::TargetJoinsByUuid);
        if self.conns[id].console.is_some() || !may {
            return;
        }
        let known = self.consoles.iter().position(|console| console.identity == identity);
        if known.is_some() && self.is(Fault::OnceOnly) {
            return self.end(id);
        }
        let console = match known.filter(|_| !self.is(Fault::NewConsoleEachTime)) {
            Some(console) => console,
            None => {
                self.consoles.push(Console { identity, ..Console::default() });
                self.consoles.len() - 1
            }
        };
        if self.is(Fault::ClosesOldLeg) {
            for leg in std::mem::take(&mut self.consoles[console].legs) {
                self.close(leg);
            }
        }
        self.attach(id, console);
    }

    fn attach(&mut self, id: Id, console: usize) {
        self.consoles[console].legs.push(id);
        self.conns[id].console = Some(console);
        let early = std::mem::take(&mut self.conns[id].early);
        if !self.is(Fault::EarlyDataLost) {
            self.show(id, &early);
        }
    }

    fn vm_prints(&mut self, id: Id, mut data: Vec<u8>) {
        if self.is(Fault::FoldsLineEnds) {
            let text = data.clone();
            data = Vec::new();
            for (index, byte) in text.iter().enumerate() {
                if *byte != b'\r' || text.get(index + 1) != Some(&b'\n') {
                    data.push(*byte);
                }
            }
        }
        if self.is(Fault::LineBuffered) || self.is(Fault::TailLost) {
            let line = &mut self.conns[id].line;
            line.extend(data);
            // The one waits for the newline, the other for the next read.
            let ready = match line.iter().rposition(|byte| *byte == b'\n') {
                Some(end) => end + 1,
                None if self.fault == Some(Fault::LineBuffered) => 0,
                None => line.len() - usize::from(line.ends_with(b"end")) * 3,
            };
            data = line.drain(..ready).collect();
        }
        if self.is(Fault::EarlyDataEverywhere) && self.conns[id].console.is_none() {
            for console in 0..self.consoles.len() {
                self.broadcast(console, &data);
            }
            return;
        }
        self.show(id, &data);
    }

    fn show(&mut self, id: Id, data: &[u8]) {
        let conn = &mut self.conns[id];
        match conn.console {
            _ if conn.left => {}
            Some(console) => self.broadcast(console, data),
            None if self.fault == Some(Fault::EarlyDataCloses) && !data.is_empty() => self.end(id),
            None => conn.early.extend_from_slice(data),
        }
    }

    fn broadcast(&mut self, console: usize, data: &[u8]) {
        let data: Vec<u8> = match self.fault {
            Some(Fault::DropsNul) => data.iter().copied().filter(|byte| *byte != 0).collect(),
            Some(Fault::DropsXon) => data.iter().copied().filter(|byte| !matches!(byte, 17 | 19)).collect(),
            Some(Fault::Utf8Only) => String::from_utf8_lossy(data).into_owned().into_bytes(),
            _ => data.to_vec(),
        };
        for client in self.consoles[console].clients.clone() {
            self.data(client, &data);
        }
    }

    fn client_types(&mut self, id: Id, data: Vec<u8>) {
        let nvt = self.conns[id].answered && self.conns[id].him.get(&0) == Some(&On::No);
        let mut input = Vec::new();
        for byte in data {
            let swallow = nvt && self.conns[id].cr && byte == 0 && !self.is(Fault::NvtNulKept);
            if !swallow {
                input.push(byte);
            }
            self.conns[id].cr = byte == b'\r';
            if byte == 255 && self.is(Fault::DataIacNotUndoubled) {
                input.push(255);
            }
        }
        if self.is(Fault::Echoes) {
            self.data(id, &input.clone());
        }
        if self.is(Fault::HoldsUntilNegotiated) && !self.conns[id].answered {
            self.conns[id].waiting.extend(input);
        } else {
            self.pass_to_vm(id, input);
        }
    }

    fn pass_to_vm(&mut self, client: Id, mut input: Vec<u8>) {
        let Some(console) = self.conns[client].client_of else { return };
        if input.is_empty() {
            return;
        }
        if self.is(Fault::DropsNul) {
            input.retain(|byte| *byte != 0);
        }
        let moving = self.moves.iter().any(|moved| moved.console == console && !moved.done);
        let newest = self.consoles[console].legs.last().copied();
        if self.consoles[console].stuck {
            return;
        }
        match newest {
            Some(leg) if moving && self.is(Fault::InputToSource) => self.data(leg, &input),
            Some(leg) if moving && self.is(Fault::InputToBothHosts) => {
                self.data(leg, &input);
                self.consoles[console].held.extend(input);
            }
            _ if moving && self.is(Fault::HeldInputLost) => {}
            _ if moving => self.consoles[console].held.extend(input),
            Some(leg) => {
                let mut held = std::mem::take(&mut self.consoles[console].held);
                held.extend(input);
                self.data(leg, &held);
            }
            None => {}
        }
    }

    /// Sends what was held, unless another port of the console still moves.
    fn release(&mut self, console: usize) {
        let moving = self.moves.iter().any(|moved| moved.console == console && !moved.done);
        if moving || self.is(Fault::HeldUntilNextKey) {
            return;
        }
        if let Some(leg) = self.consoles[console].legs.last().copied() {
            let held = std::mem::take(&mut self.consoles[console].held);
            if !held.is_empty() {
                self.data(leg, &held);
            }
        }
    }

    fn begin(&mut self, id: Id, sequence: &[u8]) {
        let console = match self.conns[id].console {
            Some(console) if !self.conns[id].left => console,
            None if self.is(Fault::BeginBeforeIdentity) => {
                return self.sub(id, 41, &[sequence, b"no vm!"].concat());
            }
            _ => return self.sub(id, 43, sequence),
        };
        for moved in &mut self.moves {
            moved.done |= moved.source == Some(id);
        }
        self.secrets += 1;
        // Every secret has a byte 255 in it: what cannot double it never works here.
        let secret = vec![255, 0xa5, self.secrets, 0x5a, 255, 240, 17, 0];
        if !self.is(Fault::NoGoahead) {
            self.sub(id, 41, &[sequence, &secret].concat());
        }
        let sequence = sequence.to_vec();
        self.moves.push(Move { console, source: Some(id), target: None, sequence, secret, done: false });
    }

    fn peer(&mut self, id: Id, parameters: &[u8]) {
        self.conns[id].peered = true;
        let (any, lives_on) = (self.is(Fault::BelievesAnySecret), self.is(Fault::SecretLivesOn));
        let found = self.moves.iter_mut().rev().find(|moved| {
            let fits = match any {
                true => parameters.starts_with(&moved.sequence),
                false => parameters == [moved.sequence.as_slice(), &moved.secret].concat(),
            };
            (!moved.done || lives_on) && fits && moved.source != Some(id)
        });
        if let Some(moved) = found {
            moved.target = Some(id);
            let sequence = moved.sequence.clone();
            self.sub(id, 45, &sequence);
        }
    }

    fn complete(&mut self, id: Id, sequence: &[u8]) {
        let found = self
            .moves
            .iter()
            .position(|moved| !moved.done && moved.target == Some(id) && moved.sequence == sequence);
        let Some(index) = found else {
            if self.is(Fault::CompleteCrashes) {
                self.die();
            }
            return;
        };
        self.moves[index].done = true;
        let (console, source) = (self.moves[index].console, self.moves[index].source);
        if let Some(source) = source {
            self.conns[source].left = true;
            self.consoles[console].legs.retain(|leg| *leg != source);
        }
        self.conns[id].peered = false;
        if self.conns[id].console.is_none() {
            self.attach(id, console);
        }
        self.release(console);
    }

    fn abort(&mut self, id: Id) {
        let anyone = self.is(Fault::AbortByAnyone);
        let found = self.moves.iter().position(|moved| !moved.done && (moved.source == Some(id) || anyone));
        let Some(index) = found else { return };
        let console = self.moves[index].console;
        self.moves[index].done = !self.is(Fault::ForgetsTargetOnAbort);
        if self.is(Fault::HoldsAfterAbort) {
            self.consoles[console].stuck = true;
            return;
        }
        self.release(console);
    }
}

/// The first bytes of programs that speak no telnet and are no raw clients either.
fn is_at_the_wrong_port(bytes: &[u8]) -> bool {
    let begins = |with: &[u8]| bytes.starts_with(with);
    let first_line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let is_http = first_line.windows(8).any(|word| word == b" HTTP/1.");
    is_http || begins(b"SSH-2.0-") || begins(b"PROXY ") || (begins(&[22, 3]) && bytes.get(5) == Some(&1))
}

/// A subnegotiation ends at the first IAC in it, doubled or not.
fn naive_sub_end(bytes: &[u8]) -> Vec<u8> {
    let (mut out, mut in_sub, mut index) = (Vec::new(), false, 0);
    while index < bytes.len() {
        match &bytes[index..] {
            [255, 250, ..] => in_sub = true,
            [255, 240, ..] => in_sub = false,
            [255, 255, ..] if in_sub => {
                out.extend([255, 240]);
                in_sub = false;
                index += 2;
                continue;
            }
            _ => {}
        }
        let step = if bytes[index] == 255 { 2.min(bytes.len() - index) } else { 1 };
        out.extend_from_slice(&bytes[index..index + step]);
        index += step;
    }
    out
}

/// Two bytes 255 are taken for one before anybody looks for commands.
fn undoubled(bytes: &[u8]) -> Vec<u8> {
    let (mut out, mut index) = (Vec::new(), 0);
    while index < bytes.len() {
        out.push(bytes[index]);
        index += 1 + usize::from(bytes[index..].starts_with(&[255, 255]));
    }
    out
}
