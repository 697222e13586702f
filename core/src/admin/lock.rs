//! Who may type at a console: its lock.
//!
//! **Owns** one console's table: the holder, the writers, the spectators. **Refuses to know** consoles and
//! connections: who asks is a key. **Implements** admin.md §7.
//!
//! ```text
//! request               free, nobody   free, writers   free, spectators only   Write held   Exclusive held
//! Exclusive             holder         refused         refused                 refused      refused
//! Write                 holder         refused         holder                  refused      refused
//! FreeForAll            writer         writer          writer                  refused      refused
//! FreeForAllOrReadonly  writer         writer          writer                  spectator    refused
//! Readonly              spectator      spectator       spectator               spectator    refused
//! ```
//!
//! "Free, writers" is so whether there are spectators or not. The table does not change on its own: a
//! spectator stays one when the writer leaves, unless it asks again.

use std::fmt;

/// What a client asks for when it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LockMode {
    /// Nobody else may as much as watch.
    Exclusive,
    /// Nobody else may type.
    Write,
    /// To type, beside whoever else does.
    FreeForAll,
    /// To type, or to watch while somebody holds the lock for writing.
    FreeForAllOrReadonly,
    /// To watch. vSPC.py's protocol cannot ask for it.
    Readonly,
}

impl LockMode {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Exclusive, Self::Write, Self::FreeForAll, Self::FreeForAllOrReadonly, Self::Readonly];

    /// What it is called among us.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exclusive => "exclusive",
            Self::Write => "write",
            Self::FreeForAll => "free_for_all",
            Self::FreeForAllOrReadonly => "free_for_all_or_readonly",
            Self::Readonly => "readonly",
        }
    }

    /// The mode of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.name() == name)
    }
}

impl fmt::Display for LockMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What a client may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// What it types reaches the VM.
    Writer,
    /// What it types is read and dropped.
    Spectator,
}

/// A request that was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    /// What it was granted as: never [`LockMode::FreeForAllOrReadonly`].
    pub applied: LockMode,
    /// What that allows.
    pub access: Access,
}

/// A request that was refused, and what stands in its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum LockRefused {
    /// Somebody has the console alone.
    #[error("the console is locked exclusively")]
    Exclusive,
    /// Somebody holds the lock for writing.
    #[error("the console is locked for writing")]
    Write,
    /// No lock is held, but others type.
    #[error("others are writing")]
    Writers,
    /// No lock is held, but others watch.
    #[error("others are watching")]
    Spectators,
}

/// One console's lock, by clients of type `K`: a pointer that is null while nobody is there.
///
/// Each call costs as much as there are clients at the console.
#[derive(Clone, Debug)]
pub struct Lock<K>(Option<Box<Table<K>>>);

#[derive(Clone, Debug)]
struct Table<K> {
    held: Option<(Held, K)>,
    /// Those of no lock's.
    writers: Vec<K>,
    spectators: Vec<K>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    Exclusive,
    Write,
}

impl<K: Copy + Eq> Lock<K> {
    /// Of a console where nobody is.
    #[must_use]
    pub const fn new() -> Self {
        Self(None)
    }

    /// Lets `who` in, or does not. Who is in already changes its mode: to another, or the same again.
    ///
    /// # Errors
    ///
    /// Others stand in its way. Nothing has changed: who was in already has what it had.
    pub fn request(&mut self, who: K, mode: LockMode) -> Result<Granted, LockRefused> {
        let applied = self.judge(who, mode)?;
        self.release(who);
        let table = self.0.get_or_insert_with(|| {
            Box::new(Table { held: None, writers: Vec::new(), spectators: Vec::new() })
        });
        match applied {
            LockMode::Exclusive => table.held = Some((Held::Exclusive, who)),
            LockMode::Write => table.held = Some((Held::Write, who)),
            LockMode::FreeForAll | LockMode::FreeForAllOrReadonly => table.writers.push(who),
            LockMode::Readonly => table.spectators.push(who),
        }
        Ok(Granted { applied, access: access(applied) })
    }

    /// What `who` would get, as [`Lock::request`], but nothing changes.
    ///
    /// # Errors
    ///
    /// Others stand in its way.
    pub fn judge(&self, who: K, mode: LockMode) -> Result<LockMode, LockRefused> {
        let Some(table) = &self.0 else {
            return Ok(alone(mode));
        };
        let held = table.held.filter(|&(_, holder)| holder != who).map(|(held, _)| held);
        match (held, mode) {
            (Some(Held::Exclusive), _) => Err(LockRefused::Exclusive),
            (Some(Held::Write), LockMode::FreeForAllOrReadonly | LockMode::Readonly) => {
                Ok(LockMode::Readonly)
            }
            (Some(Held::Write), _) => Err(LockRefused::Write),
            (None, LockMode::Exclusive | LockMode::Write) if table.writers.iter().any(|&k| k != who) => {
                Err(LockRefused::Writers)
            }
            (None, LockMode::Exclusive) if table.spectators.iter().any(|&k| k != who) => {
                Err(LockRefused::Spectators)
            }
            (None, _) => Ok(alone(mode)),
        }
    }

    /// `who` is gone, or wants nothing any more. Returns what it could do; `None` if it was not in.
    pub fn release(&mut self, who: K) -> Option<Access> {
        let table = self.0.as_mut()?;
        let access = if table.held.is_some_and(|(_, holder)| holder == who) {
            table.held = None;
            Some(Access::Writer)
        } else if take(&mut table.writers, who) {
            Some(Access::Writer)
        } else {
            take(&mut table.spectators, who).then_some(Access::Spectator)
        };
        if table.held.is_none() && table.writers.is_empty() && table.spectators.is_empty() {
            self.0 = None;
        }
        access
    }

    /// Who holds the lock, and as what: [`LockMode::Exclusive`] or [`LockMode::Write`].
    #[must_use]
    pub fn holder(&self) -> Option<(K, LockMode)> {
        let (held, holder) = self.0.as_ref()?.held?;
        Some((holder, held.mode()))
    }

    /// What `who` was granted; `None` if it is not in.
    #[must_use]
    pub fn mode(&self, who: K) -> Option<LockMode> {
        let table = self.0.as_ref()?;
        match table.held {
            Some((held, holder)) if holder == who => Some(held.mode()),
            _ if table.writers.contains(&who) => Some(LockMode::FreeForAll),
            _ => table.spectators.contains(&who).then_some(LockMode::Readonly),
        }
    }

    /// What `who` may do; `None` if it is not in.
    #[must_use]
    pub fn access(&self, who: K) -> Option<Access> {
        self.mode(who).map(access)
    }

    /// Who may type: the holder, or those who share.
    pub fn writers(&self) -> impl Iterator<Item = K> + '_ {
        let table = self.0.as_deref();
        let holder = table.and_then(|table| table.held).map(|(_, holder)| holder);
        holder.into_iter().chain(table.into_iter().flat_map(|table| table.writers.iter().copied()))
    }

    /// Who may watch and not type.
    pub fn spectators(&self) -> impl Iterator<Item = K> + '_ {
        self.0.iter().flat_map(|table| table.spectators.iter().copied())
    }

    /// Whether nobody is in.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

impl<K: Copy + Eq> Default for Lock<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl Held {
    const fn mode(self) -> LockMode {
        match self {
            Self::Exclusive => LockMode::Exclusive,
            Self::Write => LockMode::Write,
        }
    }
}

/// What a request is granted as where nothing stands in its way.
const fn alone(mode: LockMode) -> LockMode {
    match mode {
        LockMode::FreeForAllOrReadonly => LockMode::FreeForAll,
        mode => mode,
    }
}

const fn access(mode: LockMode) -> Access {
    match mode {
        LockMode::Readonly => Access::Spectator,
        _ => Access::Writer,
    }
}

/// Takes `who` out; whether it was there. The others keep their order.
fn take<K: Copy + Eq>(keys: &mut Vec<K>, who: K) -> bool {
    let at = keys.iter().position(|&key| key == who);
    at.map(|at| keys.remove(at)).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use LockMode::{Exclusive as E, FreeForAll as F, FreeForAllOrReadonly as R, Readonly as O, Write as W};

    /// The rules in the words of admin.md §7, over what each client was granted.
    #[derive(Clone, Default)]
    struct Model(Vec<(u32, LockMode)>);

    impl Model {
        fn request(&mut self, who: u32, mode: LockMode) -> Option<LockMode> {
            let others: Vec<LockMode> = self.0.iter().filter(|(k, _)| *k != who).map(|&(_, m)| m).collect();
            let exclusive = others.contains(&E);
            let write = others.contains(&W);
            let free_writers = others.contains(&F);
            let spectators = others.contains(&O);
            let granted = match mode {
                E if exclusive || write || free_writers || spectators => None,
                E => Some(E),
                W if exclusive || write || free_writers => None,
                W => Some(W),
                F if exclusive || write => None,
                F => Some(F),
                R if exclusive => None,
                R if write => Some(O),
                R => Some(F),
                O if exclusive => None,
                O => Some(O),
            };
            if let Some(granted) = granted {
                self.release(who);
                self.0.push((who, granted));
            }
            granted
        }

        fn release(&mut self, who: u32) {
            self.0.retain(|(k, _)| *k != who);
        }
    }

    fn same(lock: &Lock<u32>, model: &Model, story: &str) {
        for who in 0..4 {
            let expected = model.0.iter().find(|(k, _)| *k == who).map(|&(_, mode)| mode);
            assert_eq!(lock.mode(who), expected, "{story}: client {who}");
        }
        let of = |modes: &[LockMode]| -> Vec<u32> {
            let mut keys: Vec<u32> =
                model.0.iter().filter(|(_, mode)| modes.contains(mode)).map(|&(k, _)| k).collect();
            keys.sort_unstable();
            keys
        };
        let sorted = |mut keys: Vec<u32>| {
            keys.sort_unstable();
            keys
        };
        assert_eq!(sorted(lock.writers().collect()), of(&[E, W, F]), "{story}");
        assert_eq!(sorted(lock.spectators().collect()), of(&[O]), "{story}");
        assert_eq!(lock.holder().map(|(k, _)| k), of(&[E, W]).first().copied(), "{story}");
        assert_eq!(lock.is_empty(), model.0.is_empty(), "{story}");
    }

    #[test]
    fn every_pair_of_clients_has_the_outcome_of_the_table() {
        // First client, second client, what the second is granted.
        let table = [
            (E, [None, None, None, None, None]),
            (W, [None, None, None, Some(O), Some(O)]),
            (F, [None, None, Some(F), Some(F), Some(O)]),
            (R, [None, None, Some(F), Some(F), Some(O)]),
            (O, [None, Some(W), Some(F), Some(F), Some(O)]),
        ];
        for (first, row) in table {
            for (second, expected) in LockMode::ALL.into_iter().zip(row) {
                let mut lock = Lock::new();
                let granted = lock.request(1, first).expect("nobody else is there");
                assert_eq!(granted.applied, if first == R { F } else { first });
                assert_eq!(granted.access == Access::Spectator, first == O);
                let outcome = lock.request(2, second).ok().map(|granted| granted.applied);
                assert_eq!(outcome, expected, "{first}, then {second}");
                assert_eq!(lock.mode(2), expected);
            }
        }
    }

    #[test]
    fn a_refusal_says_what_stands_in_the_way() {
        for (first, mode, refused) in [
            (E, O, LockRefused::Exclusive),
            (W, F, LockRefused::Write),
            (F, W, LockRefused::Writers),
            (F, E, LockRefused::Writers),
            (O, E, LockRefused::Spectators),
        ] {
            let mut lock = Lock::new();
            lock.request(1, first).expect("nobody else is there");
            assert_eq!(lock.request(2, mode), Err(refused));
        }
    }

    #[test]
    fn every_story_of_three_clients_ends_as_the_rules_say() {
        // Three clients come in every combination of modes; one leaves behind each step; one asks again.
        for modes in 0..125usize {
            let modes = [modes / 25, modes / 5 % 5, modes % 5].map(|at| LockMode::ALL[at]);
            for leaves in 0..9usize {
                let (leaver, step) = ((leaves % 3) as u32, leaves / 3);
                for again in 0..15usize {
                    let (who, asks) = ((again / 5) as u32, LockMode::ALL[again % 5]);
                    let story = format!("{modes:?}, {leaver} leaves behind {step}, {who} asks for {asks}");
                    let (mut lock, mut model) = (Lock::new(), Model::default());
                    let requests = (0..).zip(modes).chain([(who, asks)]);
                    for (at, (who, mode)) in requests.enumerate() {
                        let outcome = lock.request(who, mode).ok().map(|granted| granted.applied);
                        assert_eq!(outcome, model.request(who, mode), "{story}");
                        same(&lock, &model, &story);
                        if at == step {
                            lock.release(leaver);
                            model.release(leaver);
                            same(&lock, &model, &story);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_spectator_is_not_made_a_writer_when_the_writer_leaves_but_may_ask() {
        let mut lock = Lock::new();
        lock.request(300, W).expect("nobody else is there");
        let granted = lock.request(301, R).expect("watching is allowed");
        assert_eq!(granted, Granted { applied: O, access: Access::Spectator });
        assert_eq!(lock.release(300), Some(Access::Writer));
        assert_eq!(lock.access(301), Some(Access::Spectator));
        assert_eq!(lock.request(301, W).map(|granted| granted.access), Ok(Access::Writer));
        assert_eq!(lock.holder(), Some((301, W)));
    }

    #[test]
    fn a_refused_change_takes_nothing_away() {
        let mut lock = Lock::new();
        lock.request(1, F).expect("nobody else is there");
        lock.request(2, F).expect("they share");
        assert_eq!(lock.request(1, E), Err(LockRefused::Writers));
        assert_eq!(lock.mode(1), Some(F));
        assert_eq!(lock.release(3), None);
        lock.release(2);
        assert_eq!(lock.request(1, E).map(|granted| granted.applied), Ok(E));
    }

    #[test]
    fn a_console_where_nobody_is_pays_for_a_pointer() {
        assert_eq!(size_of::<Lock<u64>>(), size_of::<usize>());
        let mut lock = Lock::new();
        lock.request(1, R).expect("nobody else is there");
        lock.release(1);
        assert!(lock.0.is_none());
    }

    #[test]
    fn names_are_read_back() {
        for mode in LockMode::ALL {
            assert_eq!(LockMode::from_name(mode.name()), Some(mode));
        }
        assert_eq!(LockMode::from_name("Write"), None);
    }
}
