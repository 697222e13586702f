//! What VMs print and clients type.

use super::{Fault, Id, On, Server};

impl Server {
    pub(super) fn vm_prints(&mut self, id: Id, mut data: Vec<u8>) {
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

    pub(super) fn show(&mut self, id: Id, data: &[u8]) {
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

    pub(super) fn client_types(&mut self, id: Id, data: Vec<u8>) {
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

    pub(super) fn pass_to_vm(&mut self, client: Id, mut input: Vec<u8>) {
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
    pub(super) fn release(&mut self, console: usize) {
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
}
