//! Who may come in, and who has to leave for it when descriptors run short.
//!
//! Owns: how many descriptors the connections hold, and every connection that is nobody yet: one that has not
//! said which VM it is, or a client whose TLS handshake is not done. Refuses to know: what a connection is
//! made of, its bytes, its timers. The engine tells what happened to whom and asks for a verdict.
//!
//! Nobody is turned away while there are descriptors. When there are none, the first of these leaves:
//!
//! ```text
//!   1  Overdue    has sent nothing for 2 s since its socket took our opening
//!   2  Noise      has sent something, but nothing of the VMware option or TLS; after a grace
//!   3  Silent     has sent nothing yet; after a grace
//!   4  Dialogue   has begun to say who it is; only if it has been at it for 5 s
//!   5             otherwise the newcomer is refused
//! ```
//!
//! Within a class the address that has the most such connections gives up the one that has waited longest:
//! a crowd behind one address does not push out others, and a fleet behind the address of a crowd is not
//! confused with it, because it answers. Who has a UUID or is attached to a console is never judged here;
//! where such hold everything, client ports of VMs that have hardly been there are closed for the newcomer
//! (`Concentrator::shed_ports`).
//!
//! Every call costs at most the logarithm of how many are nobody yet, times a constant. Memory is that of
//! those connections: about 200 bytes each, all of it given back when they are somebody or gone.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use crate::time::Instant;

use super::address::Address;
use super::id::ConnId;

/// The descriptors, and who holds them without having said who it is.
#[derive(Debug)]
pub(super) struct Admission {
    /// Descriptors that connections, listeners and what is reserved may take together.
    limit: usize,
    /// A VM takes a second descriptor, for its console's client port.
    ports: bool,
    /// Connections that hold a descriptor, by kind.
    open: [usize; KINDS],
    /// Those of them that are nobody yet, by kind.
    waiting: [usize; KINDS],
    entries: BTreeMap<ConnId, Entry>,
    crowds: [[Crowd; STAGES]; KINDS],
    /// All that are [`Stage::Silent`], the first to become overdue first.
    silent: BTreeSet<(Instant, ConnId)>,
}

/// On which side a connection came in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// Where hosts connect: possibly a VM.
    Vm,
    /// On a console's client port.
    Client,
}

/// What a connection that is nobody yet has sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Heard {
    /// Something, but nothing that a VM or a TLS client begins with.
    Noise,
    /// Something of the VMware option, or TLS.
    Dialogue,
}

/// What is to become of a newcomer.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// There is room.
    Admit,
    /// Close this connection, then ask again.
    Evict(ConnId),
    /// There is no room, and nobody who would have to leave for this one.
    Refuse,
}

/// Where a connection comes from: an IPv4 address, an IPv6 /64, which is what one owner has at the least, a
/// user of this machine, or a virtual machine on it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Source {
    /// Whatever has no address.
    Nowhere,
    /// This address, or this network's first.
    Net(IpAddr),
    /// A process of this user, on a unix socket.
    User(u32),
    /// A virtual machine, or the host of this one, on a vsock socket.
    Context(u32),
    /// A target that we have connected to, by a number that stands for it.
    Target(u64),
}

impl Source {
    /// The source of connections from an address.
    pub(super) fn of(address: &Address) -> Self {
        match address {
            Address::User(uid) => Self::User(*uid),
            Address::Vsock { cid, .. } => Self::Context(*cid),
            Address::Target(target) => Self::Target(target.number()),
            other => other.ip().map_or(Self::Nowhere, Self::from),
        }
    }

    /// The address; of an IPv6 network the first.
    pub(super) fn ip(self) -> Option<IpAddr> {
        match self {
            Self::Net(ip) => Some(ip),
            Self::Nowhere | Self::User(_) | Self::Context(_) | Self::Target(_) => None,
        }
    }
}

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        Self::Net(match address.to_canonical() {
            IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & V6_NETWORK).into(),
            v4 @ IpAddr::V4(_) => v4,
        })
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    kind: Kind,
    source: Source,
    stage: Stage,
    /// When it came, when its socket took our opening, or when its dialogue began.
    since: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// Our opening is still with us: not judged, whatever the time.
    Greeting,
    Silent,
    Overdue,
    Noise,
    Dialogue,
}

impl Admission {
    /// Nobody is there. `limit` descriptors may be taken; with `ports` a VM needs two of them.
    pub(super) fn new(limit: usize, ports: bool) -> Self {
        Self {
            limit,
            ports,
            open: [0; KINDS],
            waiting: [0; KINDS],
            entries: BTreeMap::new(),
            crowds: Default::default(),
            silent: BTreeSet::new(),
        }
    }

    /// Whether a connection of this kind may come in beside so many listeners. A client port is reserved for
    /// each possible VM, but for so many as are open to `spare`: those of consoles without a VM, which are
    /// theirs who come again. Who comes for the first time has its port when there is a descriptor. `Evict`
    /// always names a connection that is nobody yet: the engine closes that one and asks again.
    pub(super) fn judge(
        &mut self,
        kind: Kind,
        from: Source,
        listeners: usize,
        spare: usize,
        now: Instant,
    ) -> Verdict {
        self.age(now);
        let newcomers = usize::from(kind == Kind::Vm);
        let taken = self.held(listeners) + self.reserved(newcomers).saturating_sub(spare);
        let victim = if kind == Kind::Client && self.open[kind as usize] >= self.clients_limit() {
            self.victim(&[Kind::Client], from, now)
        } else if taken >= self.limit {
            self.victim(&[Kind::Vm, Kind::Client], from, now)
        } else {
            return Verdict::Admit;
        };
        victim.map_or(Verdict::Refuse, Verdict::Evict)
    }

    /// Whether one of this kind was refused because descriptors are short, and not for its kind's share of
    /// them.
    pub(super) fn lacks_descriptor(&self, kind: Kind) -> bool {
        kind == Kind::Vm || self.open[kind as usize] < self.clients_limit()
    }

    /// Whether client ports may be closed for a newcomer that was refused: only where next to nobody is
    /// nobody yet. A crowd of strangers must not take the ports of VMs as well.
    pub(super) fn may_shed_ports(&self) -> bool {
        2 * self.waiting.iter().sum::<usize>() <= self.batch()
    }

    /// How many client ports are closed in one go, so that choosing them costs each newcomer little.
    pub(super) fn batch(&self) -> usize {
        (self.limit / SHED_PART).max(2)
    }

    /// Whether a console that waits for its client port can have a descriptor for it, beside so many
    /// listeners of which nobody uses those to `spare`: the last eighth is left to newcomers, or they would
    /// take it away again.
    pub(super) fn has_room_for_port(&self, listeners: usize, spare: usize) -> bool {
        let taken = self.held(listeners) + self.reserved(0).saturating_sub(spare);
        taken < self.limit - self.limit / VMS_PART
    }

    /// A connection has come in and is nobody yet. `speaks_first`: its silence counts from now on.
    pub(super) fn admit(&mut self, id: ConnId, kind: Kind, source: Source, speaks_first: bool, now: Instant) {
        self.open[kind as usize] += 1;
        let stage = if speaks_first { Stage::Silent } else { Stage::Greeting };
        self.insert(id, Entry { kind, source, stage, since: now });
    }

    /// Its socket has taken what we open with.
    pub(super) fn greeted(&mut self, id: ConnId, now: Instant) {
        if let Some(entry) = self.entries.get(&id)
            && entry.stage == Stage::Greeting
        {
            self.restage(id, Entry { stage: Stage::Silent, since: now, ..*entry });
        }
    }

    /// It has sent something.
    pub(super) fn heard(&mut self, id: ConnId, what: Heard, now: Instant) {
        let Some(&entry) = self.entries.get(&id) else { return };
        match (entry.stage, what) {
            (Stage::Dialogue, _) | (Stage::Noise, Heard::Noise) => {}
            (_, Heard::Noise) => self.restage(id, Entry { stage: Stage::Noise, ..entry }),
            // What it is given time for begins now.
            (_, Heard::Dialogue) => self.restage(id, Entry { stage: Stage::Dialogue, since: now, ..entry }),
        }
    }

    /// A connection is somebody now, or is being closed: it cannot be evicted any more. Its descriptor stays
    /// taken.
    pub(super) fn stop_judging(&mut self, id: ConnId) {
        if let Some(entry) = self.entries.remove(&id) {
            self.waiting[entry.kind as usize] -= 1;
            self.leave_crowd(id, &entry);
        }
    }

    /// A VM's connection that was somebody is nobody again, and has nothing to say who it is.
    pub(super) fn judge_again(&mut self, id: ConnId, source: Source, now: Instant) {
        self.stop_judging(id);
        self.insert(id, Entry { kind: Kind::Vm, source, stage: Stage::Noise, since: now });
    }

    /// Its descriptor is free.
    pub(super) fn gone(&mut self, id: ConnId, kind: Kind) {
        self.stop_judging(id);
        self.open[kind as usize] -= 1;
    }

    /// Whether there is a descriptor that nobody holds, whatever is reserved.
    pub(super) fn is_one_free(&self, listeners: usize) -> bool {
        self.held(listeners) < self.limit
    }

    /// How many client ports possible VMs will need, and so many newcomers.
    fn reserved(&self, newcomers: usize) -> usize {
        if self.ports { self.waiting[Kind::Vm as usize] + newcomers } else { 0 }
    }

    /// The descriptors that connections and so many listeners hold.
    fn held(&self, listeners: usize) -> usize {
        self.open.iter().sum::<usize>() + listeners
    }

    /// How many descriptors clients may hold.
    fn clients_limit(&self) -> usize {
        self.limit - self.limit / VMS_PART
    }

    /// Who leaves for a newcomer.
    fn victim(&self, among: &[Kind], from: Source, now: Instant) -> Option<ConnId> {
        if let Some((first, _)) = self.first(Stage::Overdue, among) {
            return Some(first);
        }
        for stage in [Stage::Noise, Stage::Silent] {
            let Some((first, entry)) = self.first(stage, among) else { continue };
            let crowd = &self.crowds[entry.kind as usize][stage as usize];
            let has_more = crowd.count(entry.source) > crowd.count(from) + 1;
            if has_more || now >= entry.since + GRACE {
                return Some(first);
            }
        }
        let (first, entry) = self.first(Stage::Dialogue, among)?;
        (now >= entry.since + STALLED).then_some(first)
    }

    /// The longest waiting of the address that has the most in this stage.
    fn first(&self, stage: Stage, among: &[Kind]) -> Option<(ConnId, &Entry)> {
        let crowds = among.iter().map(|&kind| &self.crowds[kind as usize][stage as usize]);
        let (_, id) = crowds.filter_map(Crowd::first).max_by_key(|&(count, _)| count)?;
        Some((id, self.entries.get(&id)?))
    }

    /// Moves those whose time to say something has passed: a few per call, longest silent first. Of a crowd
    /// that nobody has judged for long the oldest come up first, whatever their address.
    fn age(&mut self, now: Instant) {
        for _ in 0..AGED_PER_CALL {
            let Some(&(since, id)) = self.silent.first() else { return };
            if now < since + PATIENCE {
                return;
            }
            let Some(&entry) = self.entries.get(&id) else { return };
            self.restage(id, Entry { stage: Stage::Overdue, ..entry });
        }
    }

    fn insert(&mut self, id: ConnId, entry: Entry) {
        self.waiting[entry.kind as usize] += 1;
        self.join_crowd(id, &entry);
        self.entries.insert(id, entry);
    }

    fn restage(&mut self, id: ConnId, entry: Entry) {
        if let Some(old) = self.entries.insert(id, entry) {
            self.leave_crowd(id, &old);
        }
        self.join_crowd(id, &entry);
    }

    fn join_crowd(&mut self, id: ConnId, entry: &Entry) {
        self.crowds[entry.kind as usize][entry.stage as usize].insert(entry.source, entry.since, id);
        if entry.stage == Stage::Silent {
            self.silent.insert((entry.since, id));
        }
    }

    fn leave_crowd(&mut self, id: ConnId, entry: &Entry) {
        self.crowds[entry.kind as usize][entry.stage as usize].remove(entry.source, entry.since, id);
        if entry.stage == Stage::Silent {
            self.silent.remove(&(entry.since, id));
        }
    }
}

/// Connections in one stage, by address.
#[derive(Debug, Default)]
struct Crowd {
    /// Of each address the longest waiting first.
    members: BTreeSet<(Source, Instant, ConnId)>,
    counts: BTreeMap<Source, usize>,
    /// The addresses by how many they have.
    ranking: BTreeSet<(usize, Source)>,
}

impl Crowd {
    fn count(&self, source: Source) -> usize {
        self.counts.get(&source).copied().unwrap_or(0)
    }

    /// How many the address with the most has, and the longest waiting of them.
    fn first(&self) -> Option<(usize, ConnId)> {
        let &(count, source) = self.ranking.last()?;
        let nobody = ConnId { index: 0, generation: 0 };
        let &(_, _, id) = self.members.range((source, Instant::ZERO, nobody)..).next()?;
        Some((count, id))
    }

    fn insert(&mut self, source: Source, since: Instant, id: ConnId) {
        if self.members.insert((source, since, id)) {
            self.recount(source, self.count(source) + 1);
        }
    }

    fn remove(&mut self, source: Source, since: Instant, id: ConnId) {
        if self.members.remove(&(source, since, id)) {
            self.recount(source, self.count(source) - 1);
        }
    }

    fn recount(&mut self, source: Source, count: usize) {
        self.ranking.remove(&(self.count(source), source));
        if count == 0 {
            self.counts.remove(&source);
        } else {
            self.counts.insert(source, count);
            self.ranking.insert((count, source));
        }
    }
}

const KINDS: usize = Kind::Client as usize + 1;
const STAGES: usize = Stage::Dialogue as usize + 1;

/// Clients never take the last eighth of the descriptors: VMs find room however many people watch.
const VMS_PART: usize = 8;

/// A thirty-second of the descriptors is freed at once where client ports are closed for newcomers.
const SHED_PART: usize = 32;

/// How long a connection may say nothing once our opening is in its socket. A VM answers in one round trip;
/// two seconds are more than any network and a retransmission need.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long one that has not begun like a VM is left alone at the least, unless its address has more such
/// than the newcomer's: under a flood a VM of the same address can answer in it, and what its guest prints
/// first does not count against it. Several round trips within a site; with much more, a crowd that fills the
/// descriptors at once would keep everybody else out for that long.
const GRACE: Duration = Duration::from_millis(10);

/// A VM that has begun and not ended by then has stopped: it is asked after 2 s, and has been asked.
const STALLED: Duration = Duration::from_secs(5);

/// How many are moved to the overdue per verdict. One newcomer needs one of them; the more are moved, the
/// sooner the addresses are ranked as they are. All of 10 000 are after 160 newcomers.
const AGED_PER_CALL: usize = 64;

/// The network part of an IPv6 address.
const V6_NETWORK: u128 = !0 << 64;

#[cfg(test)]
#[path = "admission_tests.rs"]
mod tests;
