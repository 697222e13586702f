//! What was typed, on its way to the VM or the line that takes it: which bytes each is offered, in what form.
//!
//! **Owns** the layout of one write: the second half of a pair whose first half is out, then control, then
//! what was typed; and what becomes of a BREAK in the middle of that. **Refuses to know** who typed, and
//! which connection has a console's input.

use std::io::IoSlice;

use crate::telnet::wire_form::{undouble_into, wire_len, wire_prefix};
use crate::telnet::{Command, IAC};

use super::conn::Conn;
use super::consoles::Consoles;
use super::control::Control;
use super::effects::Effects;
use super::id::ConnId;
use super::output::Sent;
use super::remote_ports::RemotePort;

/// Offers to a VM: control, and what was typed if it is this connection that gets it. Returns what came of
/// it, and whether control was taken.
pub(super) fn offer_vm(
    id: ConnId,
    conn: &mut Conn,
    consoles: &mut Consoles,
    fx: &mut Effects,
    take: impl FnOnce(&[IoSlice<'_>]) -> usize,
) -> (Sent, bool) {
    let mut fed = conn.console().and_then(|console| consoles.with_buffers(console));
    let (mut half, mut rest): (&[u8], &[u8]) = (&[], &[]);
    if let Some((console, _)) = &fed
        && console.legs.holder() == Some(id)
    {
        (half, rest) = console.uplink.halves();
        if console.legs.input() != Some(id) {
            rest = &[];
        }
    }
    let taken = offer_in_order(half, &mut conn.control, rest, take);
    if taken.typed > 0
        && let Some((console, buffers)) = &mut fed
    {
        console.input_taken(taken.typed, buffers, fx);
    }
    (taken.sent, taken.control > 0)
}

/// What a socket took of what it was offered in order.
struct Taken {
    sent: Sent,
    /// Of what was typed, the half among it.
    typed: usize,
    control: usize,
}

/// Offers the half of a pair whose first half is out, then control, then what was typed.
fn offer_in_order(
    half: &[u8],
    control: &mut Control,
    rest: &[u8],
    take: impl FnOnce(&[IoSlice<'_>]) -> usize,
) -> Taken {
    let (halves, controls) = (half.len(), control.pending().len());
    let (sent, taken) = offer([half, control.pending(), rest], take);
    let from_half = taken.min(halves);
    let from_control = (taken - from_half).min(controls);
    control.took(from_control);
    Taken { sent, typed: taken - from_control, control: from_control }
}

/// Offers to a line that takes a guest's bytes and nothing else what was typed, if it is this connection that
/// gets it, and then the frames of the streams that it carries, if it does. Commands, such as BREAK, are not
/// for it.
pub(super) fn offer_raw_line(
    id: ConnId,
    conn: &Conn,
    consoles: &mut Consoles,
    scratch: &mut Vec<u8>,
    fx: &mut Effects,
    take: impl FnOnce(&[IoSlice<'_>]) -> usize,
) -> Sent {
    let Some(at) = conn.console() else { return Sent::default() };
    let Some((console, buffers)) = consoles.with_buffers(at) else { return Sent::default() };
    if console.legs.input() != Some(id) {
        return Sent::default();
    }
    let commands = leading_commands(console.uplink.halves().1);
    if commands > 0 {
        console.input_taken(commands, buffers, fx);
    }
    let wire = console.uplink.halves().1;
    let front = &wire[..wire.len().min(2 * LINE_WRITE_MAX)];
    let wire = &wire[..wire_prefix(front).0];
    if wire.is_empty() && console.has_guest {
        return consoles.offer_frames(at, fx, take);
    }
    if wire.is_empty() {
        return Sent::default();
    }
    scratch.clear();
    undouble_into(wire, LINE_WRITE_MAX, scratch);
    let offered = scratch.len();
    let taken = take(&[IoSlice::new(scratch)]).min(offered);
    let (typed, _) = wire_len(wire, taken);
    if typed > 0 {
        console.input_taken(typed, buffers, fx);
    }
    Sent { offered, taken }
}

/// How many bytes at the front of `wire` are commands, of two bytes each as all are that clients can give.
fn leading_commands(wire: &[u8]) -> usize {
    2 * wire.chunks_exact(2).take_while(|pair| pair[0] == IAC && pair[1] != IAC).count()
}

/// Offers a few pieces in order; returns what came of it, and how many bytes were taken.
pub(super) fn offer<const N: usize>(
    pieces: [&[u8]; N],
    take: impl FnOnce(&[IoSlice<'_>]) -> usize,
) -> (Sent, usize) {
    let mut runs = [IoSlice::new(&[]); N];
    let mut count = 0;
    for piece in pieces.into_iter().filter(|piece| !piece.is_empty()) {
        runs[count] = IoSlice::new(piece);
        count += 1;
    }
    let offered = runs[..count].iter().map(|run| run.len()).sum();
    let taken = if offered == 0 { 0 } else { take(&runs[..count]).min(offered) };
    (Sent { offered, taken }, taken)
}

/// Offers to a serial port that is set by RFC 2217: as to a VM, but that commands among what was typed become
/// those of that. Behind a BREAK what was typed waits until it is over, as it does while the port takes
/// nothing.
pub(super) fn offer_port(
    id: ConnId,
    conn: &mut Conn,
    consoles: &mut Consoles,
    port: &mut RemotePort,
    fx: &mut Effects,
    take: impl FnOnce(&[IoSlice<'_>]) -> usize,
) -> Sent {
    let mut fed = conn.console().and_then(|console| consoles.with_buffers(console));
    fed = fed.filter(|(console, _)| console.legs.input() == Some(id));
    if let Some((console, buffers)) = &mut fed {
        while !port.holds()
            && let (&[], &[IAC, command, ..]) = console.uplink.halves()
            && command != IAC
        {
            console.input_taken(2, buffers, fx);
            port.put_command(Command(command), conn.control.buffer());
        }
    }
    let (half, mut rest) = fed.as_ref().map_or((&[][..], &[][..]), |(console, _)| console.uplink.halves());
    rest = &rest[..rest.len().min(PORT_WRITE_MAX)];
    rest = if port.holds() { &[] } else { &rest[..wire_prefix(rest).0] };
    let taken = offer_in_order(half, &mut conn.control, rest, take);
    if taken.typed > 0
        && let Some((console, buffers)) = &mut fed
    {
        console.input_taken(taken.typed, buffers, fx);
    }
    if conn.control.pending().is_empty() {
        port.commands_are_out(id, fx);
    }
    taken.sent
}

/// Most of what was typed that is offered to a serial port in one write.
const PORT_WRITE_MAX: usize = 16 << 10;

/// Most that is put together for one write to a line that takes a guest's bytes alone.
const LINE_WRITE_MAX: usize = 64 << 10;
