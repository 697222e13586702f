//! The multiplexer from outside: vectors, hostile peers, seeded simulations, a modelled v1 guest, the
//! fuzzers' bodies.
#![allow(
    clippy::disallowed_methods,
    reason = "tests take their seed from the environment and their corpus from files"
)]

mod attack;
mod bounds;
mod carriers;
mod fuzz;
mod growth;
mod guest;
mod hostile;
mod line;
mod line_time;
mod link_vectors;
mod lost_peer;
mod noise;
mod order;
mod payload;
mod races;
mod restarts;
mod simulation;
mod trunk;
mod vectors;
