//! The manual pages of a server: its own, made of its command line, and vspc.toml(5), made of the keys.
//!
//! **Owns** what these pages have that neither tells. **Refuses to know** how pages look.

use clap::Command;
use vspc_man::{Facts, Page, sentence};

use super::keys::{Key, Kind};
use super::print;

/// The server's page, those of its commands, and that of the configuration file.
pub(super) fn pages(command: Command, keys: &[Key]) -> Vec<Page> {
    let mut pages = vspc_man::pages(command, &FACTS);
    pages.push(file(keys));
    pages
}

fn file(keys: &[Key]) -> Page {
    let mut page = Page::new("vspc.toml", 5, "configuration of a virtual serial port concentrator");
    page.heading("Description");
    page.paragraphs(DESCRIPTION);
    page.heading("Example");
    page.verbatim(EXAMPLE);
    page.heading("Keys");
    let mut heading = "";
    for key in keys {
        if key.heading != heading {
            heading = &key.heading;
            page.subheading(heading);
        }
        let mut text = sentence(&key.help);
        if !key.choices.is_empty() {
            text += &format!(" One of {}.", key.choices.join(", "));
        }
        if key.kind == Kind::Value && key.default.is_empty() {
            text += " Not set by default.";
        }
        page.item(&print::by_default(key), &format!("{text} Variable: `{}`.", key.variable()));
    }
    page.heading("Files");
    page.item("/etc/vspc/vspc.toml", "The file that is read if it is there and no other is named.");
    page.heading("Environment");
    page.item("VSPC_CONFIG", "Names the file, as `--config` does.");
    page.item("SUPPORT_MULTI_CONSOLE, VM_CLIENT_LIMIT", VSPCPYS_VARIABLES);
    let others = ["vspc-mio(1)", "vspc-smol(1)", "vspc(7)"];
    page.see_also(&others.map(str::to_owned));
    page
}

const FACTS: Facts<'_> = Facts {
    summary: "virtual serial port concentrator",
    sections: &[
        (
            "Files",
            &[
                ("/etc/vspc/vspc.toml", "Options, if the file is there; see vspc.toml(5)."),
                ("/var/lib/vspc", "Where the service keeps its state, if it is told to keep any."),
                ("/run/vspc", "Where an admin socket has its place."),
            ],
        ),
        (
            "Environment",
            &[
                ("VSPC_...", "Each option: its name in capitals, with `_` for `-`, like `VSPC_PROXY_PORT`."),
                ("VSPC_CONFIG", "As `--config`."),
                ("RUST_LOG", "What is logged; wins over `--debug`."),
                (
                    "NOTIFY_SOCKET, WATCHDOG_USEC",
                    "Set by a service manager that wants to hear when the server serves, and that its loop \
                     goes round; see sd_notify(3).",
                ),
            ],
        ),
    ],
    see_also: &["vspc.toml(5)", "vspc(1)", "vspc-conformance(1)", "vspc(7)"],
};

const DESCRIPTION: &str = "Each option of vspc-mio(1) and vspc-smol(1) may stand in four places. Where \
    several say something, the first in this list wins: the command line (`--proxy-port 13370`), the \
    environment (`VSPC_PROXY_PORT=13370`), this file (`proxy-port = 13370`), the default.\n\n\
    The file is TOML. Each key is the name of an option without its dashes, at the top level: there are no \
    sections. Text stands in quotes, numbers need none; sizes with a letter are text (`\"256M\"`). What has \
    no value on the command line is true or false. An option that may be repeated takes one value or a \
    list.\n\n\
    A key that is no option is refused, and so is a value that its option does not take; a server that finds \
    a fault does not start. `--check-config` tells all faults with their lines, `--print-config` prints what \
    holds and where it comes from, and `--print-default-config` prints a file with every key, explained.\n\n\
    In the environment a flag is `true`, `yes`, `on` or `1`, or `false`, `no`, `off` or `0`, and a list has \
    commas between its values.";

const EXAMPLE: &str = "proxy-iface = [\"10.0.0.5\", \"2001:db8::5\"]\n\
    interface = \"0.0.0.0\"\n\
    port-range-start = 20000\n\
    port-range-end = 29999\n\
    journal-memory = \"1G\"\n\
    multi-console = true";

const VSPCPYS_VARIABLES: &str = "vSPC.py's variables for `multi-console` and `max-clients`. They win over \
    the file, and over nothing else.";
