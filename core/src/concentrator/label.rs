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
}

/// What people call a console.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Label {
    /// Its id inside the engine.
    pub id: ConsoleId,
    /// The VM's UUID.
    pub uuid: Uuid,
    /// The `_<uri>` suffix that tells ports of one VM apart; empty without multi-console.
    pub suffix: String,
    /// The VM's name as it was last told, control characters replaced; empty until it is known.
    pub name: String,
    /// Where clients connect, once that is open.
    pub port: Option<u16>,
}

impl Label {
    /// The name, or what can stand for it where it is not known.
    #[must_use]
    pub fn title(&self) -> String {
        if self.name.is_empty() { format!("{}{}", self.uuid, self.suffix) } else { self.name.clone() }
    }

    /// Whether this console has that identity.
    #[must_use]
    pub fn is(&self, identity: &Identity) -> bool {
        self.uuid == identity.uuid && *self.suffix == *identity.suffix
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "vm={:?} uuid={}{}", self.name, self.uuid, self.suffix)?;
        match self.port {
            Some(port) => write!(f, " port={port}"),
            None => Ok(()),
        }
    }
}
