//! How large the terminals are of those at a console, and how the shell behind it hears of that.
//!
//! **Owns** which of several sizes counts, and the stream on which a guest's agent is told of it
//! (APPLICATION §3): opened once there is a size to tell, told the newest, never a backlog, and given up when
//! the last who had one has left. **Refuses to know** what is shown there. **Implements** operator.md §6.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use vspc_guest::{ControlLine, Header, LineBuffer, MAX_LINE, Name, answer};

use super::Concentrator;
use super::carried::Carried;
use super::conn::Conn;
use super::guest::Guest;
use super::id::{ConnId, ConsoleId};
use super::streams::is_log;
use crate::admin::operator::Size;
use crate::mux::{Priority, StreamId};
use crate::time::Instant;

/// Those at consoles who have told how large their terminals are. A console where nobody has costs nothing.
#[derive(Debug, Default)]
pub(super) struct Windows {
    consoles: BTreeMap<ConsoleId, Viewers>,
    /// Streams that feed consoles, as connections, whose guest wants to hear of no size, whoever comes.
    refused: BTreeSet<ConnId>,
    /// Counts what they do.
    turn: u64,
}

#[derive(Debug, Default)]
struct Viewers {
    all: Vec<Viewer>,
}

#[derive(Debug)]
struct Viewer {
    who: ConnId,
    size: Size,
    /// When it typed last; 0: never.
    typed: u64,
    came: u64,
}

impl Windows {
    /// Somebody at a console has a terminal of this size, from now on.
    fn set(&mut self, at: ConsoleId, who: ConnId, size: Size) {
        self.turn += 1;
        let came = self.turn;
        let all = &mut self.consoles.entry(at).or_default().all;
        match all.iter_mut().find(|viewer| viewer.who == who) {
            Some(viewer) => viewer.size = size,
            None => all.push(Viewer { who, size, typed: 0, came }),
        }
    }

    /// Somebody who may has typed. Whether that changes who was the last to.
    pub(super) fn note_typed(&mut self, at: ConsoleId, who: ConnId) -> bool {
        let Some(viewers) = self.consoles.get_mut(&at) else { return false };
        let last = viewers.all.iter().map(|viewer| viewer.typed).max().unwrap_or(0);
        let Some(viewer) = viewers.all.iter_mut().find(|viewer| viewer.who == who) else { return false };
        if viewer.typed == last && last > 0 {
            return false;
        }
        self.turn += 1;
        viewer.typed = self.turn;
        true
    }

    /// Somebody has left. Whether a size went with it.
    fn forget(&mut self, at: ConsoleId, who: ConnId) -> bool {
        let Some(viewers) = self.consoles.get_mut(&at) else { return false };
        let before = viewers.all.len();
        viewers.all.retain(|viewer| viewer.who != who);
        let is_gone = viewers.all.len() < before;
        if viewers.all.is_empty() {
            self.consoles.remove(&at);
        }
        is_gone
    }

    /// Whether anybody at a console has a size.
    fn has_any(&self, at: ConsoleId) -> bool {
        self.consoles.contains_key(&at)
    }

    /// The size that counts: of those who may type, that of who typed last; where none has, of who came last.
    fn decided(&self, at: ConsoleId, may_type: impl Fn(ConnId) -> bool) -> Option<Size> {
        let viewers = self.consoles.get(&at)?;
        let writers = viewers.all.iter().filter(|viewer| may_type(viewer.who));
        writers.max_by_key(|viewer| (viewer.typed, viewer.came)).map(|viewer| viewer.size)
    }

    /// A stream that feeds a console is over.
    pub(super) fn forget_leg(&mut self, leg: ConnId) {
        self.refused.remove(&leg);
    }
}

/// The stream on which a guest is told the size of a shell's terminal.
#[derive(Debug)]
pub(super) struct Window {
    /// The shell's own stream.
    pub(super) of: StreamId,
    told: Option<Size>,
    /// What it is to be told next.
    next: Option<Size>,
    /// Not before then.
    until: Instant,
    /// What of a line it has not taken yet.
    unsaid: Vec<u8>,
    /// What has come of the guest's answer.
    answer: LineBuffer,
    /// That was an `ok`, and the guest has not ended it.
    is_open: bool,
    /// Nobody is there any more who has a size.
    is_left: bool,
}

impl Window {
    fn new(of: StreamId, now: Instant) -> Self {
        let (unsaid, answer) = (Vec::new(), LineBuffer::new(MAX_LINE));
        Self { of, told: None, next: None, until: now, unsaid, answer, is_open: false, is_left: false }
    }
}

impl Guest {
    /// A shell's terminal is to have this size.
    fn resize(&mut self, of: StreamId, name: &Name, size: Size, now: Instant) {
        let id = match self.window_of(of) {
            Some(id) => id,
            None => {
                // Where it carries as many streams as it may, the shell stays as large as it is.
                let Ok(id) = self.trunk.session().open() else { return };
                let _ = self.trunk.session().set_priority(id, Priority::High);
                let _ = self.trunk.session().write(id, &Header::Window { name: name.clone() }.line());
                self.streams.set(id, Carried::Window(Box::new(Window::new(of, now))));
                id
            }
        };
        let Some(Carried::Window(window)) = self.streams.get_mut(id) else { return };
        window.is_left = false;
        window.next = (window.told != Some(size)).then_some(size);
        self.tell_size(id, now);
    }

    /// The stream on which the size of this shell is told.
    fn window_of(&self, of: StreamId) -> Option<StreamId> {
        self.streams.iter().find_map(|(id, carried)| match carried {
            Carried::Window(window) if window.of == of => Some(id),
            _ => None,
        })
    }

    /// Tells the newest size once it is time for that, as far as it is taken: behind one that is not no other
    /// waits.
    pub(super) fn tell_size(&mut self, id: StreamId, now: Instant) {
        let Some(Carried::Window(window)) = self.streams.get_mut(id) else { return };
        if window.unsaid.is_empty()
            && window.until <= now
            && let Some(size) = window.next.take()
        {
            window.unsaid = ControlLine::Size { rows: size.rows.get(), cols: size.cols.get() }.line();
            window.told = Some(size);
            window.until = now + PAUSE;
        }
        let mut unsaid = std::mem::take(&mut window.unsaid);
        while !unsaid.is_empty() {
            let n = self.room(id).min(unsaid.len());
            let taken = self.trunk.session().write(id, &unsaid[..n]).unwrap_or(0);
            if taken == 0 {
                break;
            }
            unsaid.drain(..taken);
        }
        if let Some(Carried::Window(window)) = self.streams.get_mut(id) {
            window.unsaid = unsaid;
        }
    }

    /// What is said on it is an answer, and how the shell ended: nobody waits for either.
    pub(super) fn pass_over_window(&mut self, id: StreamId) {
        let Some(Carried::Window(window)) = self.streams.get_mut(id) else { return };
        let mut answer = std::mem::replace(&mut window.answer, LineBuffer::new(MAX_LINE));
        let (_, is_end) = self.take(id, usize::MAX, |bytes| {
            answer.take(bytes);
        });
        if is_end {
            let _ = self.trunk.session().finish(id);
        }
        let Some(Carried::Window(window)) = self.streams.get_mut(id) else { return };
        let is_ok = matches!(answer.line(), Some(Ok(line)) if answer::parse::<answer::Done>(line).is_ok());
        window.answer = answer;
        window.is_open = is_ok && !is_end;
        if window.is_open && window.is_left {
            self.reset(id);
        }
    }

    /// Nobody who has a size looks at a shell any more. What was not answered yet stays until it is: a guest
    /// that wants no sizes ends it then, and that is remembered.
    fn leave_window(&mut self, of: StreamId) {
        let Some(id) = self.window_of(of) else { return };
        let Some(Carried::Window(window)) = self.streams.get_mut(id) else { return };
        window.is_left = true;
        window.next = None;
        if window.is_open {
            self.reset(id);
        }
    }

    /// A shell's stream is over: nothing has a size any more.
    pub(super) fn end_window(&mut self, of: StreamId) {
        if let Some(id) = self.window_of(of) {
            self.reset(id);
        }
    }

    /// When a size that was changed too soon after another one is to be told.
    pub(super) fn next_size(&self) -> Option<Instant> {
        let due = self.streams.iter().filter_map(|(_, carried)| match carried {
            Carried::Window(window) if window.next.is_some() && window.unsaid.is_empty() => {
                Some(window.until)
            }
            _ => None,
        });
        due.min()
    }

    /// Tells those that are due.
    pub(super) fn tell_sizes(&mut self, now: Instant) {
        let due = self.streams.iter().filter_map(|(id, carried)| match carried {
            Carried::Window(window) if window.next.is_some() => Some(id),
            _ => None,
        });
        due.collect::<Vec<_>>().into_iter().for_each(|id| self.tell_size(id, now));
    }
}

impl Concentrator {
    /// The terminal of somebody at a console has this size.
    pub(super) fn note_size(&mut self, who: ConnId, size: Size) {
        let Some(at) = self.conns.get(who).and_then(Conn::console) else { return };
        self.consoles.guests.windows.set(at, who, size);
        self.settle_size(at);
    }

    /// Somebody leaves a console.
    pub(super) fn forget_size(&mut self, at: ConsoleId, who: ConnId) {
        if !self.consoles.guests.windows.forget(at, who) {
            return;
        }
        if self.consoles.guests.windows.has_any(at) {
            return self.settle_size(at);
        }
        let Some((of_guest, id)) = self.sized_stream(at) else { return };
        if let Some(guest) = self.consoles.guests.get_mut(of_guest) {
            guest.leave_window(id);
            self.fx.look_after_guest(of_guest);
        }
    }

    /// The stream of a guest's that feeds a console.
    fn sized_stream(&self, at: ConsoleId) -> Option<(ConsoleId, StreamId)> {
        let parent = self.consoles.guests.parent(at)?;
        let leg = self.consoles.get(at)?.legs.holder()?;
        self.conns.get(leg)?.stream().filter(|(of_guest, _)| *of_guest == parent)
    }

    /// A stream feeds a console from now on, of which nothing is known.
    pub(super) fn begin_size(&mut self, at: ConsoleId) {
        self.settle_size(at);
    }

    /// A stream on which a size was told is gone. While its shell is there, another one would fare no better.
    pub(super) fn window_gone(&mut self, guest: ConsoleId, window: &Window) {
        let carried = self.consoles.guests.get(guest).and_then(|guest| guest.carried(window.of));
        if let Some(&Carried::Leg { conn, .. }) = carried {
            self.consoles.guests.windows.refused.insert(conn);
        }
    }

    /// Which size counts at a console may have changed: the shell that feeds it is told. Of all other
    /// consoles nothing has one.
    pub(super) fn settle_size(&mut self, at: ConsoleId) {
        let guests = &self.consoles.guests;
        let Some(parent) = guests.parent(at) else { return };
        let Some(console) = self.consoles.get(at).filter(|console| !is_log(&console.label)) else { return };
        let may_type = |who| {
            let is_visitor = self.conns.get(who).is_some_and(Conn::is_visitor);
            console.lets_type(who, is_visitor, self.config.ports_ignore_locks)
        };
        let Some(size) = guests.windows.decided(at, may_type) else { return };
        if console.legs.holder().is_some_and(|leg| guests.windows.refused.contains(&leg)) {
            return;
        }
        let Some((of_guest, id)) = self.sized_stream(at) else { return };
        let label = self.consoles.label(parent).map(|label| label.suffix.len());
        let name = label.and_then(|len| console.label.suffix.get(len..)?.strip_prefix('/'));
        let Some(Ok(name)) = name.map(Name::new) else { return };
        let now = self.fx.now;
        if let Some(guest) = self.consoles.guests.get_mut(of_guest) {
            guest.resize(id, &name, size, now);
            self.fx.look_after_guest(of_guest);
        }
    }
}

/// Between two sizes that a shell is told: a window that is drawn larger has hundreds in a second, and a
/// program draws itself anew for each.
const PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    fn who(n: u64) -> ConnId {
        ConnId::from_bits(n)
    }

    fn size(rows: u16) -> Size {
        let of = |n: u16| n.try_into().unwrap();
        Size { rows: of(rows), cols: of(80) }
    }

    #[test]
    fn who_typed_last_decides_then_who_came_last_and_of_each_only_one_who_may_type() {
        let at = ConsoleId::from_bits(5);
        let mut windows = Windows::default();
        let rows = |windows: &Windows, not: &[u64]| {
            let may = |id: ConnId| !not.contains(&id.to_bits());
            windows.decided(at, may).map_or(0, |size| size.rows.get())
        };
        assert_eq!(rows(&windows, &[]), 0);
        (1..=3).for_each(|n| windows.set(at, who(n), size(n as u16 * 10)));
        assert_eq!((rows(&windows, &[]), rows(&windows, &[3])), (30, 20), "the newest");
        assert!(windows.note_typed(at, who(1)));
        assert!(!windows.note_typed(at, who(1)), "it is the last already");
        assert_eq!(rows(&windows, &[]), 10);
        windows.set(at, who(4), size(40));
        assert_eq!(rows(&windows, &[]), 10, "who comes does not disturb who types");
        assert!(windows.note_typed(at, who(2)));
        windows.set(at, who(2), size(25));
        assert_eq!((rows(&windows, &[]), rows(&windows, &[2])), (25, 10), "and before that");
        assert!(windows.forget(at, who(2)) && !windows.forget(at, who(2)));
        assert_eq!(rows(&windows, &[]), 10);
        assert!(!windows.note_typed(at, who(9)), "one without a size");
        [1, 3, 4].into_iter().for_each(|n| assert!(windows.forget(at, who(n))));
        assert!(windows.consoles.is_empty(), "nothing is kept of who has left");
    }
}
