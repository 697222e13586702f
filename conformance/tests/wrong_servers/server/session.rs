//! What VMs say in the extension: sessions and who they are.

use super::{Console, Fault, Id, Server};

impl Server {
    pub(super) fn known(&mut self, id: Id) {
        let moves: &[u8] = if self.is(Fault::NoMoves) { &[] } else { &[40, 41, 43, 44, 45, 46, 48] };
        let codes = [&[0, 1, 2, 3, 70, 71, 73, 80, 81, 82, 83, 84, 85], moves].concat();
        self.sub(id, 1, &codes);
    }

    pub(super) fn extension(&mut self, id: Id, payload: &[u8]) {
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

    pub(super) fn attach(&mut self, id: Id, console: usize) {
        self.consoles[console].legs.push(id);
        self.conns[id].console = Some(console);
        let early = std::mem::take(&mut self.conns[id].early);
        if !self.is(Fault::EarlyDataLost) {
            self.show(id, &early);
        }
    }
}
