//! Consoles by how long they have been silent: whose scrollback goes first when memory is short.
//!
//! A list threaded through a table of slot numbers; every step is constant cost.

const NONE: u32 = u32::MAX;

#[derive(Debug)]
pub(super) struct SilenceList {
    links: Vec<(u32, u32)>,
    longest_silent: u32,
    latest: u32,
}

impl SilenceList {
    pub(super) fn new() -> Self {
        Self { links: Vec::new(), longest_silent: NONE, latest: NONE }
    }

    /// This one has just said something.
    pub(super) fn touch(&mut self, index: u32) {
        if self.latest == index {
            return;
        }
        self.remove(index);
        if self.links.len() <= index as usize {
            self.links.resize(index as usize + 1, (NONE, NONE));
        }
        self.links[index as usize] = (self.latest, NONE);
        match self.latest {
            NONE => self.longest_silent = index,
            latest => self.links[latest as usize].1 = index,
        }
        self.latest = index;
    }

    /// This one has something to give, and has been silent for longer than all that have said something.
    pub(super) fn add(&mut self, index: u32) {
        if self.links.len() <= index as usize {
            self.links.resize(index as usize + 1, (NONE, NONE));
        }
        let is_there = self.links[index as usize].0 != NONE || self.longest_silent == index;
        if is_there {
            return;
        }
        self.links[index as usize] = (NONE, self.longest_silent);
        match self.longest_silent {
            NONE => self.latest = index,
            first => self.links[first as usize].0 = index,
        }
        self.longest_silent = index;
    }

    /// This one has nothing to give.
    pub(super) fn remove(&mut self, index: u32) {
        let Some(&(before, after)) = self.links.get(index as usize) else { return };
        if before == NONE && self.longest_silent != index {
            return;
        }
        match before {
            NONE => self.longest_silent = after,
            before => self.links[before as usize].1 = after,
        }
        match after {
            NONE => self.latest = before,
            after => self.links[after as usize].0 = before,
        }
        self.links[index as usize] = (NONE, NONE);
    }

    pub(super) fn longest_silent(&self) -> Option<u32> {
        (self.longest_silent != NONE).then_some(self.longest_silent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_silent_comes_first_whatever_was_touched_or_removed() {
        let mut list = SilenceList::new();
        for index in [3, 0, 7, 3, 5, 0] {
            list.touch(index);
        }
        list.remove(5);
        list.remove(4);
        list.remove(100);
        let mut left = Vec::new();
        while let Some(index) = list.longest_silent() {
            left.push(index);
            list.remove(index);
        }
        assert_eq!(left, [7, 3, 0]);
        list.add(1);
        list.touch(2);
        list.add(3);
        list.add(2);
        assert_eq!(list.longest_silent(), Some(3));
        list.remove(3);
        assert_eq!(list.longest_silent(), Some(1));
        list.remove(2);
        list.remove(1);
        list.remove(1);
        assert_eq!(list.longest_silent(), None);
    }
}
