//! A relay between real sockets: what goes through, how each side's end reaches the other, and how it speaks
//! for lines.

mod concentrator;
mod ends;
mod ground;
mod kinds;
mod lines;
mod moves;
mod process;
mod reloading;
