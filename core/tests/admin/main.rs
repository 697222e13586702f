//! The admin protocols from outside: whole dialogues byte by byte, chance, and Python's own pickles.

#![allow(clippy::needless_pass_by_value, reason = "quickcheck passes by value")]

mod chance;
mod python;
mod v3;
