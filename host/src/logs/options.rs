//! The options for logs of consoles, and which of them contradict each other.

use std::path::PathBuf;

use clap::Args;

use super::Settings;
use super::layout::{DEFAULT, Layout, NOVA};

/// The options for logs of consoles.
#[derive(Clone, PartialEq, Eq, Debug, Args)]
pub(crate) struct LogOptions {
    /// Keep what consoles print in files in this directory, one for each console. It must be there.
    #[arg(long, short = 'l', alias = "logdir", value_name = "DIRECTORY", help_heading = LOGS)]
    pub log_dir: Option<PathBuf>,

    /// What those files are called: nova (the UUID without dashes, as OpenStack Nova looks for it), or a name
    /// with {name}, {uuid}, {port}, {uri}, and %Y, %m, %d, %H, %M (UTC) in it; with / it is in a directory of
    /// its own.
    #[arg(long, value_name = "LAYOUT", default_value = DEFAULT, help_heading = LOGS)]
    pub log_layout: String,

    /// What comes before each of these names, and a dash behind it.
    #[arg(long, short = 'p', alias = "prefix", value_name = "PREFIX", help_heading = LOGS)]
    pub log_prefix: Option<String>,

    /// The permissions of files that are made, as in chmod.
    #[arg(long, short = 'm', alias = "mode", value_name = "MODE", default_value = "0600")]
    #[arg(value_parser = crate::option_values::mode, help_heading = LOGS)]
    pub log_mode: u32,
}

impl LogOptions {
    /// Says which options contradict each other, and what to do.
    pub(crate) fn fault(&self) -> Option<String> {
        if self.log_dir.is_none() {
            let given = [
                ("--log-layout", self.log_layout != DEFAULT),
                ("--log-prefix", self.log_prefix.is_some()),
                ("--log-mode", self.log_mode != MODE),
            ];
            let (option, _) = given.into_iter().find(|(_, is_given)| *is_given)?;
            return Some(format!("{option} is for logs: add --log-dir DIRECTORY, or drop it"));
        }
        if self.log_prefix.is_some() && self.log_layout == NOVA {
            return Some("--log-prefix makes names that Nova does not look for: drop it".to_owned());
        }
        if self.log_mode & 0o200 == 0 {
            return Some(format!(
                "--log-mode {:o} lets the server itself not write: give one like 0600 or 0644",
                self.log_mode
            ));
        }
        let why = Layout::parse(&self.log_layout).err()?;
        Some(format!("--log-layout {}: {why}", self.log_layout.escape_debug()))
    }

    /// What logs are to be like, if there are to be any, where so many files may be open.
    pub(crate) fn settings(&self, most_open: usize) -> Option<Settings> {
        let layout = Layout::parse(&self.log_layout).ok()?;
        let layout = match &self.log_prefix {
            Some(prefix) if !prefix.is_empty() => layout.prefixed(prefix),
            _ => layout,
        };
        Some(Settings { dir: self.log_dir.clone()?, layout, mode: self.log_mode, most_open })
    }
}

/// The mode by default: a console shows passwords.
const MODE: u32 = 0o600;

const LOGS: &str = "Logs of consoles";

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::options::tests::parse;

    #[test]
    fn logs_are_asked_for_as_people_are_used_to() {
        for words in [
            "--log-dir /d --log-prefix a --log-mode 644",
            "-l /d -p a -m 0644",
            "--logdir /d --prefix a --mode 644",
        ] {
            let logs = parse(words).unwrap().logs;
            assert_eq!(logs.log_dir.as_deref(), Some(Path::new("/d")));
            let settings = logs.settings(10).unwrap();
            assert_eq!((settings.mode, settings.most_open), (0o644, 10));
        }
        assert_eq!(parse("").unwrap().logs.settings(10), None);
    }

    #[test]
    fn what_cannot_be_together_is_refused_by_name() {
        for (words, option) in [
            ("--log-mode 644", "--log-dir DIRECTORY"),
            ("--log-prefix a", "--log-dir DIRECTORY"),
            ("--log-layout nova", "--log-dir DIRECTORY"),
            ("-l /d --log-layout nova -p a", "--log-prefix"),
            ("-l /d --log-layout all.log", "--log-layout"),
            ("-l /d -m 0444", "--log-mode"),
            ("-l /d -m 9", "--log-mode"),
        ] {
            let why = parse(words).unwrap_err();
            assert!(why.contains(option) && !why.contains('\n'), "{words}: {why}");
        }
    }
}
