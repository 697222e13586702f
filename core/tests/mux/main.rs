//! The multiplexer from outside: vectors, hostile peers, seeded simulations, a modelled v1 guest, the fuzzers' bodies.

mod fuzz;
mod guest;
mod hostile;
mod line;
mod order;
mod simulation;
mod vectors;
