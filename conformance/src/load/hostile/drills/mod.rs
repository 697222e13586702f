//! All drills, in the order in which they are played.

mod consoles;
mod descriptors;
mod floods;
mod identity;
mod legs;
mod memory;
mod noise;

use super::drill::Drill;

/// Every drill but the mixed one.
pub(super) const DRILLS: &[Drill] = &[
    consoles::PORTS,
    consoles::DESCRIPTORS,
    consoles::MEMORY,
    descriptors::STRANGERS,
    descriptors::CLIENTS,
    descriptors::HANDSHAKES,
    descriptors::SLOW,
    legs::LEGS,
    legs::TEMPLATE,
    identity::TAKEOVER,
    identity::ORPHAN,
    identity::CLONES,
    noise::NEGOTIATION,
    noise::LOG,
    noise::CONNECTS,
    noise::GARBAGE,
    noise::TLS_GARBAGE,
    memory::EARLY,
    memory::NOTNOW,
    memory::STALLED,
    memory::DEPARTED,
    floods::HANDSHAKES,
    floods::QUITS,
    floods::STORM,
];
