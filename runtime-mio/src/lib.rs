//! The concentrator on a hand-rolled epoll loop, for fleets.
//!
//! The engine of `vspc-core` decides everything, `vspc-host` brings options, sockets and logs; what is left
//! to this program is to carry bytes and readiness between the engine and the kernel. [`serve`] does that
//! until a command says stop; the binary, and tests that run a server inside themselves, call it.
#![forbid(unsafe_code)]

mod accept;
mod server;
mod tokens;

pub use server::serve;
