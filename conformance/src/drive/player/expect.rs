//! What it takes for an expectation to come true, and the words for one that does not.

use std::time::Duration;

use super::find::Found;
use super::words::show;
use super::{Actor, Failure, Player, Spoken, Stop, fail};
use crate::telnet::Word;
use crate::telnet::names;
use crate::transcript::{Action, Expect, Item, Step, Unless};

impl Player<'_> {
    pub(super) fn expect(
        &mut self,
        step: &Step,
        actor: usize,
        what: &Expect,
        within: Duration,
    ) -> Result<(), Stop> {
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

    pub(super) fn hear(
        &mut self,
        step: &Step,
        actor: usize,
        item: &[Item],
        deadline: Duration,
    ) -> Result<(), Stop> {
        let shown = show(&[item.to_vec()], &self.values);
        self.until(step, actor, deadline, |player| player.find(actor, item)).map_err(|stop| match stop {
            Stop::Failed(failure) => Stop::Failed(Failure { expected: shown, ..failure }),
            stop @ Stop::NotOffered(_) => stop,
        })
    }

    /// Asks `look` again whenever something was heard, until it says yes or never.
    pub(super) fn until(
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

    /// Expects `word`, which the server need not say: then the transcript is not for it.
    pub(super) fn unless(
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
    pub(super) fn repeat(
        &mut self,
        step: &Step,
        actor: usize,
        item: &Item,
        hearer: usize,
    ) -> Result<(), Stop> {
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
}

/// How often an actor says again what nobody has heard yet.
const AGAIN: Duration = Duration::from_millis(200);
