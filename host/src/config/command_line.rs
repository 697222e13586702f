//! The command line as people give it. A flag there may be denied (`--multi-console=false`), because a file
//! or the environment may have set it; clap knows flags that stand or do not.

use std::ffi::OsString;

use clap::Command;

use super::keys::{Key, Kind};
use super::vspcpy;

/// A command line that clap can read.
#[derive(Debug)]
pub(super) struct CommandLine {
    /// The program's name first.
    args: Vec<OsString>,
    /// The ids of flags that are denied.
    denied: Vec<String>,
    /// What is to be said of its spellings.
    notes: Vec<String>,
}

impl CommandLine {
    pub(super) fn new(
        args: impl IntoIterator<Item: Into<OsString>>,
        command: &Command,
        keys: &[Key],
    ) -> Self {
        let (mut kept, mut denied) = (Vec::new(), Vec::new());
        let mut args = args.into_iter().map(Into::into);
        for arg in args.by_ref() {
            let text = arg.to_str().unwrap_or_default();
            let flag = text.strip_prefix("--").and_then(|text| text.split_once('='));
            let flag = flag.and_then(|(name, value)| {
                let key = keys.iter().find(|key| key.kind == Kind::Flag && key.name == name)?;
                Some((key, value))
            });
            match flag {
                Some((key, "true")) => kept.push(format!("--{}", key.name).into()),
                Some((key, "false")) => denied.push(key.id.clone()),
                _ => {
                    // What follows is the subcommand's.
                    let ends = command.find_subcommand(text).is_some();
                    kept.push(arg);
                    if ends {
                        break;
                    }
                }
            }
        }
        let (mut kept, notes) = vspcpy::translate(kept);
        kept.extend(args);
        Self { args: kept, denied, notes }
    }

    pub(super) fn args(&self) -> Vec<OsString> {
        self.args.clone()
    }

    pub(super) fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }

    /// Says that this flag is not to be.
    pub(super) fn denies(&self, key: &Key) -> bool {
        self.denied.contains(&key.id)
    }
}

/// What help ends with.
pub(super) fn examples(program: &str) -> String {
    format!(
        "\
Examples:
  {program}
      serve all VMs; `telnet localhost 50000` is the first one's console
  {program} --interface 0.0.0.0 --port-range-start 20000 --port-range-end 29999
      let clients in from the network, on ports a firewall can know
  {program} --proxy-iface :: --multi-console --vm-port-scrollback 4K
      IPv4 and IPv6; several serial ports per VM; show new clients what came last

Signals: TERM or INT stops, a second one at once; USR1 logs the counters; HUP reads the file and
  certificates anew.
Exit code: 0 after a signal to stop; 2 for what you can put right: an option, an address, a certificate, a
  descriptor limit; 128 and the signal's number after a second signal; 1 for anything else."
    )
}
