//! Connections beyond what one console may have as legs, in the order in which they came, and what their VMs
//! are called.
//!
//! There may be as many as there are descriptors, and all may leave at one moment: every call costs the
//! logarithm of how many there are.

use std::collections::BTreeMap;

use super::id::ConnId;

#[derive(Debug, Default)]
pub(super) struct Aside {
    /// Of each its number, and what its VM is called if it has said so.
    members: BTreeMap<ConnId, (u64, Option<String>)>,
    by_number: BTreeMap<u64, ConnId>,
    next: u64,
}

impl Aside {
    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// It comes to the end. It is among them once.
    pub(super) fn push(&mut self, id: ConnId, name: Option<String>) {
        self.remove(id);
        self.members.insert(id, (self.next, name));
        self.by_number.insert(self.next, id);
        self.next += 1;
    }

    /// The VM of one of them says what it is called.
    pub(super) fn name(&mut self, id: ConnId, name: &str) {
        if let Some((_, its)) = self.members.get_mut(&id) {
            *its = Some(name.to_owned());
        }
    }

    /// It leaves, if it was among them.
    pub(super) fn remove(&mut self, id: ConnId) {
        if let Some((number, _)) = self.members.remove(&id) {
            self.by_number.remove(&number);
        }
    }

    /// Takes out the longest there.
    pub(super) fn take_first(&mut self) -> Option<(ConnId, Option<String>)> {
        let (_, id) = self.by_number.pop_first()?;
        self.members.remove(&id).map(|(_, name)| (id, name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_there_comes_first_with_its_name_and_nothing_is_left_of_who_has_gone() {
        let [a, b, c] = [7, 3, 5].map(|index| ConnId { index, generation: 1 });
        let mut aside = Aside::default();
        aside.push(a, None);
        aside.push(b, Some("b".into()));
        aside.push(c, None);
        aside.name(c, "c");
        aside.name(ConnId { index: 9, generation: 1 }, "nobody");
        aside.remove(a);
        assert_eq!(aside.take_first(), Some((b, Some("b".into()))));
        aside.push(a, None);
        assert_eq!(aside.take_first(), Some((c, Some("c".into()))));
        assert_eq!(aside.take_first(), Some((a, None)));
        assert_eq!(aside.take_first(), None);
        assert!(aside.is_empty() && aside.by_number.is_empty());
    }
}
