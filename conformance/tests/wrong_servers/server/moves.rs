//! Moves.

use super::{Fault, Id, Move, Server};

impl Server {
    pub(super) fn begin(&mut self, id: Id, sequence: &[u8]) {
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

    pub(super) fn peer(&mut self, id: Id, parameters: &[u8]) {
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

    pub(super) fn complete(&mut self, id: Id, sequence: &[u8]) {
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

    pub(super) fn abort(&mut self, id: Id) {
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
