//! What the words of a transcript mean. The player owns the actors, what each has heard, and the verdict;
//! it refuses to know how bytes travel.
//!
//! An actor that speaks telnet hears two kinds of words. *Speech* is data, BRK, the three answers to a move
//! (41, 43, 45) and broken telnet: it is kept in order, all of it must be expected, and what comes instead
//! of the expected is a failure at once. *Chatter* is everything else, negotiation above all: it may come
//! at any time and in any order, may be expected or not, and waits until it is. A raw actor hears bytes, and
//! all of them are speech.

mod expect;
mod find;
mod hear;
mod words;

use super::{PeerId, Target, Trouble, Values};
use crate::telnet::names;
use crate::telnet::{Decoder, Word};
use crate::transcript::{Action, Expect, Item, Part, Place, Step, Transcript};
use std::collections::VecDeque;
use std::time::Duration;

use hear::{Actor, Rule, Spoken};
use words::{spoken, word_of};

/// How to play.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long what is expected may take, where the transcript says nothing.
    pub patience: Duration,
    /// How often the time is allowed that a transcript gives to what must come. 1 but on a machine that is
    /// busy with other things.
    pub slack: u32,
    /// How sends are cut into segments.
    pub cut: Cut,
    /// How long all of it may take, beside what the transcript itself waits.
    pub limit: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { patience: Duration::from_secs(3), slack: 1, cut: Cut::Whole, limit: Duration::from_secs(60) }
    }
}

/// How the sends of a transcript are cut into segments. Sends are counted from 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cut {
    /// Not at all.
    Whole,
    /// Every byte is a segment.
    Bytes,
    /// This send, after so many bytes.
    Two(usize, usize),
    /// This send, after so many bytes and after so many.
    Three(usize, usize, usize),
}

impl Cut {
    fn pieces<'a>(&self, send: usize, bytes: &'a [u8]) -> Vec<&'a [u8]> {
        let at = |cut: usize| cut.min(bytes.len());
        let pieces = match *self {
            Self::Bytes => return bytes.chunks(1).collect(),
            Self::Two(which, a) if which == send => vec![&bytes[..at(a)], &bytes[at(a)..]],
            Self::Three(which, a, b) if which == send => {
                vec![&bytes[..at(a)], &bytes[at(a)..at(b)], &bytes[at(b)..]]
            }
            _ => vec![bytes],
        };
        pieces.into_iter().filter(|piece| !piece.is_empty()).collect()
    }
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Played {
    /// The verdict.
    pub outcome: Outcome,
    /// How many bytes each send had, for cutting them next time.
    pub sends: Vec<usize>,
    /// Who said what, in telnet words, one line each.
    pub log: Vec<String>,
    /// What each actor was sent in total, in wire form, by name.
    pub heard: Vec<(String, Vec<u8>)>,
    /// The codes that the server says it knows (KNOWN-SUBOPTIONS-2), if it said so.
    pub known: Option<Vec<u8>>,
}

/// The verdict.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// All was as expected.
    Pass,
    /// Something was not.
    Fail(Failure),
    /// The server offers no way to do this.
    NotOffered(String),
}

/// What was not as expected.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// The line of the transcript.
    pub place: Place,
    /// How it is written there.
    pub step: String,
    /// What was to come.
    pub expected: String,
    /// What came.
    pub got: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}\n  expected {}\n  got      {}", self.place, self.step, self.expected, self.got)
    }
}

/// Plays `transcript` to `target`. It takes as long as the transcript waits plus its patience, at most.
pub fn play(transcript: &Transcript, target: &mut dyn Target, values: &Values, options: Options) -> Played {
    let mut player = Player {
        target,
        values: values.clone(),
        options: Options { cut: if transcript.single_bytes { Cut::Bytes } else { options.cut }, ..options },
        actors: Vec::new(),
        sends: Vec::new(),
        log: Vec::new(),
        known: None,
        answers: 0,
        limit: Duration::MAX,
    };
    let outcome = match player.run(transcript) {
        Ok(()) => Outcome::Pass,
        Err(Stop::Failed(failure)) => Outcome::Fail(failure),
        Err(Stop::NotOffered(why)) => Outcome::NotOffered(why),
    };
    let heard = player.actors.iter().map(|actor| (actor.name.clone(), actor.wire.clone())).collect();
    Played { outcome, sends: player.sends, log: player.log, heard, known: player.known }
}

struct Player<'a> {
    target: &'a mut dyn Target,
    values: Values,
    options: Options,
    actors: Vec<Actor>,
    sends: Vec<usize>,
    log: Vec<String>,
    known: Option<Vec<u8>>,
    /// How often an actor has answered by rule.
    answers: usize,
    /// When all of it must have ended.
    limit: Duration,
}

enum Stop {
    Failed(Failure),
    NotOffered(String),
}

impl Player<'_> {
    fn run(&mut self, transcript: &Transcript) -> Result<(), Stop> {
        self.limit = self.target.now() + self.options.limit + transcript.waits();
        transcript.steps.iter().try_for_each(|step| self.step(step))?;
        // What was said and not expected is an error, even when nobody asked for silence.
        if let Some(last) = transcript.steps.last() {
            self.absorb(last)?;
            for actor in &self.actors {
                if !actor.speech.is_empty() {
                    let expected = format!("nothing more to {}", actor.name);
                    return Err(fail(last, expected, actor.unexpected()));
                }
            }
        }
        Ok(())
    }

    fn step(&mut self, step: &Step) -> Result<(), Stop> {
        match &step.action {
            Action::ConnectVm { actor } => {
                let peer = self.target.connect_vm();
                self.connected(step, actor, false, peer)
            }
            Action::ConnectClient { actor, raw, of } => {
                let vm = self.actor(of);
                self.quiet(vm, step, self.target.quiet_before_client())?;
                let port = self.target.client_port(self.actors[vm].peer);
                let peer = port.and_then(|port| self.target.connect_client(port));
                self.connected(step, actor, *raw, peer)
            }
            Action::ConnectAdmin { actor } => {
                let peer = self.target.connect_admin();
                self.connected(step, actor, true, peer)
            }
            Action::Send { actor, items, urgent } => {
                let actor = self.actor(actor);
                let wire = self.encode(actor, items, step)?;
                self.say(actor, &wire, *urgent);
                self.absorb(step)
            }
            Action::Repeat { actor, item, hearer } => {
                let (actor, hearer) = (self.actor(actor), self.actor(hearer));
                self.repeat(step, actor, item, hearer)
            }
            Action::Answer { actor, once, to, with } => {
                let actor = self.actor(actor);
                let rule = Rule { once: *once, spent: false, to: to.clone(), with: with.clone() };
                self.actors[actor].rules.push(rule);
                // What was heard already is answered too: who comes first must not matter.
                let rule = self.actors[actor].rules.len() - 1;
                for (index, (word, answered)) in self.actors[actor].chatter.clone().iter().enumerate() {
                    if !answered {
                        self.actors[actor].chatter[index].1 = self.obey(actor, word, rule, step)?;
                    }
                }
                Ok(())
            }
            Action::Close(actor) => {
                let actor = self.actor(actor);
                self.note(actor, "closes (FIN)");
                self.target.close(self.actors[actor].peer);
                self.absorb(step)
            }
            Action::Reset(actor) => {
                let actor = self.actor(actor);
                self.note(actor, "resets (RST)");
                self.actors[actor].ended = true;
                self.actors[actor].speech.clear();
                self.target.reset(self.actors[actor].peer);
                self.absorb(step)
            }
            Action::Settle(actor) => {
                let actor = self.actor(actor);
                self.settle(actor, step)?;
                let actor = &mut self.actors[actor];
                actor.speech.clear();
                actor.chatter.clear();
                Ok(())
            }
            Action::Wait(time) => self.pass(step, *time),
            Action::Expect { actor, what, within, unless } => {
                let actor = self.actor(actor);
                let within = within.unwrap_or(self.options.patience) * self.options.slack;
                match (unless, what) {
                    (Some(unless), Expect::Words(words)) => {
                        words.iter().try_for_each(|word| self.unless(step, actor, word, within, unless))
                    }
                    _ => self.expect(step, actor, what, within),
                }
            }
        }
    }

    fn encode(&self, actor: usize, items: &[Item], step: &Step) -> Result<Vec<u8>, Stop> {
        let mut wire = Vec::new();
        for item in items {
            for part in item.parts() {
                if let Part::Variable(name) = part
                    && self.values.get(name).is_none()
                {
                    return Err(fail(
                        step,
                        format!("{{{name}}} to be captured before"),
                        "no such name".into(),
                    ));
                }
            }
            match (word_of(item, &self.values), self.actors[actor].raw) {
                (Word::Data(bytes), true) => wire.extend(bytes),
                (word, _) => word.encode(&mut wire),
            }
        }
        Ok(wire)
    }

    fn say(&mut self, actor: usize, wire: &[u8], urgent: bool) {
        let send = self.sends.len();
        self.sends.push(wire.len());
        let (raw, peer) = (self.actors[actor].raw, self.actors[actor].peer);
        let shown = if raw { names::quoted(wire) } else { spoken(wire) };
        self.note(actor, &format!("says {shown}"));
        if urgent {
            return self.target.send_urgent(peer, wire);
        }
        for piece in self.options.cut.pieces(send, wire) {
            self.target.send(peer, piece);
        }
    }

    fn connected(
        &mut self,
        step: &Step,
        name: &str,
        raw: bool,
        peer: Result<PeerId, Trouble>,
    ) -> Result<(), Stop> {
        let peer = peer.map_err(|trouble| match trouble {
            Trouble::NotOffered(why) => Stop::NotOffered(why),
            Trouble::Failed(why) => fail(step, format!("a connection for {name}"), why),
        })?;
        self.actors.push(Actor {
            name: name.to_owned(),
            peer,
            raw,
            decoder: Decoder::default(),
            speech: VecDeque::new(),
            chatter: Vec::new(),
            ended: false,
            rules: Vec::new(),
            wire: Vec::new(),
        });
        self.note(self.actors.len() - 1, "connects");
        self.absorb(step)
    }

    /// The parser lets nobody act who has not connected.
    fn actor(&self, name: &str) -> usize {
        self.actors.iter().position(|actor| actor.name == name).unwrap_or_else(|| unreachable!("{name}"))
    }

    fn note(&mut self, actor: usize, what: &str) {
        let now = self.target.now();
        self.log.push(format!("{:8.3} {} {what}", now.as_secs_f64(), self.actors[actor].name));
    }
}

fn fail(step: &Step, expected: String, got: String) -> Stop {
    Stop::Failed(Failure { place: step.place.clone(), step: step.text.clone(), expected, got })
}
