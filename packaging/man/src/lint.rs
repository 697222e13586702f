//! What mandoc(1) finds wrong with pages, for the tests of programs that have some.

use std::env;
use std::io::{self, ErrorKind, Write};
use std::process::{Command, Stdio};

use crate::Page;

/// What is wrong with these pages, a line for each fault. Where mandoc is not installed nothing is, unless
/// `VSPC_REQUIRE_PEERS` asks for it.
///
/// # Errors
///
/// mandoc cannot be run.
pub fn lint(pages: &[Page]) -> io::Result<String> {
    let mut faults = String::new();
    for page in pages {
        let mandoc = Command::new("mandoc")
            .args(["-T", "lint", "-W", "warning"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut mandoc = match mandoc {
            Err(error)
                if error.kind() == ErrorKind::NotFound && env::var_os("VSPC_REQUIRE_PEERS").is_none() =>
            {
                eprintln!("skipped: no mandoc");
                return Ok(String::new());
            }
            mandoc => mandoc?,
        };
        if let Some(mut input) = mandoc.stdin.take() {
            input.write_all(page.text().as_bytes())?;
        }
        let output = mandoc.wait_with_output()?;
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            faults += &format!("{}: {line}\n", page.file());
        }
    }
    Ok(faults)
}
