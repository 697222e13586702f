//! What the loop serves, put to what the settings say: at the start, and again when they are read anew.
//!
//! **Owns** what of it can change while it runs. All that can fail comes first, so that settings that cannot
//! be followed change nothing. A listener is known by where it is, a line by where that is, a folder by its
//! path: what is there under both the old settings and the new stays, with its connections.
//!
//! | changes | what becomes of it |
//! |---|---|
//! | where connections are carried, its TLS, that of a listener | holds for connections that come from now on |
//! | a line's target, name, UUID or URI | the concentrator is connected to anew; the line is not |
//! | a line's target by its certificates alone, its backlog | holds from now on |
//! | a line goes | the concentrator is given what it has printed; then both ends are closed |
//! | `qmp` of a line that stays, `control` | is named, and takes a restart |

use std::os::fd::AsRawFd;
use std::sync::Arc;

use mio::unix::SourceFd;
use mio::{Interest, Token};
use vspc_host::listener::Listener;

use super::{CONTROL, Door, FIRST_FOLDER, FIRST_LISTENER, Kind, Member, Relay, Whose};
use crate::config::{FolderRoute, LineRoute};
use crate::control::{self, Askers};
use crate::dial::Goal;
use crate::endpoint::{Endpoint, Place};
use crate::fatal::Fatal;
use crate::folder::Folder;
use crate::line::{Line, Spec};
use crate::listening::Listening;
use crate::prepared::Prepared;
use crate::qmp;

/// A line that the settings name.
#[derive(Debug)]
pub(super) struct Named {
    route: LineRoute,
    id: usize,
}

/// What the settings differ in from what was served before, for people.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// One line each.
    pub(super) made: Vec<String>,
    pub(super) take_a_restart: Vec<String>,
}

/// Where somebody is to listen, and on whose behalf.
struct Wanted {
    at: Endpoint,
    /// The listener that is there already, by its place in the loop.
    door: Option<usize>,
    /// It has been opened for this.
    opened: Option<Listening>,
}

impl Relay {
    /// Serves what this says from now on. Whatever keeps it from that has changed nothing.
    pub(super) fn arrange(&mut self, prepared: Prepared) -> Result<Changes, Fatal> {
        let is_first = self.is_new;
        let relays = prepared.routes.iter().flat_map(|(route, ..)| &route.listen);
        let lines = prepared.lines.iter().filter(|(line, _)| line.from.is_listener);
        let wanted = relays.chain(lines.map(|(line, _)| &line.from.at)).cloned().collect();
        let mut doors = self.find_doors(wanted)?.into_iter();
        let mut opened = Vec::new();
        for (route, goal) in &prepared.folders {
            if !self.folders.iter().flatten().any(|folder| folder.is_of(route)) {
                opened.push(Some(Folder::open(route.clone(), Arc::clone(goal))?));
            } else {
                opened.push(None);
            }
        }
        let control = match &prepared.control {
            Some(at) if is_first => Some(open_control(at)?),
            _ => None,
        };
        // From here on nothing fails but for want of memory.
        let mut changes = Changes::default();
        let before: Vec<usize> = (0..self.listeners.len()).collect();
        let mut kept = Vec::new();
        for (route, goal, server) in prepared.routes {
            for at in &route.listen {
                let Some(door) = doors.next() else { break };
                let whose = Whose::Anybodys(Arc::clone(&goal), server.clone().filter(|_| at.tls));
                kept.push(self.put_door(door, whose, &goal.endpoint.to_string(), &mut changes)?);
            }
        }
        let mut old = std::mem::take(&mut self.named);
        for (route, to) in prepared.lines {
            let found = old.iter().position(|named| named.route.from == route.from);
            let id = match found.map(|at| old.remove(at)) {
                Some(named) => {
                    self.change_named(&named, &route, to, &mut changes);
                    named.id
                }
                None => self.add_named(&route, to, is_first, &mut changes)?,
            };
            if route.from.is_listener
                && let Some(door) = doors.next()
            {
                let name = route.name.clone();
                kept.push(self.put_door(door, Whose::Lines(id), &name, &mut changes)?);
            }
            self.named.push(Named { route, id });
        }
        for named in old {
            changes.made.push(format!("{} is spoken for no more", named.route.from));
            self.let_go(named.id);
        }
        for door in before.into_iter().filter(|door| !kept.contains(door)) {
            if let Some(door) = self.listeners[door].take() {
                changes.made.push(format!("listens on {} no more", door.at));
            }
        }
        self.arrange_folders(prepared.folders.into_iter().zip(opened), &mut changes)?;
        match control {
            Some(listener) => {
                self.register(&listener, CONTROL)?;
                self.control = Some((listener, Askers::default()));
            }
            None if prepared.control != self.control_at && !is_first => {
                changes.take_a_restart.push("control".to_owned());
            }
            None => {}
        }
        if is_first {
            self.control_at = prepared.control;
        }
        self.is_new = false;
        Ok(changes)
    }

    /// Which listeners are there already; the others are opened.
    fn find_doors(&self, wanted: Vec<Endpoint>) -> Result<Vec<Wanted>, Fatal> {
        let mut taken = Vec::new();
        let mut doors = Vec::new();
        for at in wanted {
            let is_there = |(door, it): (usize, &Option<Door>)| {
                let it = it.as_ref()?;
                (it.asked == at.place && !taken.contains(&door)).then_some(door)
            };
            let door = self.listeners.iter().enumerate().find_map(is_there);
            taken.extend(door);
            let open = || Listening::open(&at).map_err(|why| Fatal::Listen { at: at.clone(), why });
            let opened = if door.is_none() { Some(open()?) } else { None };
            doors.push(Wanted { at, door, opened });
        }
        Ok(doors)
    }

    /// Has a listener serve these from now on; returns its place in the loop.
    fn put_door(
        &mut self,
        wanted: Wanted,
        whose: Whose,
        what_for: &str,
        changes: &mut Changes,
    ) -> Result<usize, Fatal> {
        let Wanted { at, door, opened } = wanted;
        if let Some(door) = door
            && let Some(it) = &mut self.listeners[door]
        {
            let is_other = match (&it.whose, &whose) {
                (Whose::Anybodys(before, tls), Whose::Anybodys(goal, server)) => {
                    before.endpoint != goal.endpoint
                        || before.patience != goal.patience
                        || before.is_told_for_whom != goal.is_told_for_whom
                        || tls.is_some() != server.is_some()
                }
                (Whose::Lines(before), Whose::Lines(line)) => before != line,
                _ => true,
            };
            it.at = it.listening.place(&at).to_string();
            if is_other {
                changes.made.push(format!("who comes to {} is for {what_for}", it.at));
            }
            it.whose = whose;
            return Ok(door);
        }
        let Some(listening) = opened else { return Ok(usize::MAX) };
        let door = self.listeners.len();
        self.register(&listening, Token(FIRST_LISTENER + door))?;
        let shown = listening.place(&at).to_string();
        log::info!("listening on {shown}, for {what_for}");
        changes.made.push(format!("listens on {shown}, for {what_for}"));
        self.listeners.push(Some(Door { listening, whose, asked: at.place, at: shown, is_queued: false }));
        Ok(door)
    }

    fn add_named(
        &mut self,
        route: &LineRoute,
        to: Arc<Goal>,
        is_first: bool,
        changes: &mut Changes,
    ) -> Result<usize, Fatal> {
        let id = self.add_line(route.spec(to));
        self.lines_ever += 1;
        let number = self.lines_ever;
        if let Some(watched) = route.qmp.clone()
            && let Some(Member { kind: Kind::Line(line), .. }) = &mut self.members[id]
        {
            let (name, place) = (route.name.clone(), route.from.at.place.clone());
            qmp::start(watched, name, place, line.watch(number), self.orders.clone())
                .map_err(|error| Fatal::System("start a thread", error))?;
        }
        if !is_first {
            changes.made.push(format!("{} is spoken for, as {:?}", route.from, route.name));
        }
        Ok(id)
    }

    fn change_named(&mut self, named: &Named, route: &LineRoute, to: Arc<Goal>, changes: &mut Changes) {
        if named.route.qmp != route.qmp {
            changes.take_a_restart.push(format!("qmp of {}", route.from));
        }
        if (&named.route.name, &named.route.uuid, &named.route.to) != (&route.name, &route.uuid, &route.to) {
            let (place, to) = (&route.from, &route.to.to);
            changes.made.push(format!("{place} is spoken for as {:?} to {to}", route.name));
        }
        let qmp = named.route.qmp.clone();
        self.change_line(named.id, Spec { qmp, ..route.spec(to) });
    }

    /// Serves the folders that the settings name; `opened` are those that were not served before.
    fn arrange_folders(
        &mut self,
        wanted: impl Iterator<Item = ((FolderRoute, Arc<Goal>), Option<Folder>)>,
        changes: &mut Changes,
    ) -> Result<(), Fatal> {
        let before = self.folders.len();
        let mut kept = Vec::new();
        for ((route, to), opened) in wanted {
            let path = route.folder.display().to_string();
            if let Some(folder) = opened {
                let at = self.folders.len();
                self.register(&folder, Token(FIRST_FOLDER + at))?;
                self.folders.push(Some(folder));
                changes.made.push(format!("sockets in {path} are spoken for"));
                self.look_into(at);
                continue;
            }
            let is_it = |folder: &Option<Folder>| folder.as_ref().is_some_and(|it| it.is_of(&route));
            let Some(at) = self.folders.iter().position(is_it) else { continue };
            kept.push(at);
            let Some(folder) = &mut self.folders[at] else { continue };
            let (is_other, lines) = folder.change(route, to);
            if is_other {
                changes.made.push(format!("sockets in {path} are spoken for in another way"));
            }
            for (id, spec) in lines {
                self.change_line(id, spec);
            }
        }
        for at in (0..before).filter(|at| !kept.contains(at)) {
            if let Some(folder) = self.folders[at].take() {
                changes.made.push(format!("sockets in {} are spoken for no more", folder.path().display()));
                folder.into_lines().for_each(|id| self.let_go(id));
            }
        }
        Ok(())
    }

    /// Adds a line; returns its place.
    fn add_line(&mut self, spec: Spec) -> usize {
        let line = Line::new(Arc::new(spec), self.now);
        self.add(Kind::Line(Box::new(line)))
    }

    fn change_line(&mut self, id: usize, spec: Spec) {
        if let Some(Member { kind: Kind::Line(line), .. }) = &mut self.members[id] {
            line.change(Arc::new(spec), self.now);
            self.enqueue(Token(id * 2));
        }
    }

    fn let_go(&mut self, id: usize) {
        if let Some(Member { kind: Kind::Line(line), .. }) = &mut self.members[id] {
            line.end(self.now);
            self.enqueue(Token(id * 2));
        }
    }

    /// Has lines for the sockets that are in a folder now.
    pub(super) fn look_into(&mut self, folder: usize) {
        let Some(Some((come, gone))) = self.folders.get_mut(folder).map(|it| it.as_mut().map(Folder::look))
        else {
            return;
        };
        for id in gone {
            if let Some(Member { kind: Kind::Line(line), .. }) = &mut self.members[id] {
                line.leave();
                self.enqueue(Token(id * 2));
            }
        }
        for (path, spec) in come {
            log::info!("{}: {} is there", spec.config.name, spec.place);
            let id = self.add_line(spec);
            if let Some(Some(folder)) = self.folders.get_mut(folder) {
                folder.note(path, id);
            }
        }
    }

    /// Has the poller tell of it.
    fn register(&self, it: &impl AsRawFd, token: Token) -> Result<(), Fatal> {
        self.poll
            .registry()
            .register(&mut SourceFd(&it.as_raw_fd()), token, Interest::READABLE)
            .map_err(|error| Fatal::System("wait for connections", error))
    }
}

fn open_control(at: &Endpoint) -> Result<Listener, Fatal> {
    let Place::Unix(path) = &at.place else {
        return Err(Fatal::Options(format!("control is a unix socket, unix:/PATH, and {at} is none")));
    };
    let control = control::open(path).map_err(|why| Fatal::Listen { at: at.clone(), why })?;
    log::info!("is told of moves by {at}");
    Ok(control)
}
