//! Processes that wait for all of their streams, which come in any order (APPLICATION §3).
//!
//! Owns what has come for each key, and for how long it is waited for. Refuses to know processes.

use std::collections::BTreeMap;
use std::time::Duration;

use vspc_core::mux::StreamId;
use vspc_core::time::Instant;
use vspc_guest::{Belongs, Code, Exec, Key, Refusal, Shell};

/// What is to be started.
#[derive(Clone, Debug)]
pub(crate) enum Wanted {
    Shell(Shell),
    Exec(Exec),
}

impl Wanted {
    pub(crate) const fn key(&self) -> &Key {
        match self {
            Self::Shell(shell) => &shell.key,
            Self::Exec(exec) => &exec.key,
        }
    }

    fn with(&self) -> &[Belongs] {
        match self {
            Self::Shell(shell) => &shell.with,
            Self::Exec(exec) => &exec.with,
        }
    }
}

/// What has come.
#[derive(Default, Debug)]
pub(crate) struct Waiting(BTreeMap<Key, Came>);

#[derive(Debug)]
struct Came {
    main: Option<(StreamId, Wanted)>,
    err: Option<StreamId>,
    control: Option<StreamId>,
    until: Instant,
}

/// All that a process needs has come.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) wanted: Wanted,
    pub(crate) main: StreamId,
    pub(crate) err: Option<StreamId>,
    pub(crate) control: Option<StreamId>,
}

impl Waiting {
    /// A main stream came.
    pub(crate) fn handle_main(
        &mut self,
        id: StreamId,
        wanted: Wanted,
        now: Instant,
    ) -> Result<Option<Ready>, Refusal> {
        let key = wanted.key().clone();
        let came = self.came(&key, now);
        if came.main.is_some() {
            return Err(in_use());
        }
        came.main = Some((id, wanted));
        Ok(self.ready(&key))
    }

    /// Another one of a process' streams came.
    pub(crate) fn handle_other(
        &mut self,
        id: StreamId,
        key: &Key,
        which: Belongs,
        now: Instant,
    ) -> Result<Option<Ready>, Refusal> {
        let came = self.came(key, now);
        let place = match which {
            Belongs::Err => &mut came.err,
            Belongs::Control => &mut came.control,
        };
        if place.is_some() {
            return Err(in_use());
        }
        *place = Some(id);
        Ok(self.ready(key))
    }

    /// A process starts that has waited for nothing: the `control` that came for it before.
    pub(crate) fn take_control(&mut self, key: &Key) -> Option<StreamId> {
        let came = self.0.get_mut(key)?;
        let control = came.control.take();
        if came.main.is_none() && came.err.is_none() {
            self.0.remove(key);
        }
        control
    }

    /// A stream is gone.
    pub(crate) fn handle_reset(&mut self, id: StreamId) {
        self.0.retain(|_, came| {
            came.main.take_if(|(main, _)| *main == id);
            came.err.take_if(|err| *err == id);
            came.control.take_if(|control| *control == id);
            came.main.is_some() || came.err.is_some() || came.control.is_some()
        });
    }

    /// The streams for which it was waited too long.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Vec<StreamId> {
        let mut late = Vec::new();
        self.0.retain(|_, came| {
            if came.until > now {
                return true;
            }
            late.extend(came.main.take().map(|(id, _)| id));
            late.extend(came.err.take());
            late.extend(came.control.take());
            false
        });
        late
    }

    /// When [`Waiting::handle_timeout`] is to be called.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.0.values().map(|came| came.until).min()
    }

    fn came(&mut self, key: &Key, now: Instant) -> &mut Came {
        let nothing = || Came { main: None, err: None, control: None, until: now + PATIENCE };
        self.0.entry(key.clone()).or_insert_with(nothing)
    }

    fn ready(&mut self, key: &Key) -> Option<Ready> {
        let came = self.0.get(key)?;
        let (_, wanted) = came.main.as_ref()?;
        let is_there = |which: &Belongs| match which {
            Belongs::Err => came.err.is_some(),
            Belongs::Control => came.control.is_some(),
        };
        if !wanted.with().iter().all(is_there) {
            return None;
        }
        let Came { main, err, control, .. } = self.0.remove(key)?;
        let (main, wanted) = main?;
        Some(Ready { wanted, main, err, control })
    }
}

fn in_use() -> Refusal {
    Refusal::new(Code::IN_USE, "another process has this key")
}

/// For how long a process waits for its streams.
const PATIENCE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn exec(with: &[Belongs]) -> Wanted {
        let key = Key::new("0123456789abcdef").unwrap();
        Wanted::Exec(Exec { argv: vec!["x".to_owned()], with: with.to_vec(), ..Exec::new(key) })
    }

    #[test]
    fn a_process_starts_once_all_its_streams_are_there_in_any_order() {
        let both = [Belongs::Err, Belongs::Control];
        let (now, key) = (Instant::ZERO, exec(&[]).key().clone());
        for order in [[0, 1, 2], [1, 0, 2], [2, 1, 0], [1, 2, 0]] {
            let mut waiting = Waiting::default();
            for (turn, which) in order.into_iter().enumerate() {
                let id = StreamId(which);
                let ready = match which {
                    0 => waiting.handle_main(id, exec(&both), now),
                    1 => waiting.handle_other(id, &key, Belongs::Err, now),
                    _ => waiting.handle_other(id, &key, Belongs::Control, now),
                };
                let ready = ready.unwrap();
                assert_eq!(ready.is_some(), turn == 2, "{order:?}");
                if let Some(ready) = ready {
                    let streams = (ready.main, ready.err, ready.control);
                    assert_eq!(streams, (StreamId(0), Some(StreamId(1)), Some(StreamId(2))));
                }
            }
            assert_eq!(waiting.poll_timeout(), None);
        }
    }

    #[test]
    fn what_is_late_double_or_gone_is_not_kept() {
        let (now, key) = (Instant::ZERO, exec(&[]).key().clone());
        let mut waiting = Waiting::default();
        assert!(waiting.handle_main(StreamId(1), exec(&[Belongs::Err]), now).unwrap().is_none());
        assert!(waiting.handle_main(StreamId(2), exec(&[]), now).is_err());
        let due = waiting.poll_timeout().unwrap();
        assert!(waiting.handle_timeout(now).is_empty());
        assert_eq!(waiting.handle_timeout(due), [StreamId(1)]);
        assert!(waiting.handle_other(StreamId(3), &key, Belongs::Control, now).unwrap().is_none());
        waiting.handle_reset(StreamId(3));
        assert_eq!(waiting.poll_timeout(), None);
    }
}
