//! What the poller calls sockets: a connection by its id, a listener by its id and a bit more.

use mio::Token;
use vspc_core::concentrator::{ConnId, ListenerId};

/// The socket that commands come with: no id has all bits set.
pub(crate) const COMMANDS: Token = Token(usize::MAX);

pub(crate) fn connection_token(id: ConnId) -> Token {
    Token(id.to_bits() as usize)
}

/// The connection that a token names, which must not be a listener's.
pub(crate) fn connection_of(token: Token) -> ConnId {
    ConnId::from_bits(token.0 as u64)
}

/// A listener's id with the bit that no connection's id has.
pub(crate) fn listener_token(id: ListenerId) -> Token {
    Token((id.to_bits() | LISTENER) as usize)
}

/// The listener that a token names; `None` for a connection's.
pub(crate) fn listener_of(token: Token) -> Option<ListenerId> {
    let bits = token.0 as u64;
    (bits & LISTENER != 0).then(|| ListenerId::from_bits(bits & !LISTENER))
}

/// Generations stay below 2^31, so the top bit is free.
const LISTENER: u64 = 1 << 63;

// A token is a whole id.
const _: () = assert!(size_of::<usize>() == size_of::<u64>());
