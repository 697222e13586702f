//! Carrying what is sealed: as whole records for the model's sake, in pieces for the engine's.

use std::hash::Hasher;

use vspc_core::concentrator::{Closed, ConnId, InBandTls, VmTls};

use super::secure::{Sealed, Version};
use super::{Part, World, offered, take};

/// What a client may send without more than it has a window for.
const LEAST_WINDOW: usize = 512;

const RECORD: usize = 16 << 10;

impl World {
    /// Goes through the handshake, if the world's connections are TLS, and through the upgrade before it.
    pub(crate) fn secure(&mut self, id: ConnId) {
        if self.by_hand {
            return;
        }
        let is_vms = self.link(id).part.is_vms();
        let version = if id.to_bits().is_multiple_of(3) { Version::V12 } else { Version::V13 };
        if !is_vms && self.config.client_tls || is_vms && self.config.vm_tls != VmTls::Off {
            self.shake_hands(id, version, Vec::new());
        } else if is_vms && self.config.in_band_tls != InBandTls::Off {
            self.deal(id, b"\xff\xfb\x25");
            assert_eq!(self.take(id), b"\xff\xfd\x25\xff\xfa\x25\x01\x07\x00\xff\xf0");
            self.deal(id, b"\xff\xfa\x25\x00\x07\x00\x01\xff\xf0");
            let rest = self.take(id);
            let rest = rest.strip_prefix(b"\xff\xfa\x25\x02\x07\x00\x02\xff\xf0").expect("ACCEPT");
            assert!(rest.is_empty(), "more than ACCEPT in clear");
            self.shake_hands(id, version, rest.to_vec());
        }
    }

    /// Goes through a handshake, beginning with what has been brought; everything after it is TLS.
    pub(crate) fn shake_hands(&mut self, id: ConnId, version: Version, brought: Vec<u8>) {
        self.shake_hands_as(id, Sealed::new(version), brought);
    }

    /// The same, of a peer that is this one.
    pub(crate) fn shake_hands_as(&mut self, id: ConnId, mut tls: Sealed, mut brought: Vec<u8>) {
        for _ in 0..8 {
            assert!(tls.open(&brought).is_empty(), "{id} was told something before its handshake was over");
            let said = tls.seal(&[]);
            self.deal(id, &said);
            if tls.is_up() || !self.link(id).is_open() {
                break;
            }
            brought = self.take_some(id);
        }
        assert!(tls.is_up(), "no handshake with {id}: {:?}", tls.fault);
        self.link(id).tls = Some(Box::new(tls));
    }

    /// Gives the engine what its socket brought, in pieces.
    pub(crate) fn deal(&mut self, id: ConnId, bytes: &[u8]) {
        let (front, back) = bytes.split_at(bytes.len() / 3);
        for piece in [front, back] {
            if !piece.is_empty() && self.link(id).is_open() {
                self.engine.handle_received(id, &mut piece.to_vec(), self.now);
                self.drain();
            }
        }
    }

    /// Everything that the engine has for a socket.
    pub(crate) fn take(&mut self, id: ConnId) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let some = self.take_some(id);
            if some.is_empty() {
                return all;
            }
            all.extend(some);
        }
    }

    /// One offer, taken in two pieces and so to its last byte.
    fn take_some(&mut self, id: ConnId) -> Vec<u8> {
        let runs = self.runs;
        if !self.links[&id].is_open() || !self.links[&id].ready {
            return Vec::new();
        }
        let first = offered(&mut self.engine, id, self.now, runs);
        assert!(
            first == offered(&mut self.engine, id, self.now, runs),
            "{id} was offered other bytes the second time"
        );
        if first.is_empty() {
            self.link(id).ready = false;
            self.drain();
            return first;
        }
        let cut = first.len() / 2;
        if cut > 0 {
            take(&mut self.engine, id, self.now, cut);
            self.drain();
            let rest = offered(&mut self.engine, id, self.now, runs);
            assert!(rest.starts_with(&first[cut..]), "{id} was offered other bytes behind the first");
        }
        take(&mut self.engine, id, self.now, first.len() - cut);
        self.drain();
        first
    }

    /// The socket takes one record. Returns how many bytes that were.
    pub(super) fn pull_record(&mut self, id: ConnId) -> usize {
        let taken = self.take_some(id);
        let link = self.link(id);
        let plain = link.tls.as_mut().expect("it is tls").open(&taken);
        link.outbound.extend(&plain);
        self.trace.write(&plain);
        self.offer.clear();
        taken.len()
    }

    /// The engine reads one record with up to `max` bytes in it. Returns how many, counting an end as one.
    pub(super) fn feed_record(&mut self, id: ConnId, max: usize) -> usize {
        let link = self.links.get_mut(&id).expect("it is open");
        let tls = link.tls.as_mut().expect("it is tls");
        if link.inbound.is_empty() {
            link.fin_told = true;
            let bye = tls.close();
            self.deal(id, &bye);
            self.engine.handle_closed(id, Closed::Input, self.now);
            self.drain();
            return 1;
        }
        let most = if matches!(link.part, Part::Client(_)) { LEAST_WINDOW } else { RECORD };
        let n = link.inbound.len().min(max).min(most);
        let plain: Vec<u8> = link.inbound.drain(..n).collect();
        let sealed = tls.seal(&plain);
        self.trace.write(&plain);
        self.deal(id, &sealed);
        n
    }
}
