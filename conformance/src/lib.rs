//! Transcripts, simulations and peers for the protocols of a virtual serial port concentrator.

pub mod mux;
