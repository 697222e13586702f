//! Sans-IO protocol core of a virtual serial port concentrator (vSPC).
//!
//! ESXi hosts connect one telnet session per virtual serial port; people, scripts and debuggers connect
//! to the concentrator to use those ports; when a VM moves to another host, the session lives on. All of
//! that is decided here, and none of it touches a socket, a clock, a file or the OS random source: bytes,
//! times and a seed come in, bytes and outputs come out. Two runs with the same seed and the same inputs
//! do the same.
//!
//! ```text
//!             handle_accepted / received / closed / timeout                 what happened
//!   runtime ──────────────────────────────────────────────────▶ Concentrator
//!           ◀──────────────────────────────────────────────────
//!             poll_output   Transmit, Receive, Listen, Close, Event         what to do
//!             transmit      borrowed bytes, offered to the socket           (pulled, never pushed)
//!             receive_window  how much may be read                          (granted, never assumed)
//! ```
//!
//! | module | what |
//! |---|---|
//! | [`telnet`] | RFC 854, 855, 1143: decoder, encoder, option negotiation; knows nothing of VMs |
//! | [`vmware`] | option 232: its messages, one VM's dialogue in both roles |
//! | [`admin`] | who asks from outside: vSPC.py's protocol and others, locks |
//! | [`concentrator`] | the engine: consoles, clients, fan-out, vMotion |
//! | [`hyperstart`] | the control channel of hyperstart, which runs containers in a VM |
//! | [`mux`] | many streams over one serial line, and a link layer for lines that lose bytes |
//! | [`plain`] | what of a console's output is text |
//! | [`proxy_protocol`] | the header by which a proxy says whom it forwards |
//! | [`transport`] | TLS or nothing, between a connection's bytes and its socket's |
//! | [`time`] | the caller's clock |
//!
//! `telnet` and `time` are always there; `vmware`, `admin`, `concentrator` (with `transport`), `mux` and
//! `tls` are Cargo features, all on by default. Telnet alone, and telnet with `vmware` and `admin`, bring no
//! TLS, checksums, hashing or random numbers into the tree.
//!
//! # A whole runtime
//!
//! This is all a runtime has to do. Here the "sockets" are two vectors: a VM that waits to be asked who it
//! is, and nobody at its console yet.
//!
//! ```
//! # #[cfg(feature = "concentrator")] {
//! use std::io::IoSlice;
//! use std::sync::Arc;
//! use vspc_core::concentrator::{Address, Concentrator, Config, ConnId, EventKind, Output, Peer};
//! use vspc_core::time::Instant;
//! use vspc_core::vmware::{Uuid, VmConfig, VmSession};
//!
//! let mut engine = Concentrator::new(Arc::new(Config::default()), [7; 32], Instant::ZERO);
//! let vc_uuid = Some(Uuid::from_bytes([1; 16]));
//! let mut vm = VmSession::new(VmConfig { name: "web01".into(), vc_uuid, ..VmConfig::default() });
//! let mut vm_conn: Option<ConnId> = None;
//! let mut log = Vec::new();
//!
//! for millis in 0..100 {
//!     let now = Instant::from_millis(millis);
//!     // 1. Tell the engine what has happened: here, what the VM's end of the "socket" has to say.
//!     if let Some(id) = vm_conn {
//!         let window = engine.receive_window(id);
//!         let mut bytes = Vec::new();
//!         vm.transmit(|said| {
//!             bytes.extend_from_slice(&said[..window.min(said.len())]);
//!             bytes.len()
//!         });
//!         engine.handle_received(id, &mut bytes, now);
//!     }
//!     engine.handle_timeout(now);
//!     // 2. Do what it asks for.
//!     while let Some(output) = engine.poll_output() {
//!         match output {
//!             Output::Listen(id, address) => {
//!                 engine.handle_listening(id, Ok(address.clone()), now);
//!                 if vm_conn.is_none() {
//!                     vm_conn = engine.handle_accepted(id, Peer::new(address), now);
//!                 }
//!             }
//!             Output::Transmit(id) => {
//!                 // A real runtime calls `write_vectored` here, and stops when the socket is full.
//!                 let mut write = |runs: &[IoSlice<'_>]| {
//!                     runs.iter().for_each(|run| vm.handle_received(run, &mut Vec::new()));
//!                     runs.iter().map(|run| run.len()).sum()
//!                 };
//!                 while !engine.transmit(id, now, &mut write).is_idle() {}
//!             }
//!             Output::Event(event) => log.push(event.kind),
//!             _ => {}
//!         }
//!     }
//! }
//! assert!(log.contains(&EventKind::VmIdentified));
//! assert_eq!(engine.consoles().next().unwrap().label.name, "web01");
//! # }
//! ```

#![forbid(unsafe_code)]

#[cfg(feature = "admin")]
pub mod admin;
#[cfg(feature = "concentrator")]
pub mod concentrator;
#[cfg(feature = "concentrator")]
pub mod hyperstart;
#[cfg(any(feature = "concentrator", feature = "mux"))]
mod keyed;
#[cfg(feature = "mux")]
pub mod mux;
#[cfg(feature = "operator")]
pub mod network;
pub mod pattern;
pub mod plain;
#[cfg(feature = "concentrator")]
pub mod proxy_protocol;
pub mod telnet;
pub mod time;
#[cfg(feature = "concentrator")]
pub mod transport;
#[cfg(feature = "vmware")]
pub mod vmware;
