//! One definition of what both servers must do, run against each by `runtime-*/tests/server.rs`.
//!
//! Each test starts the built binary on ports of the system's choosing, reads its log to learn where it
//! listens, and plays hosts and clients over loopback. Nothing here waits for a length of time: it waits
//! for a line, a byte, an end, and gives up after [`process::PATIENCE`].

mod admin_socket;
mod fairness;
mod front_door;
mod leaving;
mod locking;
mod peer;
mod process;
mod programs;
mod refusing;
#[cfg(feature = "tls")]
mod secure;
mod serving;
mod stalling;
mod stopping;
mod takeover;
#[cfg(feature = "tls")]
mod tls;
#[cfg(feature = "tls")]
mod tls_files;
#[cfg(feature = "tls")]
mod tls_programs;
mod watching;
