//! What a host and hyperstart, the init of a VM that containers are in, say to each other on its control
//! channel (docs/protocol/hyperstart.md).
//!
//! Owns messages, commands, the dialogue of a host's end ([`Control`]), and an [`Interpreter`] that makes of
//! such a guest an agent as all others are. The other channel, on which processes' bytes are, is one of
//! [`mux`](crate::mux)'s dialects. Refuses to know sockets, clocks and consoles.
//!
//! ```
//! use vspc_core::hyperstart::{Command, Control, ControlEvent, Process};
//! use vspc_core::time::Instant;
//!
//! let now = Instant::ZERO;
//! let mut control = Control::default();
//! control.handle_opened(now);
//! // What a guest answers: that it has read 8 bytes, and that it has API 4244.
//! let answer = [0, 0, 0, 14, 0, 0, 0, 12, 0, 0, 0, 8, 0, 0, 0, 9, 0, 0, 0, 12, 0, 0, 0x10, 0x94];
//! control.transmit_with(|call| {
//!     assert_eq!(call, [0, 0, 0, 0, 0, 0, 0, 8]);
//!     call.len()
//! });
//! control.handle_received(&answer, now);
//! let Some(ControlEvent::Up(api)) = control.poll_event() else { panic!() };
//! let process = Process { id: "p1".into(), args: vec!["ls".into()], stdio: 1, stderr: 2, ..Process::default() };
//! let asked = control.ask(Command::exec("web", &process, api));
//! assert!(asked.is_ok() && control.has_output());
//! ```

mod command;
mod control;
mod header;
mod interpreter;
mod message;
mod search;
mod task;
mod tasks;

pub use command::{
    Api, Command, Finished, HUP, KILL, NO_CONTAINER, Process, ProcessName, is_id, signal_number,
};
pub use control::{
    Control, ControlCounters, ControlEvent, MOST_ASKED, MOST_UNDER_WAY, MOST_WAITING, Ticket, TooMany,
    WhyDown,
};
pub use header::{Header, MAY, MOST_BODY};
pub use interpreter::{Interpreter, InterpreterConfig};
pub use message::{Code, Decoder, HEADER, MAX_MESSAGE, Message, WrongLength, put};
