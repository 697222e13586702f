//! A connection that speaks VMware's protocol (admin.md §8): its dialogue, what it is connected to, and what
//! waits while it is told of all ports.
//!
//! **Owns** the order in which things are said: the list of ports is one message, and nothing else may come
//! in the middle of it. **Refuses to know** consoles and locks beyond their ids.

use crate::admin::vmware_kit::{KitPortList, KitServer, put_disconnected};

use super::control::Control;
use super::id::ConnId;

/// One connection.
#[derive(Debug)]
pub(super) struct Kit {
    /// Its telnet. Not there while what it has said is carried out.
    server: Option<KitServer>,
    /// Whom it is at a console as.
    pub(super) attach: Option<ConnId>,
    /// The list that it is being told, and the slot of the next console.
    pub(super) listing: Option<(KitPortList, u32)>,
    /// It is connected no longer, and is told behind the list.
    owes_end: bool,
    /// What it has said behind its question for the list: less than one read, because it is not read
    /// meanwhile.
    unread: Vec<u8>,
}

impl Kit {
    /// One that was offered the option.
    pub(super) fn new(server: KitServer) -> Self {
        Self { server: Some(server), attach: None, listing: None, owes_end: false, unread: Vec::new() }
    }

    /// Whether its client has agreed to the option. Until then it is nobody.
    pub(super) fn is_agreed(&self) -> bool {
        self.server.as_ref().is_some_and(KitServer::is_agreed)
    }

    /// Lends its telnet out for what has come. While a list is told that waits.
    pub(super) fn take_server(&mut self, data: &[u8]) -> Option<KitServer> {
        if self.listing.is_some() {
            self.unread.extend_from_slice(data);
            return None;
        }
        self.server.take()
    }

    /// It is not read: first the list that it is being told has to end.
    pub(super) fn is_held_back(&self) -> bool {
        self.listing.is_some() || !self.unread.is_empty()
    }

    /// Its telnet comes back, with what has not been read because a list was begun.
    pub(super) fn give_server(&mut self, server: KitServer, unread: &[u8]) {
        self.server = Some(server);
        self.unread = unread.to_vec();
    }

    /// What is to be read now that the list is told.
    pub(super) fn take_unread(&mut self) -> Vec<u8> {
        if self.listing.is_some() { Vec::new() } else { std::mem::take(&mut self.unread) }
    }

    /// It is at no console any more, though it has not asked for that: it is told so.
    pub(super) fn disconnected(&mut self, control: &mut Control) {
        self.attach = None;
        match self.listing {
            Some(_) => self.owes_end = true,
            None => put_disconnected(control.buffer()),
        }
    }

    /// The list is at its end.
    pub(super) fn end_list(&mut self, control: &mut Control) {
        if let Some((list, _)) = self.listing.take() {
            list.end(control.buffer());
        }
        if std::mem::take(&mut self.owes_end) {
            put_disconnected(control.buffer());
        }
    }
}
