//! Clients at the consoles of the VMs that are played: when one is attached, what it types.

use std::time::Duration;

use super::{ANSWER, End, Player, QUIET};
use crate::drive::{PeerId, Trouble};
use crate::random::nonce;
use crate::replay::clients::{Attached, Key, Typed};
use crate::replay::dialogue::Step;
use crate::replay::moves::State;
use crate::telnet::{Client, Word};

impl Player<'_> {
    /// The console of a VM that has said who it is, as the clients know it.
    pub(super) fn console(&self, conn: usize) -> Option<Key> {
        let who = &self.script.identities[conn];
        let uri = who.uri.clone().filter(|_| self.multi_console).unwrap_or_default();
        Some((who.uuid.clone()?, uri))
    }

    /// Attaches a client to the console of a VM that has said who it is, the first time that it needs one:
    /// before it prints, moves, is typed to or goes.
    pub(super) fn attach(&mut self, conn: usize) {
        let leg = &self.legs[conn];
        if !leg.is_known || leg.gone || leg.half {
            return;
        }
        let Some(console) = self.console(conn).filter(|console| !self.attached.contains_key(console)) else {
            return;
        };
        let moves = &self.played.moves;
        if moves.arriving(conn).is_some_and(|n| moves.moves[n].state != State::Completed) {
            return;
        }
        self.flush();
        let before = self.target.now();
        let client = self.client_of(conn, &console);
        self.shift += self.target.now().saturating_sub(before);
        if let Err(Trouble::NotOffered(why) | Trouble::Failed(why)) = &client {
            self.differ(format!("no client can be attached: {why}"));
        }
        self.attached.insert(console, client.ok());
        self.listen();
    }

    fn client_of(&mut self, conn: usize, console: &Key) -> Result<usize, Trouble> {
        let Some(vm) = self.legs[conn].peer else { return Err(Trouble::Failed("the vm has gone".into())) };
        let port = self.target.client_port(vm)?;
        let peer = self.target.connect_client(port)?;
        let client = self.played.clients.len();
        let shows_all = self.target.shows_all();
        self.ends.insert(peer, End::Client(client));
        self.played.clients.push(Attached {
            console: console.clone(),
            port,
            peer,
            attached_at: if shows_all { 0 } else { self.played.steps.len() },
            greeting: 0,
            client: Client::default(),
        });
        if !shows_all {
            self.begin(client, vm);
        }
        Ok(client)
    }

    /// Lets the VM print words until one of them is the last thing that its client sees: what the server
    /// shows of its own accord, and of the past, is before that, and from there on every byte counts.
    fn begin(&mut self, client: usize, vm: PeerId) {
        let limit = self.target.now() + SHOWN;
        let (mut word, mut before) = (Vec::new(), usize::MAX);
        while self.target.now() < limit {
            let seen = &self.played.clients[client].client.bytes;
            if seen.len() == before {
                if !word.is_empty() && seen.ends_with(&word) {
                    break;
                }
                word = format!("[from here {:016x}]", nonce()).into_bytes();
                self.target.send(vm, &word);
            }
            before = self.played.clients[client].client.bytes.len();
            let quiet = self.target.now() + QUIET;
            while self.pump(quiet) {}
        }
        self.played.clients[client].greeting = self.played.clients[client].client.bytes.len();
    }

    /// What was typed in the capture is typed again, where a client is attached, and waited for: the captured
    /// VM had it by then, and so it has to be here before the VM goes on.
    pub(super) fn type_in(&mut self, step: &Step, data: &[u8]) {
        let Some(console) = self.console(step.conn) else { return };
        self.go_to(step.mark);
        self.attach(step.conn);
        let client = self.attached.get(&console).copied().flatten().map(|n| &self.played.clients[n]);
        let Some(peer) = client.filter(|client| !client.client.closed).map(|client| client.peer) else {
            return;
        };
        self.played.typed.entry(console.clone()).or_default().bytes.extend_from_slice(data);
        self.target.send(peer, &Word::Data(data.to_vec()).wire());
        let has_arrived = |player: &Self| player.played.typed.get(&console).is_none_or(Typed::has_arrived);
        self.wait_until(ANSWER, has_arrived);
        if let Some(typed) = self.played.typed.get_mut(&console) {
            typed.give_up();
        }
    }
}

/// How long a client may take to show what its VM prints and nothing else. vSPC.py lets half a second pass in
/// which the client negotiates.
const SHOWN: Duration = Duration::from_secs(2);
