//! A runtime's own table of its connections or listeners, beside the engine's.
//!
//! It owns a value per id, at the id's slot, and knows which generation of the slot that is: an id that is
//! dead finds nothing, also when its slot has been given to another.

use std::marker::PhantomData;

use vspc_core::concentrator::{ConnId, ListenerId};

/// An id of the engine: a dense slot number, and a generation.
pub trait Id: Copy {
    /// The slot.
    fn index(self) -> usize;
    /// Which of the slot's owners it is.
    fn generation(self) -> u32;
}

macro_rules! ids {
    ($($id:ty),+) => {
        $(impl Id for $id {
            fn index(self) -> usize {
                <$id>::index(self)
            }

            fn generation(self) -> u32 {
                (self.to_bits() >> 32) as u32
            }
        })+
    };
}

ids!(ConnId, ListenerId);

/// Values by id. Every call costs one look into a vector, which is as long as there have ever been ids at
/// once.
#[derive(Debug)]
pub struct Slots<K, T> {
    slots: Vec<Option<Slot<T>>>,
    key: PhantomData<K>,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: T,
}

impl<K, T> Default for Slots<K, T> {
    fn default() -> Self {
        Self { slots: Vec::new(), key: PhantomData }
    }
}

impl<K: Id, T> Slots<K, T> {
    /// Puts a value in, in place of what its slot may still hold.
    pub fn insert(&mut self, id: K, value: T) {
        if self.slots.len() <= id.index() {
            self.slots.resize_with(id.index() + 1, || None);
        }
        self.slots[id.index()] = Some(Slot { generation: id.generation(), value });
    }

    /// The value of this id, unless it is gone.
    pub fn get(&mut self, id: K) -> Option<&mut T> {
        let slot = self.slots.get_mut(id.index())?.as_mut()?;
        (slot.generation == id.generation()).then_some(&mut slot.value)
    }

    /// Takes the value of this id out.
    pub fn remove(&mut self, id: K) -> Option<T> {
        self.get(id)?;
        self.slots[id.index()].take().map(|slot| slot.value)
    }

    /// What one value costs in the table, in bytes.
    #[must_use]
    pub const fn footprint() -> usize {
        size_of::<Option<Slot<T>>>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_id_finds_nothing() {
        let (old, new) = (ConnId::from_bits(1 << 32 | 3), ConnId::from_bits(2 << 32 | 3));
        let mut slots = Slots::default();
        slots.insert(old, "old");
        assert_eq!(slots.get(old), Some(&mut "old"));
        assert_eq!(slots.get(new), None);
        slots.insert(new, "new");
        assert_eq!(slots.get(old), None);
        assert_eq!(slots.remove(old), None);
        assert_eq!(slots.remove(new), Some("new"));
        assert_eq!(slots.remove(new), None);
        assert_eq!(slots.get(ConnId::from_bits(9)), None);
    }
}
