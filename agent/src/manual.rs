//! The manual page.

use std::path::Path;

use clap::CommandFactory;
use vspc_man::Facts;

use crate::args::Options;
use crate::fatal::Fatal;

/// Prints the page, or writes it into a folder.
pub(crate) fn put(folder: Option<&Path>) -> Result<(), Fatal> {
    vspc_man::put(&vspc_man::pages(Options::command(), &FACTS), folder)
        .map_err(|error| Fatal::System("write the manual page", error))
}

/// What the page has that help does not tell.
const FACTS: Facts<'_> = Facts {
    summary: "agent in a VM, for shells, processes and logs over one serial line",
    sections: &[
        (
            "Exit status",
            &[
                ("0", "It was told to stop (TERM, INT)."),
                ("1", "The system cannot do what every Linux can, or the agent that runs refuses something."),
                ("2", "An option or a file cannot be used."),
            ],
        ),
        ("Environment", &[("RUST_LOG", "What is logged, as in `RUST_LOG=debug`.")]),
    ],
    see_also: &["vspc-mio(1)", "vspc(7)"],
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_is_in_the_manual_page() {
        assert_eq!(vspc_man::faults(&Options::command(), &FACTS).unwrap(), "");
    }
}
