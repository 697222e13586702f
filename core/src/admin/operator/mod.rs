//! The operator protocol's words (operator.md): a JSON object to a line, requests one way, answers and
//! notices the other.
//!
//! Owns how they are written and read, for both ends. Refuses to know what they are about: consoles and
//! rights are the engine's.

mod answer;
mod lines;
mod log;
mod request;
mod rights;

pub use answer::{
    Access, Candidate, Code, Console, Failure, Held, Listing, Listings, Notice, ReloadOutcome, parse_id,
    put_answer, put_failure, put_notice, write_id,
};
pub use lines::{LINE_MAX, Line, Lines};
pub use log::{BrokenRecord, LogQuery, LogRecord, LogRecords, When};
pub use request::{
    ATTACH_DEFAULT, Behalf, Extras, FactsOf, LIST_DEFAULT, LIST_MOST, Mode, Op, ParseError, Place, Request,
    Size, Topic,
};
pub use rights::{Caller, Grant, ParseGrantError, Right, Rule, Rules, User};

use crate::mux::StreamId;

/// The version of the protocol.
pub const VERSION: u32 = 1;

/// The stream that carries requests, answers and notices.
pub const CONTROL: StreamId = StreamId(1);
