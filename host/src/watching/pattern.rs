//! What is looked for: a regular expression, as an automaton that reads each byte once.
//!
//! **Owns** its size, which is bounded when it is built, and how it is gone through piece by piece: a state
//! is four bytes, and no text is kept for it. **Refuses to know** where text comes from.

use std::fmt;
use std::sync::Arc;

use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::nfa::thompson;
use regex_automata::util::primitives::StateID;
use regex_automata::util::{start, syntax};
use regex_automata::{Anchored, MatchKind};

/// A regular expression. Two of the same text are the same.
#[derive(Clone)]
pub(crate) struct Pattern {
    text: String,
    automaton: Arc<dense::DFA<Vec<u32>>>,
    start: StateID,
}

/// How far a line has been gone through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Progress {
    /// It has not matched yet.
    At(StateID),
    /// It cannot match any more.
    Dead,
    /// It has matched.
    Seen,
}

impl Pattern {
    /// Reads an expression. What it cannot be is said in words for a person.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        // Consoles print bytes: classes like \w and \b are of ASCII, and what is not is taken as its bytes.
        let syntax = syntax::Config::new().unicode(false).utf8(false);
        if let Err(error) = syntax::parse_with(text, &syntax) {
            let words = error.to_string();
            let why = words.rsplit("error: ").next().unwrap_or(&words);
            return Err(format!("cannot be read: {}", why.split_whitespace().collect::<Vec<_>>().join(" ")));
        }
        let config = dense::Config::new()
            .start_kind(StartKind::Unanchored)
            .match_kind(MatchKind::LeftmostFirst)
            .accelerate(false)
            .dfa_size_limit(Some(LARGEST))
            .determinize_size_limit(Some(8 * LARGEST));
        let nfa = thompson::Config::new().utf8(false).nfa_size_limit(Some(LARGEST));
        let built = dense::Builder::new().configure(config).syntax(syntax).thompson(nfa).build(text);
        let automaton = built.map_err(|_| {
            format!("is too much to look for: its automaton would take more than {} KiB", LARGEST >> 10)
        })?;
        let start = automaton
            .start_state(&start::Config::new().anchored(Anchored::No))
            .map_err(|error| error.to_string())?;
        let pattern = Self { text: text.to_owned(), automaton: Arc::new(automaton), start };
        match pattern.would_end(start) {
            true => Err("matches nothing at all, and so every line: leave out what may be empty".to_owned()),
            false => Ok(pattern),
        }
    }

    /// The beginning of a line.
    pub(super) fn begin(&self) -> Progress {
        Progress::At(self.start)
    }

    /// Goes on through a piece of a line. Costs a step for each byte.
    pub(super) fn go_on(&self, progress: Progress, piece: &[u8]) -> Progress {
        let Progress::At(mut state) = progress else { return progress };
        for &byte in piece {
            state = self.automaton.next_state(state, byte);
            if self.automaton.is_special_state(state) {
                if self.automaton.is_match_state(state) {
                    return Progress::Seen;
                }
                if self.automaton.is_dead_state(state) || self.automaton.is_quit_state(state) {
                    return Progress::Dead;
                }
            }
        }
        Progress::At(state)
    }

    /// Whether a line that ends here has matched.
    pub(super) fn is_seen(&self, progress: Progress) -> bool {
        match progress {
            Progress::At(state) => self.would_end(state),
            Progress::Dead => false,
            Progress::Seen => true,
        }
    }

    fn would_end(&self, state: StateID) -> bool {
        self.automaton.is_match_state(self.automaton.next_eoi_state(state))
    }

    /// As it was written.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({:?})", self.text)
    }
}

/// The largest automaton in bytes. Words and alternatives take some kilobytes; what takes more than this has
/// repetitions of repetitions.
const LARGEST: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a line matches, whatever pieces it comes in.
    fn is_in(pattern: &str, line: &str) -> bool {
        let pattern = Pattern::parse(pattern).unwrap();
        let whole = pattern.is_seen(pattern.go_on(pattern.begin(), line.as_bytes()));
        for cut in 0..=line.len() {
            let (first, second) = line.as_bytes().split_at(cut);
            let progress = pattern.go_on(pattern.go_on(pattern.begin(), first), second);
            assert_eq!(pattern.is_seen(progress), whole, "{line} cut at {cut}");
        }
        whole
    }

    #[test]
    fn a_line_matches_however_it_is_cut() {
        for (pattern, line, is_there) in [
            ("Kernel panic", "[ 1.0] Kernel panic - not syncing", true),
            ("Kernel panic", "Kernel  panic", false),
            ("^login: $", "login: ", true),
            ("^login: $", "login: root", false),
            ("^login:", "web1 login:", false),
            ("(?i)oops|BUG:", "bug: soft lockup", true),
            (r"\berror\b", "terror error.", true),
            (r"\berror\b", "terrors", false),
            (r"\d{3} blocks", "1234 blocks", true),
            ("Gr\u{fc}\u{df}e", "viele Gr\u{fc}\u{df}e", true),
            ("a.c", "a\u{e9}c", false),
            (r"out of memory.*\(java\)", "out of memory: killed process 7 (java)", true),
        ] {
            assert_eq!(is_in(pattern, line), is_there, "{pattern} in {line}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused_in_words() {
        for (text, words) in [
            ("(", "unclosed group"),
            ("*", "repetition operator missing expression"),
            ("a*", "every line"),
            ("", "every line"),
            ("$", "every line"),
            (r"(?:[ab]{1,500}c){400}", "too much"),
            (r"[ab]*a[ab]{40}x", "too much"),
        ] {
            let why = Pattern::parse(text).unwrap_err();
            assert!(why.contains(words) && !why.contains('\n'), "{text}: {why}");
        }
    }
}
