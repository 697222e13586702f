//! The opening of a connection whose own is not in the capture.

use super::{ANSWER, Player};
use crate::replay::dialogue::{Act, By};
use crate::replay::identity;
use crate::replay::script::Introduce;
use crate::telnet::Word;
use crate::telnet::names::{BINARY, DO, ECHO, SGA, VMWARE, WILL, code};

impl Player<'_> {
    /// Plays the opening of a connection whose own is not in the capture (vmware.md §3).
    pub(super) fn introduce(&mut self, conn: usize) {
        let who = &self.script.identities[conn];
        let (uuid, name) = (who.uuid.clone().unwrap_or_default(), who.name.clone().unwrap_or_default());
        let uri =
            who.uri.clone().or_else(|| self.script.identities.iter().find_map(|other| other.uri.clone()));
        let service = [b"S", uri.unwrap_or_else(|| "vSPC".into()).as_bytes()].concat();
        let knows = [code::KNOWN_1, 1, 2, 3, 40, 41, 43, 44, 45, 46, 48, 70, 71, 73, 80, 81, 82, 83];
        let mut read = self.played.steps.len();
        let limit = self.target.now() + 2 * ANSWER;
        let target = self.script.conns[conn].introduce == Introduce::Target;
        let mut told = false;
        self.listen();
        while !told && self.target.now() < limit && !self.legs[conn].gone {
            let steps = self.played.steps[read..].to_vec();
            read += steps.len();
            for step in steps.iter().filter(|step| step.conn == conn) {
                let Act::Say(By::Proxy, word) = &step.act else { continue };
                let mut answer = Vec::new();
                match (word, word.as_vmware()) {
                    (Word::Negotiation(DO, VMWARE), _) => {
                        answer.push(Word::Negotiation(WILL, VMWARE));
                        answer.push(Word::vmware(code::KNOWN_1, &knows));
                        if target {
                            told = true;
                        } else {
                            answer.push(Word::vmware(code::DO_PROXY, &service));
                        }
                    }
                    (Word::Negotiation(DO, option @ (BINARY | SGA)), _) => {
                        answer.push(Word::Negotiation(WILL, *option));
                    }
                    (Word::Negotiation(WILL, option @ (BINARY | SGA | ECHO)), _) => {
                        answer.push(Word::Negotiation(DO, *option));
                    }
                    (_, Some((code::GET_NAME, _))) => answer.push(Word::vmware(code::NAME, name.as_bytes())),
                    (_, Some((code::GET_UUID, _))) if !target => {
                        answer.push(Word::vmware(code::UUID, identity::spoken(&uuid).as_bytes()));
                        told = true;
                        self.legs[conn].is_known = true;
                    }
                    _ => {}
                }
                for word in answer {
                    let bytes = word.wire();
                    self.record(conn, Act::Say(By::Vm, word));
                    self.send(conn, &bytes);
                }
            }
            self.listen();
            if !told && self.played.steps.len() == read && !self.pump(limit) {
                break;
            }
            self.listen();
        }
        if !told && !self.legs[conn].gone {
            self.differ(
                "our side does not ask a connection who it is whose beginning is not in the capture".into(),
            );
        }
    }
}
