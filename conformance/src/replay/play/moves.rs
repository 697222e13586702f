//! Where the two sides decide about a move, each in its way: secrets are the other concentrator's, and a VM
//! does what a host would do then.

use super::cue::Cue;
use super::{ANSWER, Player};
use crate::replay::dialogue::{Act, By, Step};
use crate::replay::moves::{HOST_WAITS, Meaning, Move, State};
use crate::telnet::Word;
use crate::telnet::names::{AUTHENTICATION, COM_PORT, DO, DONT, code};

impl Player<'_> {
    /// What the captured VM said, as it has to be said here; `None`: not at all.
    pub(super) fn translate(&mut self, n: usize, word: &Word) -> Option<Word> {
        let conn = self.script.steps[n].conn;
        if let Word::Sub(option @ (COM_PORT | AUTHENTICATION), _) = word
            && self.legs[conn].refused.contains(option)
        {
            self.differ(format!("our side refused what this needs, so it is not said: {word}"));
            return None;
        }
        match word.as_vmware() {
            Some((code::PEER, _)) => self.peer(n, word),
            Some((code::COMPLETE, _)) if self.legs[conn].not_moving => None,
            _ => Some(word.clone()),
        }
    }

    /// A PEER with the secret that our side issued.
    pub(super) fn peer(&mut self, n: usize, word: &Word) -> Option<Word> {
        let conn = self.script.steps[n].conn;
        let (captured, taken) = self.peers.get(&n).copied().unwrap_or((None, false));
        let Some(captured) = captured else {
            if taken {
                self.legs[conn].not_moving = true;
                self.differ(
                    "the move began before the capture: the target is played as a new connection".into(),
                );
                return None;
            }
            return Some(word.clone());
        };
        let answered = |player: &Self| player.our_move(captured).is_some_and(|m| m.state != State::Begun);
        self.wait_until(ANSWER, answered);
        match self.our_move(captured).and_then(|m| m.goahead.clone()) {
            Some(goahead) => Some(Word::vmware(code::PEER, &goahead)),
            None => {
                self.legs[conn].not_moving = true;
                self.differ("our side gave no GOAHEAD: the target is played as a new connection".into());
                None
            }
        }
    }

    fn our_move(&self, captured: usize) -> Option<&Move> {
        self.ours.get(&captured).and_then(|n| self.played.moves.moves.get(*n))
    }

    pub(super) fn answered(&mut self, conn: usize, word: Word) {
        if let Some(word) = Cue::of(&word) {
            self.legs[conn].heard.insert(word);
        }
        match &word {
            Word::Data(data) => {
                let console = self.console(conn);
                if let Some(typed) = console.and_then(|console| self.played.typed.get_mut(&console)) {
                    typed.arrive(data.len());
                }
            }
            Word::Negotiation(DONT, option) => drop(self.legs[conn].refused.insert(*option)),
            Word::Negotiation(DO, option) => drop(self.legs[conn].refused.remove(option)),
            _ => {}
        }
        let meaning = self.record(conn, Act::Say(By::Proxy, word));
        let (ours, said) = match meaning {
            Meaning::GoneAhead(n) => (n, State::GoneAhead),
            Meaning::Refused(n) => (n, State::Refused),
            Meaning::PeerOk(n) => (n, State::PeerOk),
            _ => return,
        };
        let Some((&captured, _)) = self.ours.iter().find(|(_, n)| **n == ours) else { return };
        let theirs = &self.script.moves.moves[captured];
        match (said, theirs.state, theirs.goahead.is_some()) {
            (State::GoneAhead, State::Refused, _) => {
                self.differ(
                    "the captured proxy said NOTNOW, our side GOAHEAD: the vm calls the move off".into(),
                );
                self.calls_off.push_back(conn);
            }
            (State::GoneAhead, _, false) if self.had_time(captured) => {
                self.differ("the captured proxy said nothing to VMOTION-BEGIN, our side GOAHEAD".into());
            }
            (State::Refused, _, true) => {
                self.differ("the captured proxy said GOAHEAD, our side NOTNOW".into());
            }
            (State::PeerOk, State::PeerSeen | State::Aborted | State::GivenUp, _) => {
                let target = theirs.target;
                let ok = |step: &Step| {
                    Some(step.conn) == target
                        && matches!(&step.act, Act::Say(By::Proxy, word)
                            if word.as_vmware().is_some_and(|(what, _)| what == code::PEER_OK))
                };
                if !self.script.steps.iter().any(ok) && self.had_time(captured) {
                    self.differ("the captured proxy said nothing to VMOTION-PEER, our side PEER-OK".into());
                }
            }
            _ => {}
        }
    }

    /// Whether the capture goes on long enough after a BEGIN to show an answer.
    fn had_time(&self, captured: usize) -> bool {
        let begun = self.script.moves.moves[captured].begun.0;
        self.script.steps.iter().any(|step| step.mark.time.saturating_sub(begun) > HOST_WAITS)
    }
}
