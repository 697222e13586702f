//! Lines on streams: what the agent says, and how it refuses.

use vspc_core::mux::{Received, Session, StreamId};
use vspc_guest::{LineBuffer, Refusal};

/// Says a whole line, or nothing where there is no room for it.
pub(crate) fn say(session: &mut Session, id: StreamId, line: &[u8]) -> bool {
    if session.send_window(id) < line.len() {
        // An event tells when there is.
        let _ = session.want_credit(id);
        return false;
    }
    session.write(id, line).is_ok()
}

/// Refuses a stream, and wants no more of it.
pub(crate) fn refuse(session: &mut Session, id: StreamId, refusal: &Refusal) {
    say(session, id, &refusal.line());
    leave(session, id);
}

/// Nothing more is said on a stream, nor wanted of it.
pub(crate) fn leave(session: &mut Session, id: StreamId) {
    let _ = session.finish(id);
    let _ = session.stop_reading(id);
}

/// What there is of a line.
#[derive(Debug)]
pub(crate) enum Line {
    /// The whole of it, or that it is too long.
    Whole(Result<Vec<u8>, Refusal>),
    /// Not all of it yet.
    Part,
    /// The host has closed its direction, or the stream is gone.
    End,
}

/// Takes a line, and nothing that is behind it.
pub(crate) fn take_line(session: &mut Session, id: StreamId, buffer: &mut LineBuffer) -> Line {
    loop {
        let n = match session.received(id) {
            Ok(Received::Bytes(bytes)) => buffer.take(bytes),
            Ok(Received::Pending) => return Line::Part,
            Ok(Received::End) | Err(_) => return Line::End,
        };
        let _ = session.consume(id, n);
        if let Some(line) = buffer.line() {
            let line = line.map(<[u8]>::to_vec);
            if line.is_ok() {
                buffer.clear();
            }
            return Line::Whole(line);
        }
    }
}
