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
    summary: "carries connections of serial ports on to a virtual serial port concentrator",
    sections: &[
        (
            "Exit status",
            &[
                ("0", "It was told to stop (TERM, INT), and has ended in order."),
                ("1", "The system cannot do what every Linux can, or a relay what `migrate` asks of it."),
                ("2", "An option, the file, a certificate or an address cannot be used."),
            ],
        ),
        (
            "Signals",
            &[
                ("TERM, INT", "It ends in order, within three seconds; a second one ends it at once."),
                ("HUP", "The file and all certificates are read again; what cannot be used changes nothing."),
            ],
        ),
        (
            "Environment",
            &[
                ("RUST_LOG", "What is logged, as in `RUST_LOG=debug`."),
                ("NOTIFY_SOCKET, WATCHDOG_USEC", "The service manager that is told how it is: sd_notify(3)."),
            ],
        ),
    ],
    see_also: &["vspc-mio(1)", "vspc(1)", "vspc(7)"],
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_is_in_the_manual_page() {
        assert_eq!(vspc_man::faults(&Options::command(), &FACTS).unwrap(), "");
    }
}
