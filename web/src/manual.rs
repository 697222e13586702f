//! The manual page.

use std::path::Path;

use clap::CommandFactory;
use vspc_man::Facts;

use crate::options::Options;

/// Prints the page, or writes it into a folder.
pub(crate) fn put(folder: Option<&Path>) -> Result<(), String> {
    vspc_man::put(&vspc_man::pages(Options::command(), &FACTS), folder)
        .map_err(|error| format!("the manual page cannot be written: {error}"))
}

/// What the page has that help does not tell.
const FACTS: Facts<'_> = Facts {
    summary: "consoles of virtual serial port concentrators in a browser and over HTTP",
    sections: &[
        (
            "Exit status",
            &[
                ("0", "It was told to stop (TERM, INT)."),
                ("2", "An option, a file, or the address to listen at cannot be used."),
            ],
        ),
        (
            "Signals",
            &[
                ("TERM, INT", "It ends. Consoles go on: it is one of their clients."),
                ("HUP", "The certificate and the users are read again; what cannot be used changes nothing."),
            ],
        ),
        ("Environment", &[("RUST_LOG", "What is logged, as in `RUST_LOG=debug`.")]),
        ("Files", &[("/etc/default/vspc-web", "`VSPC_WEB_OPTIONS`, with which the service starts it.")]),
    ],
    see_also: &["vspc(1)", "vspc-mio(1)", "vspc(7)"],
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_is_in_the_manual_page() {
        assert_eq!(vspc_man::faults(&Options::command(), &FACTS).unwrap(), "");
    }
}
