//! UUIDs that several VMs have: copies of one VM that kept it.
//!
//! **Owns** which UUIDs (with their URIs) are shared, and the consoles of each in the order in which they
//! came. **Refuses to know** what a console is called: a UUID is not in here before two names were live on
//! it.

use std::collections::HashMap;

use super::id::ConsoleId;
use super::label::Identity;
use crate::keyed::Keyed;

/// Under a UUID's first identity (without a clone's name), the consoles of all VMs that have it.
#[derive(Debug)]
pub(super) struct Namesakes(HashMap<Identity, Vec<ConsoleId>, Keyed>);

impl Namesakes {
    pub(super) fn new(keys: Keyed) -> Self {
        Self(HashMap::with_hasher(keys))
    }

    /// The consoles of a UUID that is shared, the first first; `None`: it is not.
    pub(super) fn of(&self, first: &Identity) -> Option<&[ConsoleId]> {
        self.0.get(first).map(Vec::as_slice)
    }

    /// This UUID is shared from now on; `has` is the console that has it already.
    pub(super) fn share(&mut self, first: &Identity, has: Option<ConsoleId>) {
        if !self.0.contains_key(first) {
            self.0.insert(first.clone(), has.into_iter().collect());
        }
    }

    /// A console was opened; nothing where its UUID is not shared.
    pub(super) fn add(&mut self, first: &Identity, id: ConsoleId) {
        if let Some(consoles) = self.0.get_mut(first) {
            consoles.push(id);
        }
    }

    /// A console is forgotten, and with the last of them that its UUID was shared. Costs a look at each of
    /// them.
    pub(super) fn remove(&mut self, first: &Identity, id: ConsoleId) {
        let Some(consoles) = self.0.get_mut(first) else { return };
        consoles.retain(|&other| other != id);
        if consoles.is_empty() {
            self.0.remove(first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vmware::Uuid;

    #[test]
    fn a_uuid_is_shared_from_its_second_vm_to_the_end_of_its_last_console() {
        let first = Identity::of(Uuid::from_bytes([1; 16]));
        let id = |index| ConsoleId { index, generation: 1 };
        let mut namesakes = Namesakes::new(Keyed(1, 2));
        namesakes.add(&first, id(1));
        assert_eq!(namesakes.of(&first), None);
        namesakes.share(&first, Some(id(1)));
        namesakes.add(&first, id(2));
        namesakes.share(&first, Some(id(1)));
        assert_eq!(namesakes.of(&first), Some(&[id(1), id(2)][..]));
        namesakes.remove(&first, id(1));
        assert_eq!(namesakes.of(&first), Some(&[id(2)][..]));
        namesakes.remove(&first, id(2));
        assert_eq!(namesakes.of(&first), None);
    }
}
