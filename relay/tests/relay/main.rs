//! A relay between real sockets: what goes through, and how each side's end reaches the other.

mod ends;
mod ground;
mod kinds;
mod process;
