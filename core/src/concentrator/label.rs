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
        write!(f, "vm={:?} uuid={}{}", self.name, self.uuid, self.suffix)?;
        match self.port {
            Some(port) => write!(f, " port={port}"),
            None => Ok(()),
        }
    }
}
