//! Names for things that come and go: a slot number with a generation, so that a late word about a dead
//! connection is a no-op and never reaches the one that lives in its slot now.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name {
            pub(crate) index: u32,
            pub(crate) generation: u32,
        }

        impl $name {
            /// The slot, small and dense: good for indexing a runtime's own table.
            #[must_use]
            pub const fn index(self) -> usize {
                self.index as usize
            }

            /// Both halves in one word, for a poller's token.
            #[must_use]
            pub const fn to_bits(self) -> u64 {
                (self.generation as u64) << 32 | self.index as u64
            }

            /// The id that [`to_bits`](Self::to_bits) was taken from.
            #[must_use]
            pub const fn from_bits(bits: u64) -> Self {
                Self { index: bits as u32, generation: (bits >> 32) as u32 }
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}.{}"), self.index, self.generation)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self, f)
            }
        }
    };
}

id!(
    /// One connection: a VM's, a client's, or a local consumer's. Generations stay below 2^31, so a
    /// runtime may use the top bit of [`to_bits`](Self::to_bits) for itself.
    ConnId, "c"
);
id!(
    /// One listening socket. Generations stay below 2^31, as for [`ConnId`].
    ListenerId, "l"
);
id!(
    /// One console: a serial port of a VM, with its clients, its journal and its client port.
    ConsoleId, "k"
);

/// Names one move; unknown outside the engine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct MoveId {
    pub(super) index: u32,
    pub(super) generation: u32,
}
