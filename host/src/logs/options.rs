//! The options for logs of consoles, and which of them contradict each other.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::Settings;
use super::layout::{DEFAULT, Layout, NOVA};
use super::rotate::Rotation;
use crate::size::Size;

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
    #[arg(long, alias = "prefix", value_name = "PREFIX", help_heading = LOGS)]
    pub log_prefix: Option<String>,

    /// The permissions of files that are made, as in chmod.
    #[arg(long, short = 'm', alias = "mode", value_name = "MODE", default_value = "0600")]
    #[arg(value_parser = crate::option_values::mode, help_heading = LOGS)]
    pub log_mode: u32,

    /// Put the time in UTC before each line: that at which it began.
    #[arg(long, help_heading = LOGS)]
    pub log_timestamps: bool,

    /// Keep there what was printed when, for vspc log --since; none keeps it nowhere [default: log-times in
    /// the service manager's STATE_DIRECTORY, or else beside --file].
    #[arg(long, value_name = "DIRECTORY", help_heading = LOGS)]
    pub log_index: Option<PathBuf>,

    /// Do not show, after a restart, what consoles had printed before it, out of their logs.
    #[arg(long, help_heading = LOGS)]
    pub no_log_restore: bool,

    /// Begin a new file when one would become larger than this; what it has is called .1 from then on.
    #[arg(long, value_name = "SIZE", help_heading = LOGS)]
    pub log_max_size: Option<Size>,

    /// Begin a new file with each hour or day (UTC) in which something is printed.
    #[arg(long, value_name = "WHEN", value_enum, help_heading = LOGS)]
    pub log_rotate: Option<RotateArg>,

    /// How many older files each log has then, at most.
    #[arg(long, value_name = "NUMBER", default_value_t = KEEP, help_heading = LOGS)]
    #[arg(value_parser = clap::value_parser!(u16).range(..=9999))]
    pub log_keep: u16,

    /// Compress older files (gzip).
    #[arg(long, help_heading = LOGS)]
    pub log_compress: bool,

    /// What all files in the directory together may take; beyond that the oldest of the older files are
    /// removed, whosever they are.
    #[arg(long, value_name = "SIZE", help_heading = LOGS)]
    pub log_total: Option<Size>,
}

/// The values of `--log-rotate`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum RotateArg {
    /// With each hour.
    Hourly,
    /// With each day.
    Daily,
}

impl LogOptions {
    /// Says which options contradict each other, and what to do.
    pub(crate) fn fault(&self) -> Option<String> {
        if self.log_dir.is_none() {
            let given = [
                ("--log-layout", self.log_layout != DEFAULT),
                ("--log-prefix", self.log_prefix.is_some()),
                ("--log-mode", self.log_mode != MODE),
                ("--log-timestamps", self.log_timestamps),
                ("--log-index", self.log_index.is_some()),
                ("--no-log-restore", self.no_log_restore),
                ("--log-max-size", self.log_max_size.is_some()),
                ("--log-rotate", self.log_rotate.is_some()),
                ("--log-keep", self.log_keep != KEEP),
                ("--log-compress", self.log_compress),
                ("--log-total", self.log_total.is_some()),
            ];
            let (option, _) = given.into_iter().find(|(_, is_given)| *is_given)?;
            return Some(format!("{option} is for logs: add --log-dir DIRECTORY, or drop it"));
        }
        if self.log_prefix.is_some() && self.log_layout == NOVA {
            return Some("--log-prefix makes names that Nova does not look for: drop it".to_owned());
        }
        if !self.rotation().rotates() {
            let given = [
                ("--log-keep", self.log_keep != KEEP),
                ("--log-compress", self.log_compress),
                ("--log-total", self.log_total.is_some()),
            ];
            if let Some((option, _)) = given.into_iter().find(|(_, is_given)| *is_given) {
                return Some(format!(
                    "{option} is for older files: add --log-max-size or --log-rotate, or drop it"
                ));
            }
        }
        if self.log_index.is_some() && self.log_index == self.log_dir {
            return Some("--log-index is not for logs: give another directory than --log-dir".to_owned());
        }
        if self.log_max_size == Some(Size(0)) {
            return Some("--log-max-size 0 has room for nothing: give at least 1".to_owned());
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

    /// What logs are to be like, if there are to be any, where so many files may be open, times
    /// are kept there, and consoles are given back so much.
    pub(crate) fn settings(
        &self,
        most_open: usize,
        index: Option<PathBuf>,
        restored: usize,
    ) -> Option<Settings> {
        let layout = Layout::parse(&self.log_layout).ok()?;
        let layout = match &self.log_prefix {
            Some(prefix) if !prefix.is_empty() => layout.prefixed(prefix),
            _ => layout,
        };
        Some(Settings {
            dir: self.log_dir.clone()?,
            layout,
            mode: self.log_mode,
            most_open,
            stamps: self.log_timestamps,
            rotation: self.rotation(),
            index,
            restored,
        })
    }

    /// Consoles are given back what they had printed before the start.
    pub(crate) fn gives_back(&self) -> bool {
        self.log_dir.is_some() && !self.no_log_restore
    }

    /// Where the times of logs are kept, where a service manager keeps state there, and the state of this
    /// server is in this file.
    pub(crate) fn index(&self, state: Option<&OsStr>, file: Option<&Path>) -> Option<PathBuf> {
        match &self.log_index {
            Some(given) if given.as_os_str() == "none" => return None,
            Some(given) => return Some(given.clone()),
            None => {}
        }
        let state = state.map(|state| state.to_string_lossy().into_owned());
        // There may be several, of which the first is the one for such things.
        let state =
            state.as_deref().and_then(|state| state.split(':').next()).filter(|path| !path.is_empty());
        let folder = match (state, file) {
            (Some(state), _) => Path::new(state),
            (None, Some(file)) => file.parent()?,
            (None, None) => return None,
        };
        Some(folder.join("log-times"))
    }

    fn rotation(&self) -> Rotation {
        Rotation {
            size: self.log_max_size.map(|size| size.0 as u64),
            period: self.log_rotate.map(|rotate| match rotate {
                RotateArg::Hourly => Duration::from_secs(3600),
                RotateArg::Daily => Duration::from_secs(86_400),
            }),
            keep: self.log_keep.into(),
            compresses: self.log_compress,
            total: self.log_total.map(|size| size.0 as u64),
        }
    }
}

/// How many older files by default.
const KEEP: u16 = 5;

/// The mode by default: a console shows passwords.
const MODE: u32 = 0o600;

const LOGS: &str = "Logs of consoles";

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::path::Path;

    use crate::options::tests::parse;

    #[test]
    fn logs_are_asked_for_as_people_are_used_to() {
        for words in [
            "--log-dir /d --log-prefix a --log-mode 644",
            "--backend Logging -l /d -p a -m 0644",
            "--logdir /d --prefix a --mode 644",
        ] {
            let logs = parse(words).unwrap().logs;
            assert_eq!(logs.log_dir.as_deref(), Some(Path::new("/d")));
            let settings = logs.settings(10, None, 0).unwrap();
            assert_eq!((settings.mode, settings.most_open), (0o644, 10));
        }
        assert_eq!(parse("").unwrap().logs.settings(10, None, 0), None);
    }

    #[test]
    fn times_are_kept_where_it_is_said_or_where_the_state_is() {
        let file = Some(Path::new("/s/state.json"));
        for (words, state, file, folder) in [
            ("-l /d", None, None, None),
            ("-l /d", None, file, Some("/s/log-times")),
            ("-l /d", Some("/var/lib/vspc:/x"), file, Some("/var/lib/vspc/log-times")),
            ("-l /d --log-index none", Some("/var/lib/vspc"), file, None),
            ("-l /d --log-index /t", Some("/var/lib/vspc"), file, Some("/t")),
        ] {
            let found = parse(words).unwrap().logs.index(state.map(OsStr::new), file);
            assert_eq!(found.as_deref(), folder.map(Path::new), "{words} {state:?}");
        }
    }

    #[test]
    fn what_cannot_be_together_is_refused_by_name() {
        for (words, option) in [
            ("--log-mode 644", "--log-dir DIRECTORY"),
            ("--log-prefix a", "--log-dir DIRECTORY"),
            ("--log-layout nova", "--log-dir DIRECTORY"),
            ("-l /d --log-layout nova --prefix a", "--log-prefix"),
            ("-l /d --log-layout all.log", "--log-layout"),
            ("-l /d -m 0444", "--log-mode"),
            ("-l /d -m 9", "--log-mode"),
            ("--log-timestamps", "--log-dir DIRECTORY"),
            ("-l /d --log-compress", "--log-max-size"),
            ("--log-index /t", "--log-dir DIRECTORY"),
            ("--no-log-restore", "--log-dir DIRECTORY"),
            ("-l /d --log-index /d", "--log-index"),
            ("-l /d --log-total 1G", "--log-max-size"),
            ("-l /d --log-max-size 0", "--log-max-size"),
            ("-l /d --log-rotate weekly", "--log-rotate"),
        ] {
            let why = parse(words).unwrap_err();
            assert!(why.contains(option) && !why.contains('\n'), "{words}: {why}");
        }
    }
}
