//! Spellings of vSPC.py's that no option here has, and what they mean.
//!
//! | there | here |
//! |---|---|
//! | `--backend-args 'WORDS'` | its words, as options |
//! | `-f FILE`, `--persist-file FILE`, without `--backend` | `--backend file --file FILE` |
//! | `--backend Logging` | `--log-dir /var/log/consoles`, unless it says which directory |
//! | … | `--log-layout {name}.log`, unless it says another |
//! | `-p PREFIX`, with that | `--log-prefix PREFIX`; without it `-p` is the proxy port, as there |
//! | `--no-fork` | nothing: a server never leaves its terminal |
//! | `-s`, `--server` | nothing: the client is a program of its own |

use std::ffi::OsString;

/// Puts vSPC.py's spellings into ours; returns also what is to be said of them, once each.
pub(super) fn translate(args: Vec<OsString>) -> (Vec<OsString>, Vec<String>) {
    let (mut ours, mut notes) = (Vec::new(), Vec::new());
    let (mut keeps_file, mut has_backend) = (false, false);
    let is_logging = has_logging(&args);
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let text = arg.to_str().unwrap_or_default();
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (text, None),
        };
        match name {
            "--no-fork" if value.is_none() => notes.push(NO_FORK.to_owned()),
            "-s" | "--server" if value.is_none() => {
                notes.push(format!("{name} is not needed: this program is the server, vspc the client"));
            }
            "--backend" if is_logging => {
                if value.is_none() {
                    args.next();
                }
                notes.push("--backend Logging is not needed: --log-dir DIRECTORY is enough".to_owned());
            }
            _ if is_logging && text.starts_with("-p") => {
                let prefix = match text.strip_prefix("-p") {
                    Some("") | None => args.next().unwrap_or_default(),
                    Some(prefix) => prefix.into(),
                };
                let mut option = OsString::from("--log-prefix=");
                option.push(prefix);
                ours.push(option);
            }
            "--backend-args" => {
                notes.push("--backend-args is vSPC.py's: give its words as options".to_owned());
                let words = value.or_else(|| args.next().and_then(|words| words.into_string().ok()));
                for word in words.unwrap_or_default().split_whitespace() {
                    keeps_file |= is_file(word);
                    ours.push(word.into());
                }
            }
            _ => {
                has_backend |= name == "--backend";
                keeps_file |= is_file(name);
                ours.push(arg);
            }
        }
    }
    if keeps_file && !has_backend {
        // Right behind the program's name.
        ours.insert(ours.len().min(1), "--backend=file".into());
    }
    if is_logging && !ours.iter().filter_map(|arg| arg.to_str()).any(is_log_dir) {
        ours.insert(ours.len().min(1), format!("--log-dir={LOG_DIR}").into());
    }
    let has_layout = |arg: &OsString| arg.to_str().is_some_and(|word| word.starts_with("--log-layout"));
    if is_logging && !ours.iter().any(has_layout) {
        ours.insert(ours.len().min(1), format!("--log-layout={LOG_LAYOUT}").into());
    }
    notes.sort();
    notes.dedup();
    (ours, notes)
}

/// `--backend Logging`, in either way.
fn has_logging(args: &[OsString]) -> bool {
    let words: Vec<&str> = args.iter().filter_map(|arg| arg.to_str()).collect();
    let apart =
        words.windows(2).any(|pair| pair[0] == "--backend" && pair[1].eq_ignore_ascii_case("logging"));
    apart || words.iter().any(|word| word.eq_ignore_ascii_case("--backend=logging"))
}

/// `-l DIRECTORY`, `-lDIRECTORY`, or the same in more letters.
fn is_log_dir(word: &str) -> bool {
    let is_long =
        |name: &str| word.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('='));
    is_long("--log-dir") || is_long("--logdir") || (word.starts_with("-l") && !word.starts_with("--"))
}

/// `-f FILE`, `-fFILE` or `--persist-file FILE`.
fn is_file(word: &str) -> bool {
    word == "--persist-file" || (word.starts_with("-f") && !word.starts_with("--"))
}

/// Where vSPC.py keeps logs of consoles.
const LOG_DIR: &str = "/var/log/consoles";

/// What they are called there, behind the prefix.
const LOG_LAYOUT: &str = "{name}.log";

const NO_FORK: &str = "--no-fork is not needed: a server never leaves its terminal by itself";

#[cfg(test)]
mod tests {
    use super::*;

    fn translated(args: &str) -> (String, usize) {
        let (ours, notes) = translate(args.split('|').map(OsString::from).collect());
        let ours: Vec<_> = ours.iter().map(|arg| arg.to_str().unwrap()).collect();
        (ours.join("|"), notes.len())
    }

    #[test]
    fn what_vspcpys_start_scripts_say_means_the_same_here() {
        for (theirs, ours, notes) in [
            ("vspc|--no-fork|--debug", "vspc|--debug", 1),
            ("vspc|--no-fork|--no-fork|-s", "vspc", 2),
            ("vspc|-f|/f", "vspc|--backend=file|-f|/f", 0),
            ("vspc|-f/f", "vspc|--backend=file|-f/f", 0),
            ("vspc|--persist-file=/f", "vspc|--backend=file|--persist-file=/f", 0),
            ("vspc|--backend|File|-f|/f", "vspc|--backend|File|-f|/f", 0),
            ("vspc|--backend=File|--backend-args|-f /f", "vspc|--backend=File|-f|/f", 1),
            ("vspc|--backend-args=-f /f", "vspc|--backend=file|-f|/f", 1),
            ("vspc|--backend|Logging|-p|a|-l|/d", "vspc|--log-layout={name}.log|--log-prefix=a|-l|/d", 1),
            (
                "vspc|-pa|--backend=Logging",
                "vspc|--log-layout={name}.log|--log-dir=/var/log/consoles|--log-prefix=a",
                1,
            ),
            ("vspc|--backend|Logging|-l|/d|--log-layout|nova", "vspc|-l|/d|--log-layout|nova", 1),
            ("vspc|-p|1|--backend|File", "vspc|-p|1|--backend|File", 0),
            ("vspc|--file|/f", "vspc|--file|/f", 0),
        ] {
            assert_eq!(translated(theirs), (ours.to_owned(), notes), "{theirs}");
        }
    }
}
