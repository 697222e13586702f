//! What is wrong with pages, for the tests of programs that have some: options that are missing, and what
//! mandoc(1) finds.

use std::env;
use std::io::{self, ErrorKind, Write};
use std::process::{Command, Stdio};

use crate::roff::bold;
use crate::{Facts, Page, pages};

/// What is wrong with the pages of a program, a line for each fault: commands without a page, options that
/// are not in the page of their command, and what [`lint`] finds.
///
/// # Errors
///
/// mandoc cannot be run.
pub fn faults(command: &clap::Command, facts: &Facts<'_>) -> io::Result<String> {
    let pages = pages(command.clone(), facts);
    Ok(forgotten(command, command.get_name(), &pages) + &lint(&pages)?)
}

/// What is not in the page of a command that is called `name` there, or in those of the commands below it.
pub(crate) fn forgotten(command: &clap::Command, name: &str, pages: &[Page]) -> String {
    let Some(page) = pages.iter().find(|page| page.name() == name) else {
        return format!("{name}: no page\n");
    };
    let shown = command.get_arguments().filter(|arg| !arg.is_hide_set());
    let mut faults: String = shown
        .filter_map(|arg| arg.get_long())
        .filter(|long| !page.text().contains(&bold(&format!("--{long}"))))
        .map(|long| format!("{}: no --{long}\n", page.file()))
        .collect();
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        faults += &forgotten(below, &format!("{name}-{}", below.get_name()), pages);
    }
    faults
}

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
