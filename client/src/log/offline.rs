//! Logs read in their directory, where the server is down, or on another machine.
//!
//! Owns which file is meant by a name.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime};

use vspc_core::admin::operator::{LogRecord, When};
use vspc_logs::marks::index_of;
use vspc_logs::reader::{Item, Reader, Source, Span as Wanted};
use vspc_logs::{date, volume};

use super::{Output, Span};
use crate::args::LogArgs;
use crate::failure::{Code, Failure};
use crate::printable::printable;

pub(super) fn read(dir: &Path, args: &LogArgs, span: &Span, output: &mut Output) -> Result<(), Failure> {
    let logs = find(dir, &args.console.name)?;
    let source = |log: &PathBuf| Source {
        log: dir.join(log),
        index: args.index.as_ref().map(|folder| index_of(folder, log)),
    };
    let now = date::millis(SystemTime::now());
    let time = |when: When| match when {
        When::AgoMs(millis) => now.saturating_sub(millis),
        When::AtMs(millis) => millis,
    };
    let wanted = Wanted {
        since: span.since.map(time),
        until: span.until.map(time),
        lines: span.lines,
        after: None,
        follow: span.follow,
    };
    let cannot = |error| Failure::error(format!("the log cannot be read: {error}"));
    let mut reader = Reader::open(logs.iter().map(source).collect(), wanted, None).map_err(cannot)?;
    loop {
        for item in reader.read(PIECE).map_err(cannot)? {
            output.take(match &item {
                Item::Time(millis) => LogRecord::Time(*millis),
                Item::Text(bytes) => LogRecord::Text(bytes),
                Item::Stamp(bytes) => LogRecord::Stamp(bytes),
                Item::Note(text) => LogRecord::Note(text),
            })?;
        }
        if reader.is_over() || reader.is_at_end() && !span.follow {
            return Ok(());
        }
        if reader.is_at_end() {
            output.flush()?;
            // Nobody tells that a file has grown.
            thread::sleep(LOOK);
        }
    }
}

/// The logs that are called that, relative to the directory: one, or those of one VM where each day has its
/// own.
fn find(dir: &Path, name: &str) -> Result<Vec<PathBuf>, Failure> {
    let mut logs = Vec::new();
    list(dir, Path::new(""), DEPTH, &mut logs).map_err(|error| {
        Failure::error(format!("{} cannot be read: {error}", printable(&dir.display().to_string())))
    })?;
    logs.sort();
    logs.dedup();
    let uuid = squeeze(name);
    let text = |log: &Path| log.to_string_lossy().into_owned();
    let file = |log: &Path| log.file_name().unwrap_or_default().to_string_lossy().into_owned();
    // What is meant more exactly comes first.
    let tests: [&dyn Fn(&Path) -> bool; 4] = [
        &|log| text(log) == name || file(log) == name || file(log) == format!("{name}.log"),
        &|log| log.parent().is_some_and(|parent| text(parent) == name),
        &|log| file(log).starts_with(&format!("{name}-")),
        &|log| text(log).contains(name) || uuid.len() >= LEAST_OF_UUID && squeeze(&text(log)).contains(&uuid),
    ];
    for test in tests {
        let found: Vec<PathBuf> = logs.iter().filter(|log| test(log)).cloned().collect();
        let folder = found.first().and_then(|log| log.parent()).filter(|parent| *parent != Path::new(""));
        let is_one_vm = folder.is_some_and(|folder| found.iter().all(|log| log.parent() == Some(folder)));
        match &found[..] {
            [] => {}
            [_] => return Ok(found),
            _ if is_one_vm => return Ok(found),
            several => {
                let mut message = format!("{} may be any of these:", printable(name));
                for log in several.iter().take(OFFERED) {
                    message.push_str(&format!("\n  {}", printable(&text(log))));
                }
                if several.len() > OFFERED {
                    message.push_str("\n  and more");
                }
                return Err(Failure::new(Code::NoSuchConsole, message));
            }
        }
    }
    let dir = dir.display().to_string();
    let message = format!("there is no log of {} in {}", printable(name), printable(&dir));
    Err(Failure::new(Code::NoSuchConsole, message))
}

/// The logs in a folder; of one of which only older files are left, its name all the same.
fn list(dir: &Path, below: &Path, depth: usize, logs: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(dir.join(below))? {
        let entry = entry?;
        let (name, kind) = (entry.file_name(), entry.file_type()?);
        let path = below.join(&name);
        if kind.is_dir() && depth > 0 {
            // What is not the user's to read is not meant.
            let _ = list(dir, &path, depth - 1, logs);
        } else if kind.is_file() {
            let name = name.to_string_lossy();
            logs.push(match volume::is_older(&name) {
                true => {
                    let name = name.strip_suffix(".gz").unwrap_or(&name);
                    below.join(name.rsplit_once('.').map_or(name, |(log, _)| log))
                }
                false => path,
            });
        }
    }
    Ok(())
}

/// A UUID, or a part of a path, without what people put between its digits.
fn squeeze(text: &str) -> String {
    text.chars().filter(|c| !matches!(c, ' ' | '-')).flat_map(char::to_lowercase).collect()
}

/// How much is read at once.
const PIECE: usize = 64 << 10;

/// How often a log is looked at that is followed.
const LOOK: Duration = Duration::from_millis(250);

/// How many directories deep.
const DEPTH: usize = 8;

/// Logs offered where several are meant.
const OFFERED: usize = 20;

/// Digits of a UUID that are enough to be taken for some.
const LEAST_OF_UUID: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_found_by_what_people_call_its_vm() {
        let dir = std::env::temp_dir().join(format!("vspc-offline-{}", std::process::id()));
        fs::create_dir_all(dir.join("db01")).unwrap();
        for name in [
            "web01-01234567-89ab-cdef-fedc-ba9800000000.log",
            "web01-01234567-89ab-cdef-fedc-ba9800000000.log.1",
            "web011.log",
            "mail.log.2.gz",
            "db01/2026-11-28.log",
            "db01/2026-11-29.log",
        ] {
            fs::write(dir.join(name), b"").unwrap();
        }
        let web01 = "web01-01234567-89ab-cdef-fedc-ba9800000000.log";
        for (name, logs) in [
            ("web01", &[web01][..]),
            (web01, &[web01]),
            ("0123456789abcdef", &[web01]),
            ("web011", &["web011.log"]),
            ("mail", &["mail.log"]),
            ("db01", &["db01/2026-11-28.log", "db01/2026-11-29.log"]),
        ] {
            let found: Vec<String> =
                find(&dir, name).unwrap().iter().map(|log| log.display().to_string()).collect();
            assert_eq!(found, logs, "{name}");
        }
        assert!(find(&dir, "web").unwrap_err().message.contains("web011.log"));
        assert!(find(&dir, "ldap").is_err());
        fs::remove_dir_all(dir).unwrap();
    }
}
