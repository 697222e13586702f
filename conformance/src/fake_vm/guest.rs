//! What may run inside a fake VM.

use super::echo::Echo;
use super::gdb_stub::GdbStub;

/// The inside of one serial port: bytes in, bytes out.
#[derive(Debug)]
pub(super) enum Guest {
    /// Greets, prints numbered lines, echoes.
    Echo(Echo),
    /// Speaks only when a debugger asks.
    Gdb(GdbStub),
}

impl Guest {
    /// Starts.
    pub(super) fn boot(&mut self, out: &mut Vec<u8>) {
        match self {
            Self::Echo(echo) => echo.boot(out),
            Self::Gdb(stub) => stub.boot(),
        }
    }

    /// Prints on its own account.
    pub(super) fn line(&mut self, out: &mut Vec<u8>) {
        if let Self::Echo(echo) = self {
            echo.line(out);
        }
    }

    /// Takes what was typed.
    pub(super) fn typed(&mut self, input: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Echo(echo) => echo.typed(input, out),
            Self::Gdb(stub) => stub.received(input, out),
        }
    }

    /// A break arrived on the line.
    pub(super) fn broken(&mut self, out: &mut Vec<u8>) {
        match self {
            Self::Echo(echo) => echo.broken(out),
            Self::Gdb(stub) => stub.interrupt(out),
        }
    }

    /// Goes down.
    pub(super) fn shut_down(&mut self, out: &mut Vec<u8>) {
        if let Self::Echo(echo) = self {
            echo.shut_down(out);
        }
    }
}
