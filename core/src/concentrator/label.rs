//! What tells consoles apart, and what people call them.

use std::fmt;

use crate::vmware::Uuid;

use super::id::ConsoleId;

/// What tells consoles apart.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Identity {
    /// The VM's UUID.
    pub uuid: Uuid,
    /// The `_<uri>` suffix that tells ports of one VM apart; empty without multi-console.
    pub suffix: Box<str>,
    /// The name that tells a copy of a VM from the others with its UUID; empty for a VM that is the only one,
    /// or the first.
    pub clone: Box<str>,
}

impl Identity {
    /// A VM's only console, or its first.
    #[must_use]
    pub fn of(uuid: Uuid) -> Self {
        Self { uuid, suffix: Box::default(), clone: Box::default() }
    }
}

/// What people call a console.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Label {
    /// Its id inside the engine.
    pub id: ConsoleId,
    /// The VM's UUID.
    pub uuid: Uuid,
    /// The `_<uri>` suffix that tells ports of one VM apart; empty without multi-console.
    pub suffix: Box<str>,
    /// The name that tells a copy of a VM from the others with its UUID; empty where there are none.
    pub clone: Box<str>,
    /// The VM's name as it was last told, control characters replaced; empty until it is known.
    pub name: String,
    /// Where clients connect, once that is open.
    pub port: Option<u16>,
    /// It is a stream of the agent's in that VM, and no serial port.
    pub of_guest: bool,
}

impl Label {
    /// The name, or what can stand for it where it is not known, for a person's screen: characters that show
    /// nothing or turn the line around (U+202E, U+2028) are escaped.
    #[must_use]
    pub fn title(&self) -> String {
        let title =
            if self.name.is_empty() { format!("{}{}", self.uuid, self.suffix) } else { self.name.clone() };
        let escaped = title.escape_debug().to_string();
        // Quotes and backslashes are as good as any other character here.
        escaped.replace(r#"\""#, "\"").replace(r"\'", "'").replace(r"\\", r"\")
    }

    /// A VM's name as this console shows it: with multi-console the suffix belongs to it, too, as vSPC.py
    /// shows it.
    pub(super) fn full_name(&self, name: &str) -> String {
        let mut name = format!("{name}{}", self.suffix);
        name.shrink_to_fit();
        name
    }

    /// Whether this console has that identity.
    #[must_use]
    pub fn is(&self, identity: &Identity) -> bool {
        self.uuid == identity.uuid && self.suffix == identity.suffix && self.clone == identity.clone
    }

    /// What tells this console apart.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity { uuid: self.uuid, suffix: self.suffix.clone(), clone: self.clone.clone() }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "vm={} uuid={}", Quoted(&self.name), self.uuid)?;
        if !self.suffix.is_empty() {
            write!(f, " suffix={}", Quoted(&self.suffix))?;
        }
        match self.port {
            Some(port) => write!(f, " port={port}"),
            None => Ok(()),
        }
    }
}

/// What a peer calls something, as a log shows it: in quotes, escaped, and cut where that gets long. A name
/// of nothing but characters that have to be escaped makes no long line.
#[derive(Clone, Copy, Debug)]
pub struct Quoted<'a>(pub &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut length = 0;
        let cut = self.0.char_indices().find(|(_, c)| {
            length += c.escape_debug().count();
            length > QUOTED_LIMIT
        });
        match cut {
            Some((at, _)) => write!(f, "{:?}", format!("{}\u{2026}", &self.0[..at])),
            None => write!(f, "{:?}", self.0),
        }
    }
}

/// Characters of a quotation, escapes counted: what vCenter allows three times over.
const QUOTED_LIMIT: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn label(name: &str, suffix: &str) -> Label {
        Label {
            id: ConsoleId { index: 0, generation: 1 },
            uuid: Uuid::from_bytes([1; 16]),
            suffix: suffix.into(),
            clone: Box::default(),
            name: name.into(),
            port: Some(50000),
            of_guest: false,
        }
    }

    #[test]
    fn characters_that_show_nothing_or_turn_lines_around_are_escaped_and_no_others() {
        for (name, shown) in [
            ("web 01", "web 01"),
            ("w\u{e9}b e\u{301} \u{4e16}", "w\u{e9}b e\u{301} \u{4e16}"),
            (r#"a "b" 'c' \d"#, r#"a "b" 'c' \d"#),
            ("a\u{202e}b\u{2028}c\u{200b}\u{1b}", r"a\u{202e}b\u{2028}c\u{200b}\u{1b}"),
        ] {
            assert_eq!(label(name, "").title(), shown);
        }
        let line = label("a\u{202e}", "_com1 x=\u{2028}").to_string();
        let uuid = Uuid::from_bytes([1; 16]);
        assert_eq!(line, format!(r#"vm="a\u{{202e}}" uuid={uuid} suffix="_com1 x=\u{{2028}}" port=50000"#));
    }

    #[test]
    fn a_name_of_nothing_but_escapes_makes_no_long_line_and_a_name_that_fits_is_whole() {
        let long = "\u{10fffe}".repeat(128);
        let line = label(&long, &long).to_string();
        assert!(line.chars().count() < 2 * QUOTED_LIMIT + 100, "{line}");
        assert_eq!(line.matches("\u{2026}\"").count(), 2, "it shows that there was more: {line}");
        let fits = "w\u{e9}b".repeat(QUOTED_LIMIT / 3);
        assert_eq!(Quoted(&fits).to_string(), format!("{fits:?}"));
    }
}
