//! The index by which a VM finds its console.
//!
//! **Owns** the hash of identities, and which UUIDs are shared by copies of a VM. **Refuses to know** how
//! consoles are kept: whoever asks brings their table along, in which the identities themselves are.

use std::hash::BuildHasher;

use hashbrown::HashTable;

use crate::keyed::Keyed;

use super::console::Console;
use super::id::ConsoleId;
use super::label::{Identity, Label};
use super::namesakes::Namesakes;
use super::slab::Slab;

/// All consoles.
pub(super) type Table = Slab<ConsoleId, Console>;

/// Who is who.
#[derive(Debug)]
pub(super) struct Index {
    /// Hashed by identity; the identity itself is in the console's label.
    by_identity: HashTable<ConsoleId>,
    namesakes: Namesakes,
    keys: Keyed,
}

/// Where a VM belongs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Placed {
    /// In this console, which is its own as far as one can know.
    Same(ConsoleId),
    /// In this console, whose VM is here and is called otherwise: it is that VM under a new name, or another.
    Other(ConsoleId),
    /// In a console of its own, which is not there yet.
    New(Identity),
    /// That depends on its name.
    Unclear,
}

impl Index {
    pub(super) fn new(keys: Keyed) -> Self {
        Self { by_identity: HashTable::new(), namesakes: Namesakes::new(keys), keys }
    }

    /// A number that stands for an identity, also when its console was forgotten and comes again.
    pub(super) fn number(&self, identity: &Identity) -> u64 {
        self.keys.hash_one(identity)
    }

    /// A console was opened, which is in the table. There must have been none of its identity.
    pub(super) fn add(&mut self, table: &Table, id: ConsoleId) {
        let Some(console) = table.get(id) else { return };
        let identity = console.label.identity();
        let is_clone = !identity.clone.is_empty();
        let first = first_of(&console.label);
        let first_id = if is_clone { self.find(table, &first) } else { None };
        let keys = self.keys;
        self.by_identity.insert_unique(keys.hash_one(&identity), id, |&id| {
            table.get(id).map_or(0, |console| keys.hash_one(console.label.identity()))
        });
        if is_clone {
            self.namesakes.share(&first, first_id);
        }
        self.namesakes.add(&first, id);
    }

    /// A console of this label is forgotten.
    pub(super) fn remove(&mut self, label: &Label) {
        let hashed = self.number(&label.identity());
        if let Ok(entry) = self.by_identity.find_entry(hashed, |&entry| entry == label.id) {
            entry.remove();
        }
        self.namesakes.remove(&first_of(label), label.id);
    }

    /// The console of this identity.
    pub(super) fn find(&self, table: &Table, identity: &Identity) -> Option<ConsoleId> {
        let is_it = |&id: &ConsoleId| table.get(id).is_some_and(|console| console.label.is(identity));
        self.by_identity.find(self.number(identity), is_it).copied()
    }

    /// Two names were live on this console's UUID and URI: from now on a name is part of who is who.
    pub(super) fn share(&mut self, label: &Label) {
        self.namesakes.share(&first_of(label), Some(label.id));
    }

    /// Whether VMs of several names have this console's UUID and URI.
    pub(super) fn is_shared(&self, label: &Label) -> bool {
        self.namesakes.of(&first_of(label)).is_some()
    }

    /// Whether this console is the one that its UUID and URI alone mean.
    pub(super) fn is_first(&self, table: &Table, label: &Label) -> bool {
        label.clone.is_empty() || self.first(table, &first_of(label)) == Some(label.id)
    }

    /// The console that a UUID and a URI alone mean: the first of those there are.
    fn first(&self, table: &Table, first: &Identity) -> Option<ConsoleId> {
        self.find(table, first).or_else(|| self.namesakes.of(first)?.first().copied())
    }

    /// Where a VM belongs that has this UUID and URI, and this name if that is known.
    pub(super) fn place(&self, table: &Table, first: &Identity, name: Option<&str>) -> Placed {
        let is_shared = self.namesakes.of(first).is_some();
        let is_free = |id: ConsoleId| table.get(id).is_none_or(|console| !console.legs.has_holder());
        if let Some(id) = name.and_then(|name| self.named(table, first, name)) {
            return Placed::Same(id);
        }
        match (name, self.first(table, first)) {
            (Some(name), _) if is_shared => {
                self.place_clone(table, &Identity { clone: name.into(), ..first.clone() })
            }
            (_, None) => Placed::New(first.clone()),
            (None, Some(_)) if is_shared => Placed::Unclear,
            (_, Some(id)) if is_free(id) => Placed::Same(id),
            (None, Some(_)) => Placed::Unclear,
            (Some(_), Some(id)) if table.get(id).is_some_and(|console| console.label.name.is_empty()) => {
                Placed::Same(id)
            }
            (Some(_), Some(id)) => Placed::Other(id),
        }
    }

    /// Where it belongs if it does not tell its name.
    pub(super) fn place_without_name(&self, table: &Table, first: &Identity) -> Placed {
        self.first(table, first).map_or_else(|| Placed::New(first.clone()), Placed::Same)
    }

    /// Where a VM belongs that has this name and is known not to be the one of its UUID and URI that was here
    /// before.
    pub(super) fn place_apart(&self, table: &Table, from: &Label, name: &str) -> Placed {
        let first = first_of(from);
        match self.named(table, &first, name).filter(|&id| id != from.id) {
            Some(id) => Placed::Same(id),
            None => self.place_clone(table, &Identity { clone: name.into(), ..first }),
        }
    }

    /// The console of a copy of this name. One that was opened for that name may be called otherwise by now:
    /// then the name gets a number.
    fn place_clone(&self, table: &Table, identity: &Identity) -> Placed {
        let mut numbered = identity.clone();
        let mut number = 1;
        while let Some(id) = self.find(table, &numbered) {
            if table.get(id).is_some_and(|console| !console.legs.has_holder()) {
                return Placed::Same(id);
            }
            number += 1;
            numbered.clone = format!("{} ({number})", identity.clone).into();
        }
        Placed::New(numbered)
    }

    /// The console of this UUID, URI and name.
    fn named(&self, table: &Table, first: &Identity, name: &str) -> Option<ConsoleId> {
        let is_it = |id: &ConsoleId| {
            let label = table.get(*id).map(|console| &console.label);
            label.is_some_and(|label| label.name.strip_suffix(&*label.suffix) == Some(name))
        };
        let likely =
            [self.find(table, first), self.find(table, &Identity { clone: name.into(), ..first.clone() })];
        likely.into_iter().flatten().find(is_it).or_else(|| {
            let namesakes = self.namesakes.of(first)?;
            namesakes.iter().take(NAMESAKES_SEARCHED).copied().find(is_it)
        })
    }

    /// How many consoles are in it.
    #[cfg(any(debug_assertions, test))]
    pub(super) fn len(&self) -> usize {
        self.by_identity.len()
    }
}

/// The identity that a console's UUID and URI alone mean.
fn first_of(label: &Label) -> Identity {
    Identity { clone: Box::default(), ..label.identity() }
}

/// Consoles of one UUID and URI that are looked through for one that was renamed since it was opened. With
/// more copies than that, one of those not looked at gets a new console.
const NAMESAKES_SEARCHED: usize = 256;
