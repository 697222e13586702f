//! Slots with generations: what every id of the engine points into.
//!
//! A freed slot is used again with the next generation, so a stale id finds nothing. Lookups cost one
//! index and one compare. Values are boxed: a slot is 16 bytes, and a table that grows in a storm copies
//! no more than that.

use std::marker::PhantomData;

use super::id::{ConnId, ConsoleId, ListenerId, MoveId};

/// An id that names a slot.
pub(super) trait Key: Copy {
    fn new(index: u32, generation: u32) -> Self;
    fn index(self) -> u32;
    fn generation(self) -> u32;
}

macro_rules! key {
    ($($id:ty),*) => {$(
        impl Key for $id {
            fn new(index: u32, generation: u32) -> Self {
                Self { index, generation }
            }
            fn index(self) -> u32 {
                self.index
            }
            fn generation(self) -> u32 {
                self.generation
            }
        }
    )*};
}

key!(ConnId, ConsoleId, ListenerId, MoveId);

/// Values of one kind under ids of one kind.
#[derive(Debug)]
pub(super) struct Slab<K, T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    key: PhantomData<K>,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<Box<T>>,
}

/// Generations stay below this, so that the top bit of an id's word is the runtime's.
const GENERATIONS: u32 = 1 << 31;

impl<K: Key, T> Slab<K, T> {
    pub(super) fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), key: PhantomData }
    }

    /// How many values are in.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn insert(&mut self, value: T) -> K {
        if let Some(index) = self.free.pop() {
            let slot = &mut self.slots[index as usize];
            slot.value = Some(Box::new(value));
            return K::new(index, slot.generation);
        }
        let index = u32::try_from(self.slots.len()).expect("fewer than 2^32 connections");
        self.slots.push(Slot { generation: 1, value: Some(Box::new(value)) });
        K::new(index, 1)
    }

    pub(super) fn remove(&mut self, id: K) -> Option<T> {
        let slot =
            self.slots.get_mut(id.index() as usize).filter(|slot| slot.generation == id.generation())?;
        let value = slot.value.take()?;
        // Never 0, which stands for "none" where ids are kept in tables.
        slot.generation = slot.generation % (GENERATIONS - 1) + 1;
        self.free.push(id.index());
        Some(*value)
    }

    pub(super) fn get(&self, id: K) -> Option<&T> {
        self.slots
            .get(id.index() as usize)
            .filter(|slot| slot.generation == id.generation())?
            .value
            .as_deref()
    }

    pub(super) fn get_mut(&mut self, id: K) -> Option<&mut T> {
        let slot = self.slots.get_mut(id.index() as usize)?;
        if slot.generation == id.generation() { slot.value.as_deref_mut() } else { None }
    }

    /// Two values at once. `None`: one of them is gone, or both are one.
    pub(super) fn get_two_mut(&mut self, one: K, other: K) -> Option<(&mut T, &mut T)> {
        let indices = [one.index() as usize, other.index() as usize];
        let [first, second] = self.slots.get_disjoint_mut(indices).ok()?;
        if (first.generation, second.generation) != (one.generation(), other.generation()) {
            return None;
        }
        first.value.as_deref_mut().zip(second.value.as_deref_mut())
    }

    /// The id of the live value in this slot.
    pub(super) fn id_at(&self, index: u32) -> Option<K> {
        let slot = self.slots.get(index as usize)?;
        slot.value.as_ref().map(|_| K::new(index, slot.generation))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (K, &T)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| {
            slot.value.as_deref().map(|value| (K::new(index as u32, slot.generation), value))
        })
    }

    /// The same, from a slot on.
    pub(super) fn iter_from(&self, index: u32) -> impl Iterator<Item = (K, &T)> {
        let from = (index as usize).min(self.slots.len());
        self.slots[from..].iter().zip(index..).filter_map(|(slot, index)| {
            slot.value.as_deref().map(|value| (K::new(index, slot.generation), value))
        })
    }

    /// The ids of all values, as they are now.
    pub(super) fn ids(&self) -> Vec<K> {
        self.iter().map(|(id, _)| id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stale_id_finds_nothing_after_its_slot_is_used_again() {
        let mut slab: Slab<ConnId, &str> = Slab::new();
        let old = slab.insert("old");
        assert_eq!(slab.remove(old), Some("old"));
        let new = slab.insert("new");
        assert_eq!(new.index(), old.index());
        assert_eq!(slab.get(old), None);
        assert_eq!(slab.get_mut(old), None);
        assert_eq!(slab.remove(old), None);
        assert_eq!(slab.get(new), Some(&"new"));
        assert_eq!(slab.len(), 1);
    }

    #[test]
    fn two_are_found_at_once_if_both_are_there_and_are_not_one() {
        let mut slab: Slab<ConnId, &str> = Slab::new();
        let (one, other) = (slab.insert("one"), slab.insert("other"));
        assert_eq!(slab.get_two_mut(other, one), Some((&mut "other", &mut "one")));
        assert_eq!(slab.get_two_mut(one, one), None);
        slab.remove(one);
        assert_eq!(slab.get_two_mut(other, one), None);
        slab.insert("new");
        assert_eq!(slab.get_two_mut(one, other), None, "a stale id");
    }
}
