//! The menu behind the escape character: its keys, and its help.
//!
//! Owns which key does what. Doing it is the attach's.

use super::escape::Escape;

/// What a key of the menu asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Action {
    Help,
    Quit,
    Break,
    Who,
    Status,
    Pager,
    Lock(&'static str),
    Bump,
    Stamps,
    Hex,
    Record,
    Stty,
    Suspend,
    /// Types the escape character itself.
    Escape,
}

impl Action {
    /// Whether it runs programs, or writes files, where this program runs.
    pub(crate) const fn touches_this_machine(self) -> bool {
        matches!(self, Self::Pager | Self::Record | Self::Suspend)
    }
}

const ENTRIES: [(u8, Action, &str); 16] = [
    (b'.', Action::Quit, "quit"),
    (b'?', Action::Help, "this help"),
    (b'b', Action::Break, "send a break"),
    (b's', Action::Status, "how things stand: the VM, the lock, times, bytes"),
    (b'w', Action::Who, "who is here"),
    (b'p', Action::Pager, "what was printed since the start, in $PAGER"),
    (b'l', Action::Lock("write"), "lock: nobody else types"),
    (b'x', Action::Lock("exclusive"), "lock: nobody else is here"),
    (b'u', Action::Lock("free-for-all"), "unlock: others may type as well"),
    (b'k', Action::Bump, "send everybody else away"),
    (b't', Action::Stamps, "time before each line: of day, since the start, since the last line, none"),
    (b'h', Action::Hex, "hexadecimal view"),
    (b'r', Action::Record, "record to a file, or stop it"),
    (b'y', Action::Stty, "type the stty command that tells the guest the size of this window"),
    (b'z', Action::Suspend, "suspend vspc"),
    (b'q', Action::Quit, "quit"),
];

/// What the key asks for, if anything.
pub(crate) fn action(key: u8, escape: Escape) -> Option<Action> {
    if escape.0 == Some(key) {
        return Some(Action::Escape);
    }
    ENTRIES.iter().find(|(of, ..)| *of == key).map(|(_, action, _)| *action)
}

/// The help, line by line.
pub(crate) fn help(escape: Escape) -> Vec<String> {
    let mut lines = vec![format!("after {escape}:")];
    // `q` is for those who try it.
    let shown = ENTRIES.iter().filter(|(key, ..)| *key != b'q');
    lines.extend(shown.map(|(key, _, what)| format!("  {}   {what}", char::from(*key))));
    lines.push(format!("  {escape}  type {escape} itself"));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_one_meaning_and_one_line_of_help() {
        let help = help(Escape::default());
        for (i, (key, action_of, what)) in ENTRIES.iter().enumerate() {
            assert!(ENTRIES[..i].iter().all(|(other, ..)| other != key), "{}", char::from(*key));
            assert_eq!(action(*key, Escape::default()), Some(*action_of));
            assert!(help.iter().any(|line| line.ends_with(what)), "{what}");
        }
        assert_eq!(action(0x1d, Escape::default()), Some(Action::Escape));
        assert_eq!(action(b'b', Escape(Some(b'b'))), Some(Action::Escape));
        assert_eq!(action(b'%', Escape::default()), None);
    }
}
