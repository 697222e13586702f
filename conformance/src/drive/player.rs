//! What the words of a transcript mean. The player owns the actors, what each has heard, and the verdict;
//! it refuses to know how bytes travel.
//!
//! An actor that speaks telnet hears two kinds of words. *Speech* is data, BRK, the three answers to a move
//! (41, 43, 45) and broken telnet: it is kept in order, all of it must be expected, and what comes instead
//! of the expected is a failure at once. *Chatter* is everything else, negotiation above all: it may come
//! at any time and in any order, may be expected or not, and waits until it is. A raw actor hears bytes, and
//! all of them are speech.

use super::{Arrival, PeerId, Target, Trouble, Values};
use crate::telnet::names::{self, code};
use crate::telnet::{Decoder, Word, sentence};
use crate::transcript::{Action, Expect, Item, Part, Place, SETTLED, Step, Transcript, Unless};
use std::collections::VecDeque;
use std::time::Duration;

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

/// More answers by rule than any dialogue needs: two peers that answer each other for ever are a loop.
const MOST_ANSWERS: usize = 500;

/// How often an actor says again what nobody has heard yet.
const AGAIN: Duration = Duration::from_millis(200);

struct Actor {
    name: String,
    peer: PeerId,
    raw: bool,
    decoder: Decoder,
    /// What must be expected, in order. Data is kept byte by byte: expectations cut it as they like.
    speech: VecDeque<Spoken>,
    /// What may be expected, and whether a rule has answered it.
    chatter: Vec<(Word, bool)>,
    ended: bool,
    rules: Vec<Rule>,
    wire: Vec<u8>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Spoken {
    Byte(u8),
    Word(Word),
}

struct Rule {
    once: bool,
    spent: bool,
    to: Item,
    with: Vec<Item>,
}

enum Stop {
    Failed(Failure),
    NotOffered(String),
}

/// What a look at what was heard says about one expectation.
enum Found {
    /// There it is; it was taken out.
    Yes,
    /// Not yet.
    NotYet,
    /// It cannot come any more: something else stands in its place.
    Never,
}

type Captures = Vec<(String, Vec<u8>)>;

/// Speech, as opposed to chatter: see the head of this file.
fn is_speech(word: &Word) -> bool {
    match word {
        Word::Data(_) | Word::Fault(_) | Word::Command(names::BRK) => true,
        Word::Sub(names::VMWARE, payload) => {
            matches!(payload.first(), Some(&(code::GOAHEAD | code::NOTNOW | code::PEER_OK)))
        }
        _ => false,
    }
}

fn expects_speech(item: &Item) -> bool {
    match item {
        Item::Data(_) | Item::Wire(_) | Item::Command(names::BRK) => true,
        Item::Sub(names::VMWARE, parts) => {
            let first = match parts.first() {
                Some(Part::Bytes(bytes)) => bytes.first().copied(),
                _ => None,
            };
            matches!(first, Some(code::GOAHEAD | code::NOTNOW | code::PEER_OK))
        }
        _ => false,
    }
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

    /// Expects `word`, which the server need not say: then the transcript is not for it.
    fn unless(
        &mut self,
        step: &Step,
        actor: usize,
        word: &[Item],
        within: Duration,
        unless: &Unless,
    ) -> Result<(), Stop> {
        let mut instead = None;
        let deadline = self.target.now() + within;
        let heard = self.until(step, actor, deadline, |player| match (player.find(actor, word), unless) {
            (Found::Never | Found::NotYet, Unless::Words(words))
                if matches!(player.find(actor, words), Found::Yes) =>
            {
                instead = Some(show(std::slice::from_ref(words), &player.values));
                Found::Never
            }
            (found, _) => found,
        });
        let expected = show(&[word.to_vec()], &self.values);
        match (heard, instead) {
            (Err(Stop::Failed(_)), Some(instead)) => {
                Err(Stop::NotOffered(format!("the server says {instead} instead of {expected}")))
            }
            (Err(Stop::Failed(_)), _)
                if *unless == Unless::Nothing && !self.actors[actor].ended && !self.actors[actor].stuck() =>
            {
                Err(Stop::NotOffered(format!("the server never says {expected}")))
            }
            (Err(Stop::Failed(_)), _) if *unless == Unless::Closed && self.actors[actor].ended => {
                Err(Stop::NotOffered(format!("the server ends the connection instead of saying {expected}")))
            }
            (heard, _) => heard,
        }
    }

    /// Says `item` every [`AGAIN`], until `hearer` has heard it. What comes before it is not looked at.
    fn repeat(&mut self, step: &Step, actor: usize, item: &Item, hearer: usize) -> Result<(), Stop> {
        let wire = self.encode(actor, std::slice::from_ref(item), step)?;
        let begun = self.target.now();
        let deadline = begun + self.options.patience * self.options.slack;
        while self.target.now() < deadline && !self.actors[hearer].ended {
            self.say(actor, &wire, false);
            self.absorb(step)?;
            let next = (self.target.now() + AGAIN).min(deadline);
            loop {
                loop {
                    match self.find(hearer, std::slice::from_ref(item)) {
                        Found::Yes => return Ok(()),
                        Found::Never => drop(self.actors[hearer].speech.pop_front()),
                        Found::NotYet => break,
                    }
                }
                if self.actors[hearer].ended || !self.more(step, next)? {
                    break;
                }
            }
        }
        let after = self.target.now().saturating_sub(begun);
        Err(match self.disappointed(step, hearer, Some(after)) {
            Stop::Failed(failure) => {
                let shown = show(&[vec![item.clone()]], &self.values);
                let expected = format!("{} to hear {shown}", self.actors[hearer].name);
                Stop::Failed(Failure { expected, ..failure })
            }
            stop @ Stop::NotOffered(_) => stop,
        })
    }

    fn expect(&mut self, step: &Step, actor: usize, what: &Expect, within: Duration) -> Result<(), Stop> {
        let deadline = self.target.now() + within;
        match what {
            Expect::Words(items) => items.iter().try_for_each(|item| self.hear(step, actor, item, deadline)),
            Expect::AnyOrder(items) => {
                let mut left: Vec<&Vec<Item>> = items.iter().collect();
                self.until(step, actor, deadline, |player| {
                    while let Some(index) =
                        left.iter().position(|item| matches!(player.find(actor, item), Found::Yes))
                    {
                        left.remove(index);
                    }
                    let stuck = !left.is_empty()
                        && player.actors[actor].stuck()
                        && left.iter().all(|item| matches!(player.find(actor, item), Found::Never));
                    match (left.is_empty(), stuck) {
                        (true, _) => Found::Yes,
                        (_, true) => Found::Never,
                        _ => Found::NotYet,
                    }
                })
            }
            Expect::Until(items) => {
                let (first, rest) =
                    items.split_first().unwrap_or_else(|| unreachable!("parsed as non-empty"));
                self.until(step, actor, deadline, |player| {
                    loop {
                        match player.find(actor, first) {
                            Found::Never => drop(player.actors[actor].speech.pop_front()),
                            found => break found,
                        }
                    }
                })?;
                rest.iter().try_for_each(|item| self.hear(step, actor, item, deadline))
            }
            Expect::UntilClosed => self.until(step, actor, deadline, |player| {
                player.actors[actor].speech.clear();
                if player.actors[actor].ended { Found::Yes } else { Found::NotYet }
            }),
            Expect::Text => {
                self.until(step, actor, deadline, |player| match player.actors[actor].speech.front() {
                    Some(Spoken::Byte(_)) => Found::Yes,
                    Some(Spoken::Word(_)) => Found::Never,
                    None => Found::NotYet,
                })?;
                self.settle(actor, step)?;
                let speech = &mut self.actors[actor].speech;
                while matches!(speech.front(), Some(Spoken::Byte(_))) {
                    speech.pop_front();
                }
                Ok(())
            }
            Expect::Closed => self.until(step, actor, deadline, |player| {
                let actor = &player.actors[actor];
                match (actor.speech.is_empty(), actor.ended) {
                    (false, _) => Found::Never,
                    (true, true) => Found::Yes,
                    (true, false) => Found::NotYet,
                }
            }),
            Expect::Open(time) => self.lasts(step, actor, *time, |actor| !actor.ended),
            Expect::Nothing(time) => {
                self.lasts(step, actor, *time, |actor| actor.speech.is_empty() && !actor.ended)
            }
            // Words that came before and were neither expected nor answered count, too: they may have come
            // a moment before this step only because nothing takes time in memory.
            Expect::Silence(time) => self.lasts(step, actor, *time, |actor| {
                let heard = |(word, answered): &(Word, bool)| !answered && *word != Word::Command(names::NOP);
                actor.speech.is_empty() && !actor.ended && !actor.chatter.iter().any(heard)
            }),
            Expect::No(items, time) => {
                let end = self.target.now() + *time;
                loop {
                    let heard = self.actors[actor].everything();
                    for item in items {
                        if let Some(word) = heard.iter().find(|word| self.matches(item, word).is_some()) {
                            let expected = format!("no {}", show(&[vec![item.clone()]], &self.values));
                            return Err(fail(step, expected, word.to_string()));
                        }
                    }
                    if !self.more(step, end)? {
                        return Ok(());
                    }
                }
            }
        }
    }

    fn hear(&mut self, step: &Step, actor: usize, item: &[Item], deadline: Duration) -> Result<(), Stop> {
        let shown = show(&[item.to_vec()], &self.values);
        self.until(step, actor, deadline, |player| player.find(actor, item)).map_err(|stop| match stop {
            Stop::Failed(failure) => Stop::Failed(Failure { expected: shown, ..failure }),
            stop @ Stop::NotOffered(_) => stop,
        })
    }

    /// Asks `look` again whenever something was heard, until it says yes or never.
    fn until(
        &mut self,
        step: &Step,
        actor: usize,
        deadline: Duration,
        mut look: impl FnMut(&mut Self) -> Found,
    ) -> Result<(), Stop> {
        let begun = self.target.now();
        self.absorb(step)?;
        loop {
            let late = match look(self) {
                Found::Yes => return Ok(()),
                Found::Never => return Err(self.disappointed(step, actor, None)),
                // A connection that ended says no more, but others may still have to speak first.
                Found::NotYet if self.actors[actor].ended => true,
                Found::NotYet => !self.more(step, deadline)?,
            };
            if late {
                let after = self.target.now().saturating_sub(begun);
                return Err(self.disappointed(step, actor, Some(after)));
            }
        }
    }

    fn disappointed(&self, step: &Step, actor: usize, after: Option<Duration>) -> Stop {
        let expected = match &step.action {
            Action::Expect { what: Expect::Words(items) | Expect::Until(items), .. } => {
                show(items, &self.values)
            }
            Action::Expect { what: Expect::AnyOrder(items), .. } => {
                format!("in any order {}", show(items, &self.values))
            }
            Action::Expect { what: Expect::Closed | Expect::UntilClosed, .. } => {
                "the end of the connection".to_owned()
            }
            Action::Expect { what: Expect::Text, .. } => "some text".to_owned(),
            _ => step.text.clone(),
        };
        let actor = &self.actors[actor];
        let mut got = actor.unexpected();
        if actor.ended {
            got.push_str(", then the end of the connection");
        } else if let Some(after) = after {
            got.push_str(&format!(" within {:.1} s", after.as_secs_f64()));
        }
        fail(step, expected, got)
    }

    /// `so` must hold from now on for `time`.
    fn lasts(
        &mut self,
        step: &Step,
        actor: usize,
        time: Duration,
        so: impl Fn(&Actor) -> bool,
    ) -> Result<(), Stop> {
        let end = self.target.now() + time;
        loop {
            if !so(&self.actors[actor]) {
                let actor = &self.actors[actor];
                let mut got = actor.unexpected();
                if let (true, Some(word)) =
                    (actor.speech.is_empty(), actor.chatter.last().map(|(word, _)| word))
                {
                    got = word.to_string();
                }
                if actor.ended {
                    got.push_str(", then the end of the connection");
                }
                let what = match &step.action {
                    Action::Expect { what: Expect::Open(_), .. } => "the connection to stay open",
                    _ => "nothing",
                };
                return Err(fail(step, format!("{what} for {:.1} s", time.as_secs_f64()), got));
            }
            if !self.more(step, end)? {
                return Ok(());
            }
        }
    }

    /// Waits until nothing has come for a while.
    fn settle(&mut self, actor: usize, step: &Step) -> Result<(), Stop> {
        self.quiet(actor, step, SETTLED)
    }

    fn quiet(&mut self, actor: usize, step: &Step, time: Duration) -> Result<(), Stop> {
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

    fn pass(&mut self, step: &Step, time: Duration) -> Result<(), Stop> {
        let end = self.target.now() + time;
        while self.more(step, end)? {}
        Ok(())
    }

    /// Takes in what has arrived already.
    fn absorb(&mut self, step: &Step) -> Result<(), Stop> {
        let now = self.target.now();
        while self.more(step, now)? {}
        Ok(())
    }

    /// Waits for one arrival and takes it in; false when `until` comes first.
    fn more(&mut self, step: &Step, until: Duration) -> Result<bool, Stop> {
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

    fn heard(&mut self, step: &Step, actor: usize, bytes: &[u8]) -> Result<(), Stop> {
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
    fn obey(&mut self, actor: usize, word: &Word, index: usize, step: &Step) -> Result<bool, Stop> {
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

    fn keep(&mut self, captures: Captures) {
        for (name, value) in captures {
            self.values.set(&name, &value);
        }
    }

    /// Looks for one of the alternatives in `item` and takes it out of what was heard.
    fn find(&mut self, actor: usize, item: &[Item]) -> Found {
        let mut found = Found::Never;
        for alternative in item {
            let this = if self.actors[actor].raw || expects_speech(alternative) {
                self.find_speech(actor, alternative)
            } else {
                self.find_chatter(actor, alternative)
            };
            match this {
                Found::Yes => return Found::Yes,
                Found::NotYet => found = Found::NotYet,
                Found::Never => {}
            }
        }
        found
    }

    fn find_chatter(&mut self, actor: usize, item: &Item) -> Found {
        let hit = self.actors[actor]
            .chatter
            .iter()
            .enumerate()
            .find_map(|(index, (word, _))| self.matches(item, word).map(|captures| (index, captures)));
        match hit {
            Some((index, captures)) => {
                self.actors[actor].chatter.remove(index);
                self.keep(captures);
                Found::Yes
            }
            None => Found::NotYet,
        }
    }

    fn find_speech(&mut self, actor: usize, item: &Item) -> Found {
        let speech = &self.actors[actor].speech;
        let bytes = match (item, self.actors[actor].raw) {
            (Item::Data(_), _) => None,
            (_, true) => Some(self.bytes_of(item)),
            _ => {
                return match speech.front() {
                    None => Found::NotYet,
                    Some(Spoken::Byte(_)) => Found::Never,
                    Some(Spoken::Word(word)) => match self.matches(item, word) {
                        None => Found::Never,
                        Some(captures) => {
                            self.actors[actor].speech.pop_front();
                            self.keep(captures);
                            Found::Yes
                        }
                    },
                };
            }
        };
        let parts = match (item, &bytes) {
            (Item::Data(parts), _) => parts.clone(),
            (_, Some(bytes)) => vec![Part::Bytes(bytes.clone())],
            _ => return Found::Never,
        };
        // Data: a prefix of the bytes at the front.
        let mut heard = speech.iter().map(|spoken| match spoken {
            Spoken::Byte(byte) => Some(*byte),
            Spoken::Word(_) => None,
        });
        let (mut captures, mut taken) = (Captures::new(), 0);
        for part in &parts {
            let expected: Vec<Option<u8>> = match part {
                Part::Capture(_, count) => vec![None; count.unwrap_or(1)],
                known => self.known_bytes(known).into_iter().map(Some).collect(),
            };
            let mut seen = Vec::new();
            for expected in expected {
                match heard.next() {
                    None => return Found::NotYet,
                    Some(Some(byte)) if expected.is_none_or(|it| it == byte) => seen.push(byte),
                    Some(_) => return Found::Never,
                }
            }
            taken += seen.len();
            if let Part::Capture(name, _) = part {
                captures.push((name.clone(), seen));
            }
        }
        self.actors[actor].speech.drain(..taken);
        self.keep(captures);
        Found::Yes
    }

    /// What an item captures from `word`, if it fits.
    fn matches(&self, item: &Item, word: &Word) -> Option<Captures> {
        match (item, word) {
            (Item::Command(a), Word::Command(b)) => (a == b).then(Captures::new),
            (Item::Negotiation(a, x), Word::Negotiation(b, y)) => (a == b && x == y).then(Captures::new),
            (Item::Wire(a), Word::Fault(b)) => (a == b).then(Captures::new),
            (Item::Data(parts), Word::Data(bytes)) => self.fits(parts, bytes),
            (Item::Sub(a, parts), Word::Sub(b, payload)) if a == b => self.fits(parts, payload),
            _ => None,
        }
    }

    fn fits(&self, parts: &[Part], mut bytes: &[u8]) -> Option<Captures> {
        let mut captures = Captures::new();
        for part in parts {
            match part {
                Part::Rest => return Some(captures),
                Part::Capture(name, None) => {
                    captures.push((name.clone(), bytes.to_vec()));
                    return (!bytes.is_empty()).then_some(captures);
                }
                Part::Capture(name, Some(count)) => {
                    let (head, tail) = bytes.split_at_checked(*count)?;
                    captures.push((name.clone(), head.to_vec()));
                    bytes = tail;
                }
                known => bytes = bytes.strip_prefix(self.known_bytes(known).as_slice())?,
            }
        }
        bytes.is_empty().then_some(captures)
    }

    fn known_bytes(&self, part: &Part) -> Vec<u8> {
        known_bytes(part, &self.values)
    }

    fn bytes_of(&self, item: &Item) -> Vec<u8> {
        let mut wire = Vec::new();
        word_of(item, &self.values).encode(&mut wire);
        wire
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

impl Actor {
    /// Speech that nobody took yet, in words.
    fn spoken(&self) -> Vec<Word> {
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

    fn everything(&self) -> Vec<Word> {
        let mut all = self.spoken();
        all.extend(self.chatter.iter().map(|(word, _)| word.clone()));
        all
    }

    /// Is there speech that waits to be taken?
    fn stuck(&self) -> bool {
        !self.speech.is_empty()
    }

    fn unexpected(&self) -> String {
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

impl Item {
    fn parts(&self) -> &[Part] {
        match self {
            Self::Data(parts) | Self::Sub(_, parts) => parts,
            _ => &[],
        }
    }
}

fn known_bytes(part: &Part, values: &Values) -> Vec<u8> {
    match part {
        Part::Bytes(bytes) => bytes.clone(),
        Part::Template(template, id) => values.template(*template, id),
        Part::Variable(name) => values.get(name).unwrap_or_default().to_vec(),
        Part::Capture(..) | Part::Rest => Vec::new(),
    }
}

fn word_of(item: &Item, values: &Values) -> Word {
    let all = |parts: &[Part]| parts.iter().flat_map(|part| known_bytes(part, values)).collect::<Vec<u8>>();
    match item {
        Item::Data(parts) => Word::Data(all(parts)),
        Item::Command(command) => Word::Command(*command),
        Item::Negotiation(verb, option) => Word::Negotiation(*verb, *option),
        Item::Sub(option, parts) => Word::Sub(*option, all(parts)),
        Item::Wire(bytes) => Word::Fault(bytes.clone()),
    }
}

/// Expected words as a person reads them: what is known filled in, what is not as it is written.
fn show(items: &[Vec<Item>], values: &Values) -> String {
    let one = |item: &Item| {
        let open: Vec<String> = item
            .parts()
            .iter()
            .filter_map(|part| match part {
                Part::Capture(name, Some(count)) => Some(format!("{{{name}:{count}}}")),
                Part::Capture(name, None) => Some(format!("{{{name}:*}}")),
                Part::Rest => Some("...".to_owned()),
                _ => None,
            })
            .collect();
        let word = word_of(item, values).to_string();
        match (word.strip_suffix(" SE"), open.is_empty()) {
            (Some(head), false) => format!("{head} {} SE", open.join(" ")),
            (None, false) => format!("{word} {}", open.join(" ")),
            _ => word,
        }
    };
    let alternatives = |item: &Vec<Item>| item.iter().map(one).collect::<Vec<_>>().join(" or ");
    items.iter().map(alternatives).collect::<Vec<_>>().join(", ")
}

fn spoken(wire: &[u8]) -> String {
    let mut decoder = Decoder::default();
    let mut words = decoder.read(wire);
    let unfinished = decoder.abandon();
    if !unfinished.is_empty() {
        words.push(Word::Fault(unfinished));
    }
    sentence(&words)
}

fn fail(step: &Step, expected: String, got: String) -> Stop {
    Stop::Failed(Failure { place: step.place.clone(), step: step.text.clone(), expected, got })
}
