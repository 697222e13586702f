//! The options that say where state is kept, and which of them contradict each other.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::options::Options;

/// The options for state.
#[derive(Clone, PartialEq, Eq, Debug, Args)]
pub(crate) struct StoreOptions {
    /// Where client ports and what is known of VMs are kept: in memory, which a restart empties, or in a
    /// file.
    #[arg(long, value_name = "WHERE", value_enum, ignore_case = true, help_heading = STATE)]
    #[arg(default_value_t = BackendArg::Memory)]
    pub backend: BackendArg,

    /// That file. It is made if it is not there; one server has it at a time.
    #[arg(long = "file", short, alias = "persist-file", value_name = "PATH", help_heading = STATE)]
    pub file: Option<PathBuf>,
}

/// The values of `--backend`: where state is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum BackendArg {
    /// Nowhere else.
    Memory,
    /// In a file.
    File,
}

impl StoreOptions {
    /// Says which options contradict each other, and what to do.
    pub(crate) fn fault(&self, options: &Options) -> Option<String> {
        let fault = match (self.backend, &self.file) {
            (BackendArg::File, None) => "--backend file needs a file: add --file PATH",
            (BackendArg::Memory, Some(_)) => "--file is for --backend file: add that, or drop --file",
            (BackendArg::File, Some(_)) if options.port_range_start == 0 && !options.no_vm_ports => {
                "--backend file keeps ports, and with --port-range-start 0 the system chooses others at each \
                 start: give a range"
            }
            _ => return None,
        };
        Some(fault.to_owned())
    }
}

const STATE: &str = "State (kept over a restart)";

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::options::tests::parse;

    #[test]
    fn a_file_is_meant_in_each_way_that_people_are_used_to() {
        for words in [
            "--backend file --file /f",
            "--backend File -f /f",
            "--backend FILE --persist-file /f",
            "--backend=file -f/f",
        ] {
            let store = parse(words).unwrap().store;
            assert_eq!((store.backend, store.file.as_deref()), (BackendArg::File, Some(Path::new("/f"))));
        }
        for words in ["", "--backend memory", "--backend Memory"] {
            assert_eq!(parse(words).unwrap().store.backend, BackendArg::Memory);
        }
    }

    #[test]
    fn what_cannot_be_together_is_refused_by_name() {
        for (words, option) in [
            ("--backend file", "--file PATH"),
            ("--file /f", "--backend file"),
            ("--backend file -f /f --port-range-start 0", "--port-range-start"),
            ("--backend logging", "--backend"),
        ] {
            let why = parse(words).unwrap_err();
            assert!(why.contains(option) && !why.contains('\n'), "{words}: {why}");
        }
        parse("--backend file -f /f --port-range-start 0 --no-vm-ports").unwrap();
    }
}
