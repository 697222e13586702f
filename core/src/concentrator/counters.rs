//! What is counted, per console and in total. All counts only rise.

use std::ops::AddAssign;
use std::time::Duration;

macro_rules! counters {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident,)* }) => {
        $(#[$doc])*
        #[non_exhaustive]
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: u64,)*
        }

        impl $name {
            /// Every counter with its name, in a fixed order.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
                [$((stringify!($field), self.$field),)*].into_iter()
            }
        }

        impl AddAssign for $name {
            fn add_assign(&mut self, rhs: Self) {
                $(self.$field += rhs.$field;)*
            }
        }
    };
}

counters! {
    /// Counts of one console, or of all together. Bytes are guest bytes (IAC not doubled) unless said
    /// otherwise.
    Counters {
        /// Bytes that VMs printed.
        bytes_from_vm,
        /// Bytes taken by the sockets towards clients, in the form they were sent in, each client counted.
        bytes_to_clients,
        /// Bytes read from clients.
        bytes_from_clients,
        /// Bytes taken by the sockets towards VMs, in wire form, but for frames that a line without telnet
        /// takes straight from a guest's session.
        bytes_to_vm,
        /// Bytes that readers skipped because they did not keep up.
        bytes_skipped,
        /// Bytes of clients dropped because no VM was there, or because of somebody's lock.
        input_dropped,
        /// Bytes queued for a VM whose connection ended without a vMotion, in wire form: as the VM would have
        /// read them. Also those read over TLS of a client that has gone, where a full queue had no room.
        input_lost,
        /// Bytes dropped that a source host sent after the VM had moved.
        late_source_bytes,
        /// Bytes, in wire form, dropped because a VM said too much before it said who it is.
        early_bytes_dropped,
        /// Connections put aside because their console had as many as it may have.
        legs_beyond,
        /// Times that a connection took the input from another.
        takeovers,
        /// Protocol faults of peers.
        malformed,
        /// Replies not sent because the peer does not read.
        replies_dropped,
        /// Breaks passed on to VMs.
        breaks,
        /// Clients disconnected because they did not keep up.
        clients_too_slow,
        /// VMOTION-BEGINs taken up.
        vmotions_begun,
        /// Moves that reached VMOTION-COMPLETE.
        vmotions_completed,
        /// Moves ended by VMOTION-ABORT, or replaced by another.
        vmotions_aborted,
        /// VMOTION-BEGINs answered with NOTNOW.
        vmotions_refused,
        /// Moves ended by a timer.
        vmotions_timed_out,
        /// VMOTION-PEERs that fitted no move.
        vmotion_bad_peers,
        /// GOAHEADs sent; with the next two, the latency from BEGIN to the socket taking it.
        goaheads,
        /// Sum of those latencies, in microseconds.
        goahead_micros,
        /// The longest of them, in microseconds. Summing consoles sums these too: read it per console.
        goahead_micros_max,
    }
}

impl Counters {
    /// Notes one GOAHEAD that left `after` its BEGIN.
    pub(crate) fn goahead(&mut self, after: Duration) {
        let micros = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
        self.goaheads += 1;
        self.goahead_micros += micros;
        self.goahead_micros_max = self.goahead_micros_max.max(micros);
    }
}
