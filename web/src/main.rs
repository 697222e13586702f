//! The program; what it is made of is the library's, so that a fuzzer can have it as well.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    vspc_web::run_program()
}
