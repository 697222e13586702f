//! Who is told what happens: the programs and places that the options name.
//!
//! **Owns** which of them are new, and which are no more, when options change. **Refuses to know** how each
//! is told.

use std::fmt;

use crate::commands::Sender;
use crate::fatal::Fatal;
use crate::hooks;
use crate::options::Options;
use crate::outlets::{self, Destination, Ending, Tap};

/// One that is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Listener {
    /// A program is run.
    Program(hooks::Settings),
    /// A line is written.
    Place(Destination),
}

/// Says all about it.
impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Program(settings) => settings.fmt(f),
            Self::Place(destination) => destination.fmt(f),
        }
    }
}

impl Listener {
    /// Those that the options name.
    pub(crate) fn all(options: &Options) -> Vec<Self> {
        let programs = options.hooks.settings().map(Self::Program);
        programs.chain(options.outlets.events_to.iter().cloned().map(Self::Place)).collect()
    }

    /// Starts its thread.
    pub(crate) fn start(self, ending: &Ending, commands: &Sender) -> Result<Tap, Fatal> {
        match self {
            Self::Program(settings) => hooks::start(settings, ending, commands),
            Self::Place(destination) => outlets::start(&destination, ending, commands),
        }
    }
}

/// A change of who is told.
#[derive(Debug)]
pub(crate) struct Change {
    /// Those that are told from now on, new ones too.
    pub(crate) names: Vec<String>,
    pub(crate) new: Vec<Tap>,
}

impl Change {
    /// From these to those; `None`: nothing changes. Starts the threads of the new ones, which are
    /// told nothing yet.
    pub(crate) fn between(
        old: &Options,
        new: &Options,
        ending: &Ending,
        commands: &Sender,
    ) -> Result<Option<Self>, Fatal> {
        let (mut had, wanted) = (Listener::all(old), Listener::all(new));
        if had == wanted {
            return Ok(None);
        }
        let names = wanted.iter().map(ToString::to_string).collect();
        let mut taps = Vec::new();
        for listener in wanted {
            match had.iter().position(|old| *old == listener) {
                Some(place) => drop(had.swap_remove(place)),
                None => taps.push(listener.start(ending, commands)?),
            }
        }
        Ok(Some(Self { names, new: taps }))
    }
}
