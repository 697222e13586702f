//! What waits for a stream, as bits: the words that it has to send, the events that were not polled.
//!
//! Owns the two alphabets, each a type of its own, so that an event cannot be put among the words. Refuses to
//! know what any of them does.

macro_rules! bits {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub(super) struct $name(u8);

        impl $name {
            /// Whether all of `other` is in it.
            pub(super) const fn has(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }

            /// Adds `other`.
            pub(super) fn set(&mut self, other: Self) {
                self.0 |= other.0;
            }

            /// Takes `other` out; returns whether it was in.
            pub(super) fn take(&mut self, other: Self) -> bool {
                let had = self.has(other);
                self.0 &= !other.0;
                had
            }

            /// Whether nothing waits.
            pub(super) const fn is_empty(self) -> bool {
                self.0 == 0
            }
        }
    };
}

bits! {
    /// Words that a stream has to send, besides ACK, which is counted.
    Words
}

bits! {
    /// Events of a stream that were not polled.
    Pending
}

impl Words {
    /// REQUEST.
    pub(super) const REQUEST: Self = Self(0x01);
    /// REWIND.
    pub(super) const REWIND: Self = Self(0x02);
    /// CLOSE, or v1's end of file.
    pub(super) const CLOSE: Self = Self(0x04);
    /// v1's exit code.
    pub(super) const EXIT: Self = Self(0x08);
    /// The empty word that opens a stream without a byte.
    pub(super) const OPEN: Self = Self(0x10);
    /// RESET. The only word that a dead stream may have to send.
    pub(super) const RESET: Self = Self(0x20);
    /// GROW.
    pub(super) const GROW: Self = Self(0x40);
}

impl Pending {
    /// The peer opened it.
    pub(super) const OPENED: Self = Self(0x01);
    /// Something to read.
    pub(super) const READABLE: Self = Self(0x02);
    /// Room to write.
    pub(super) const WRITABLE: Self = Self(0x04);
    /// v1's exit code came.
    pub(super) const EXITED: Self = Self(0x08);
    /// What is written could leave at once.
    pub(super) const CREDIT: Self = Self(0x10);
    /// The end.
    pub(super) const DEAD: Self = Self(0x20);
}
