//! What comes in, in telnet's words.

use vspc_conformance::telnet::{Decoder, Word};

use super::bytes::{is_at_the_wrong_port, naive_sub_end, undoubled};
use super::{AUTH, DO, DONT, Fault, Id, On, Server, TM, VMWARE, WILL, WONT};

impl Server {
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
}
