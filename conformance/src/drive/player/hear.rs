//! What each actor has heard and nobody has expected yet, and the rules by which it answers.

use std::collections::VecDeque;
use std::time::Duration;

use super::words::spoken;
use super::{Player, Stop, fail};
use crate::drive::{Arrival, PeerId};
use crate::telnet::names::{self, code};
use crate::telnet::{Decoder, Word, sentence};
use crate::transcript::{Item, SETTLED, Step};

pub(super) struct Actor {
    pub(super) name: String,
    pub(super) peer: PeerId,
    pub(super) raw: bool,
    pub(super) decoder: Decoder,
    /// What must be expected, in order. Data is kept byte by byte: expectations cut it as they like.
    pub(super) speech: VecDeque<Spoken>,
    /// What may be expected, and whether a rule has answered it.
    pub(super) chatter: Vec<(Word, bool)>,
    pub(super) ended: bool,
    pub(super) rules: Vec<Rule>,
    pub(super) wire: Vec<u8>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Spoken {
    Byte(u8),
    Word(Word),
}

pub(super) struct Rule {
    pub(super) once: bool,
    pub(super) spent: bool,
    pub(super) to: Item,
    pub(super) with: Vec<Item>,
}

/// Speech, as opposed to chatter: see the head of `player`.
fn is_speech(word: &Word) -> bool {
    match word {
        Word::Data(_) | Word::Fault(_) | Word::Command(names::BRK) => true,
        Word::Sub(names::VMWARE, payload) => {
            matches!(payload.first(), Some(&(code::GOAHEAD | code::NOTNOW | code::PEER_OK)))
        }
        _ => false,
    }
}

impl Actor {
    /// Speech that nobody took yet, in words.
    pub(super) fn spoken(&self) -> Vec<Word> {
        let mut words: Vec<Word> = Vec::new();
        for spoken in &self.speech {
            match (spoken, words.last_mut()) {
                (Spoken::Byte(byte), Some(Word::Data(run))) => run.push(*byte),
                (Spoken::Byte(byte), _) => words.push(Word::Data(vec![*byte])),
                (Spoken::Word(word), _) => words.push(word.clone()),
            }
        }
        words
    }

    pub(super) fn everything(&self) -> Vec<Word> {
        let mut all = self.spoken();
        all.extend(self.chatter.iter().map(|(word, _)| word.clone()));
        all
    }

    /// Is there speech that waits to be taken?
    pub(super) fn stuck(&self) -> bool {
        !self.speech.is_empty()
    }

    pub(super) fn unexpected(&self) -> String {
        let unfinished = self.decoder.unfinished();
        let mut got = match self.spoken().as_slice() {
            [] => "nothing".to_owned(),
            words => sentence(words),
        };
        if !self.chatter.is_empty() {
            let chatter: Vec<Word> = self.chatter.iter().map(|(word, _)| word.clone()).collect();
            got.push_str(&format!(" (beside {})", sentence(&chatter)));
        }
        if !unfinished.is_empty() {
            got.push_str(&format!(" and the beginning of a command: wire({})", names::hex(unfinished)));
        }
        got
    }
}

impl Player<'_> {
    /// Waits until nothing has come for a while: longer where the machine is busy, and what a server says
    /// after 100 ms may come after 200.
    pub(super) fn settle(&mut self, actor: usize, step: &Step) -> Result<(), Stop> {
        self.quiet(actor, step, SETTLED * self.options.slack.min(3))
    }

    pub(super) fn quiet(&mut self, actor: usize, step: &Step, time: Duration) -> Result<(), Stop> {
        const AT_MOST: Duration = Duration::from_secs(10);
        let limit = self.target.now() + AT_MOST;
        let mut end = self.target.now() + time;
        let mut heard = self.actors[actor].wire.len();
        while self.target.now() < limit && self.more(step, end)? {
            if self.actors[actor].wire.len() != heard {
                heard = self.actors[actor].wire.len();
                end = self.target.now() + time;
            }
        }
        Ok(())
    }

    pub(super) fn pass(&mut self, step: &Step, time: Duration) -> Result<(), Stop> {
        let end = self.target.now() + time;
        while self.more(step, end)? {}
        Ok(())
    }

    /// Takes in what has arrived already.
    pub(super) fn absorb(&mut self, step: &Step) -> Result<(), Stop> {
        let now = self.target.now();
        while self.more(step, now)? {}
        Ok(())
    }

    /// Waits for one arrival and takes it in; false when `until` comes first.
    pub(super) fn more(&mut self, step: &Step, until: Duration) -> Result<bool, Stop> {
        if self.target.now() > self.limit {
            let expected = "an end of all this in reasonable time".to_owned();
            return Err(fail(step, expected, "more and more".to_owned()));
        }
        let arrival = self.target.pump(until).map_err(|why| fail(step, "a server that works".into(), why))?;
        match arrival {
            None => return Ok(false),
            Some(Arrival::Bytes(peer, bytes)) => {
                if let Some(actor) = self.actors.iter().position(|actor| actor.peer == peer) {
                    self.heard(step, actor, &bytes)?;
                }
            }
            Some(Arrival::Ended(peer)) => {
                if let Some(actor) = self.actors.iter().position(|actor| actor.peer == peer) {
                    self.note(actor, "is closed");
                    self.actors[actor].ended = true;
                }
            }
        }
        Ok(true)
    }

    pub(super) fn heard(&mut self, step: &Step, actor: usize, bytes: &[u8]) -> Result<(), Stop> {
        let it = &mut self.actors[actor];
        it.wire.extend_from_slice(bytes);
        if it.raw {
            it.speech.extend(bytes.iter().map(|b| Spoken::Byte(*b)));
            self.note(actor, &format!("hears {}", names::quoted(bytes)));
            return Ok(());
        }
        let words = it.decoder.read(bytes);
        if !words.is_empty() {
            self.note(actor, &format!("hears {}", sentence(&words)));
        }
        for word in words {
            if let Word::Sub(names::VMWARE, payload) = &word
                && let Some((1, known)) = payload.split_first()
            {
                self.known = Some(known.to_vec());
            }
            let it = &mut self.actors[actor];
            match &word {
                Word::Data(run) => it.speech.extend(run.iter().map(|b| Spoken::Byte(*b))),
                _ if is_speech(&word) => it.speech.push_back(Spoken::Word(word.clone())),
                _ => it.chatter.push((word.clone(), false)),
            }
            for rule in 0..self.actors[actor].rules.len() {
                if self.obey(actor, &word, rule, step)? {
                    if let Some((last, answered)) = self.actors[actor].chatter.last_mut() {
                        *answered |= *last == word;
                    }
                    break;
                }
            }
        }
        Ok(())
    }

    /// Answers `word` if rule `index` says so.
    pub(super) fn obey(
        &mut self,
        actor: usize,
        word: &Word,
        index: usize,
        step: &Step,
    ) -> Result<bool, Stop> {
        let rule = &self.actors[actor].rules[index];
        if rule.spent {
            return Ok(false);
        }
        let Some(captures) = self.matches(&rule.to, word) else { return Ok(false) };
        let (with, once) = (rule.with.clone(), rule.once);
        self.answers += 1;
        if self.answers > MOST_ANSWERS {
            let expected = "a negotiation that ends".to_owned();
            return Err(fail(step, expected, format!("{word} and its like, {MOST_ANSWERS} times")));
        }
        self.keep(captures);
        self.actors[actor].rules[index].spent = once;
        let wire = self.encode(actor, &with, step)?;
        self.note(actor, &format!("answers {}", spoken(&wire)));
        let peer = self.actors[actor].peer;
        self.target.send(peer, &wire);
        Ok(true)
    }
}

/// More answers by rule than any dialogue needs: two peers that answer each other for ever are a loop.
const MOST_ANSWERS: usize = 500;
