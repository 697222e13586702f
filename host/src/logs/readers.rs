//! The readers of consoles that are logged: every console has one, also one that never prints, so they lie
//! densely.
//!
//! **Owns** which reader is which console's. **Refuses to know** what it reads.

use vspc_core::concentrator::{ConnId, ConsoleId};

#[derive(Debug, Default)]
pub(super) struct Readers {
    /// By a connection's slot: the slot of the console that it reads.
    consoles: Vec<u32>,
    /// By a console's slot.
    readers: Vec<Option<Reader>>,
    count: usize,
}

/// Who reads one console.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader {
    pub(super) id: ConnId,
    pub(super) console: ConsoleId,
    /// A hash of what the console was called when it was looked at last.
    pub(super) called: u32,
    /// The thread knows what it is called now.
    pub(super) is_told: bool,
    /// It has something, and found no room.
    pub(super) is_waiting: bool,
    /// It waits for the name of the console's VM.
    pub(super) is_unnamed: bool,
}

impl Readers {
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn get(&self, id: ConnId) -> Option<&Reader> {
        let reader = self.readers.get(self.slot(id)?)?.as_ref()?;
        (reader.id == id).then_some(reader)
    }

    pub(super) fn get_mut(&mut self, id: ConnId) -> Option<&mut Reader> {
        let slot = self.slot(id)?;
        let reader = self.readers.get_mut(slot)?.as_mut()?;
        if reader.id == id { Some(reader) } else { None }
    }

    /// The reader of a console.
    pub(super) fn of(&self, console: ConsoleId) -> Option<ConnId> {
        let reader = self.readers.get(console.index())?.as_ref()?;
        (reader.console == console).then_some(reader.id)
    }

    /// Takes one in. Returns that of a console that is gone and had this one's slot, if it has not been taken
    /// out yet.
    pub(super) fn insert(&mut self, reader: Reader) -> Option<Reader> {
        let (conn, console) = (reader.id.index(), reader.console.index());
        if self.consoles.len() <= conn {
            self.consoles.resize(conn + 1, NONE);
        }
        if self.readers.len() <= console {
            self.readers.resize(console + 1, None);
        }
        self.consoles[conn] = u32::try_from(console).unwrap_or(NONE);
        let before = self.readers[console].replace(reader);
        self.count += usize::from(before.is_none());
        before
    }

    pub(super) fn remove(&mut self, id: ConnId) -> Option<Reader> {
        self.get(id)?;
        let slot = self.slot(id)?;
        self.count -= 1;
        self.consoles[id.index()] = NONE;
        self.readers[slot].take()
    }

    fn slot(&self, id: ConnId) -> Option<usize> {
        self.consoles.get(id.index()).map(|&slot| slot as usize)
    }
}

/// The slot of no console.
const NONE: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(id: u64, console: u64) -> Reader {
        let (id, console) = (ConnId::from_bits(id), ConsoleId::from_bits(console));
        Reader { id, console, called: 0, is_told: false, is_waiting: false, is_unnamed: false }
    }

    #[test]
    fn a_reader_is_found_by_itself_and_by_its_console_and_none_by_those_that_had_its_slots() {
        const OLD: u64 = 1 << 32;
        const NEW: u64 = 2 << 32;
        let mut readers = Readers::default();
        assert!(readers.insert(reader(OLD | 7, OLD | 3)).is_none());
        assert!(readers.insert(reader(OLD | 5, OLD | 4)).is_none());
        assert_eq!(readers.of(ConsoleId::from_bits(OLD | 3)), Some(ConnId::from_bits(OLD | 7)));
        assert_eq!(readers.get(ConnId::from_bits(OLD | 7)).unwrap().console, ConsoleId::from_bits(OLD | 3));
        for unknown in [NEW | 7, OLD | 3, OLD | 100] {
            assert!(readers.get_mut(ConnId::from_bits(unknown)).is_none());
            assert!(readers.remove(ConnId::from_bits(unknown)).is_none());
        }
        assert_eq!(readers.of(ConsoleId::from_bits(NEW | 3)), None);
        // Another console comes in the slot of one whose reader is not out yet.
        let before = readers.insert(reader(OLD | 9, NEW | 3)).unwrap();
        assert_eq!(before.id, ConnId::from_bits(OLD | 7));
        assert!(readers.remove(before.id).is_none());
        assert_eq!(readers.of(ConsoleId::from_bits(NEW | 3)), Some(ConnId::from_bits(OLD | 9)));
        assert!(readers.remove(ConnId::from_bits(OLD | 9)).is_some() && !readers.is_empty());
        assert!(readers.remove(ConnId::from_bits(OLD | 5)).is_some() && readers.is_empty());
    }
}
