//! What the file of a console is called.
//!
//! **Owns** templates, and names that a file can have: whatever a VM calls itself, its file is in the log
//! directory, no character of its name is a control character, and its name is short enough for any file
//! system. **Refuses to know** files.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vspc_core::concentrator::Label;
use vspc_core::vmware::Uuid;

use vspc_logs::date::Moment;

/// Whose log it is.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Subject {
    pub(super) name: String,
    uuid: Uuid,
    /// What tells the serial ports of one VM apart.
    suffix: Box<str>,
    /// What tells copies of one VM apart.
    clone: Box<str>,
    port: Option<u16>,
}

impl Subject {
    pub(super) fn of(label: &Label) -> Self {
        Self {
            name: label.name.clone(),
            uuid: label.uuid,
            suffix: label.suffix.clone(),
            clone: label.clone.clone(),
            port: label.port,
        }
    }

    #[cfg(test)]
    pub(super) fn named(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }
}

/// A template of names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Layout {
    /// The last is the file; those before it are directories.
    levels: Vec<Vec<Part>>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Part {
    Text(String),
    Name,
    Uuid,
    /// The UUID without dashes, and the suffix behind it: as OpenStack Nova looks for it.
    Nova,
    Port,
    Uri,
    Time(char),
}

impl Layout {
    /// Reads a template, or the name of one.
    ///
    /// # Errors
    ///
    /// It names no file, or the same for all consoles; in words.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text == NOVA {
            return Ok(Self { levels: vec![vec![Part::Nova]] });
        }
        let levels = text.split('/').map(level).collect::<Result<Vec<_>, _>>()?;
        let layout = Self { levels };
        if !layout.has(|part| matches!(part, Part::Name | Part::Uuid)) {
            return Err("name {name} or {uuid} in it, or all consoles have one file".to_owned());
        }
        Ok(layout)
    }

    /// The same with this and a dash in front of each file's name.
    pub(super) fn prefixed(mut self, prefix: &str) -> Self {
        if let Some(file) = self.levels.last_mut() {
            file.insert(0, Part::Text(format!("{}-", escaped(prefix))));
        }
        self
    }

    /// Whether the VM's name is a part of it.
    pub(super) fn has_names(&self) -> bool {
        self.has(|part| *part == Part::Name)
    }

    /// Whether it is another one at another time.
    pub(super) fn has_times(&self) -> bool {
        self.has(|part| matches!(part, Part::Time(_)))
    }

    fn has(&self, is_it: impl Fn(&Part) -> bool) -> bool {
        self.levels.iter().flatten().any(is_it)
    }

    /// The file of this console at this time, seconds after 1970 began; relative to the log directory.
    pub(super) fn path(&self, subject: &Subject, seconds: u64) -> PathBuf {
        let moment = Moment::of(seconds);
        let time = |unit| time_of(unit, moment);
        self.levels.iter().map(|parts| fitted(&name(parts, subject, time))).collect()
    }

    /// The files that are this console's at some time, relative to the log directory and in the order of
    /// their names. `list` gives the names in a folder, which is asked for where these depend on the time;
    /// names that are cut are nobody's.
    pub(super) fn files(&self, subject: &Subject, mut list: impl FnMut(&Path) -> Names) -> Vec<PathBuf> {
        let any = |unit| "\0".repeat(time_of(unit, Moment::of(0)).len());
        let mut paths = vec![PathBuf::new()];
        for parts in &self.levels {
            let wanted = name(parts, subject, any);
            paths = match wanted.find('\0') {
                None => paths.iter().map(|path| path.join(&wanted)).collect(),
                Some(certain) => {
                    let below = |path: PathBuf| {
                        let names = list(&path);
                        let alike = names.range(wanted[..certain].to_owned()..);
                        let alike = alike.take_while(|name| name.starts_with(&wanted[..certain]));
                        let its = alike.filter(|name| is_like(name, &wanted));
                        its.map(|name| path.join(name)).collect::<Vec<_>>()
                    };
                    paths.into_iter().flat_map(below).collect()
                }
            };
        }
        paths
    }
}

/// The names in a folder.
pub(super) type Names = Arc<BTreeSet<String>>;

/// Whether a name is one that was wanted, digits where that has NULs.
fn is_like(name: &str, wanted: &str) -> bool {
    let is_like = |(found, wanted): (u8, u8)| match wanted {
        0 => found.is_ascii_digit(),
        _ => found == wanted,
    };
    name.len() == wanted.len() && name.bytes().zip(wanted.bytes()).all(is_like)
}

/// A name for a console whose first choice is another one's: with its UUID and, where that is not enough, a
/// number.
pub(super) fn apart(path: &Path, subject: &Subject, number: usize) -> PathBuf {
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    let (stem, extension) = split(&file);
    let mut stem = format!("{stem}-{}{}", subject.uuid, escaped(&subject.suffix));
    if !subject.clone.is_empty() {
        stem = format!("{stem}-{}", escaped(&subject.clone));
    }
    if number > 0 {
        stem = format!("{stem}-{number}");
    }
    path.with_file_name(fitted(&format!("{stem}{extension}")))
}

/// One level of a template.
fn level(text: &str) -> Result<Vec<Part>, String> {
    if matches!(text, "" | "." | "..") {
        return Err("give the path of a file inside the log directory, like {uuid}/%Y-%m-%d.log".to_owned());
    }
    let mut parts = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let plain = rest.find(['{', '}', '%']).unwrap_or(rest.len());
        if plain > 0 {
            parts.push(Part::Text(escaped_but_percent(&rest[..plain])));
        }
        rest = &rest[plain..];
        if let Some(field) = rest.strip_prefix('{') {
            let (field, behind) = field.split_once('}').ok_or("a { has no }")?;
            parts.push(match field {
                "name" => Part::Name,
                "uuid" => Part::Uuid,
                "port" => Part::Port,
                "uri" => Part::Uri,
                _ => return Err(format!("there is no {{{field}}}: name, uuid, port and uri are known")),
            });
            rest = behind;
        } else if let Some(time) = rest.strip_prefix('%') {
            let unit = time.chars().next().unwrap_or(' ');
            parts.push(match unit {
                'Y' | 'm' | 'd' | 'H' | 'M' => Part::Time(unit),
                '%' => Part::Text("%".to_owned()),
                _ => return Err("of times, %Y, %m, %d, %H and %M are known, and %% is a %".to_owned()),
            });
            rest = &time[unit.len_utf8()..];
        } else if !rest.is_empty() {
            return Err("a } has no {".to_owned());
        }
    }
    Ok(parts)
}

fn time_of(unit: char, moment: Moment) -> String {
    match unit {
        'Y' => format!("{:04}", moment.year),
        'm' => format!("{:02}", moment.month),
        'd' => format!("{:02}", moment.day),
        'H' => format!("{:02}", moment.hour),
        _ => format!("{:02}", moment.minute),
    }
}

fn name(parts: &[Part], subject: &Subject, time: impl Fn(char) -> String) -> String {
    let mut name = String::new();
    for part in parts {
        let value = match part {
            Part::Text(text) => {
                name.push_str(text);
                continue;
            }
            Part::Time(unit) => {
                name.push_str(&time(*unit));
                continue;
            }
            Part::Name if subject.name.is_empty() => format!("{}{}", subject.uuid, subject.suffix),
            Part::Name => subject.name.clone(),
            Part::Uuid => subject.uuid.to_string(),
            Part::Nova => format!("{}{}", subject.uuid.simple(), subject.suffix),
            Part::Port => subject.port.map_or_else(|| "none".to_owned(), |port| port.to_string()),
            Part::Uri => subject.suffix.trim_start_matches('_').to_owned(),
        };
        let value = escaped(&value);
        match value.chars().next() {
            // A VM's name makes no hidden file, no parent directory, and no option of `ls`.
            Some(first @ ('.' | '-')) if name.is_empty() => {
                let _ = write!(name, "%{:02X}{}", u32::from(first), &value[1..]);
            }
            _ => name.push_str(&value),
        }
    }
    // A {uri} that is empty.
    if name.is_empty() { "%".to_owned() } else { name }
}

/// Replaces what a file's name cannot have or a terminal does not show by `%` and its bytes in hexadecimal.
fn escaped(text: &str) -> String {
    escaped_but_percent(&text.replace('%', "%25"))
}

fn escaped_but_percent(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        // What shows nothing or turns the line around is what Debug escapes, too.
        let is_shown = matches!(char, '"' | '\'' | '\\') || char.escape_debug().len() == 1;
        if char != '/' && is_shown {
            escaped.push(char);
            continue;
        }
        for byte in char.encode_utf8(&mut [0; 4]).bytes() {
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

/// A name that is short enough: of one that is not, the end is replaced by a number made from all of it.
fn fitted(name: &str) -> String {
    if name.len() <= LONGEST {
        return name.to_owned();
    }
    let (stem, extension) = split(name);
    let tail = format!("~{:016x}{extension}", fnv(name.as_bytes()));
    let mut end = LONGEST - tail.len();
    while !stem.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{tail}", &stem[..end])
}

/// Splits the extension off, if it is one.
fn split(name: &str) -> (&str, &str) {
    let dot = name.rfind('.').filter(|&dot| dot > 0 && name.len() - dot <= LONGEST_EXTENSION);
    name.split_at(dot.unwrap_or(name.len()))
}

/// FNV-1a, 64 bits: the same on each machine and in each version.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The template by default: a name that people know, and what tells VMs of one name apart.
pub(super) const DEFAULT: &str = "{name}-{uuid}.log";

/// The name of the layout that OpenStack Nova reads.
pub(super) const NOVA: &str = "nova";

/// The longest name in bytes. File systems take 255; what is put behind it for older files needs some.
const LONGEST: usize = 230;

/// The longest extension, its dot with it.
const LONGEST_EXTENSION: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(name: &str) -> Subject {
        Subject {
            name: name.to_owned(),
            uuid: Uuid::from_bytes([0xab; 16]),
            suffix: Box::default(),
            clone: Box::default(),
            port: Some(50001),
        }
    }

    fn path(template: &str, subject: &Subject) -> String {
        let path = Layout::parse(template).unwrap().path(subject, 1_796_000_000);
        path.to_str().unwrap().to_owned()
    }

    const UUID: &str = "abababab-abab-abab-abab-abababababab";

    #[test]
    fn whatever_a_vm_is_called_its_file_is_in_the_directory_and_shows_itself() {
        for (name, file) in [
            ("web01", "web01.log"),
            ("Web Server #1 (ü)", "Web Server #1 (ü).log"),
            ("../../etc/passwd", "%2E.%2F..%2Fetc%2Fpasswd.log"),
            (".", "%2E.log"),
            ("..", "%2E..log"),
            ("-rf", "%2Drf.log"),
            ("", "abababab-abab-abab-abab-abababababab.log"),
            ("a\0b\nc\x1b[2J", "a%00b%0Ac%1B[2J.log"),
            ("100%", "100%25.log"),
            ("a\u{202e}b", "a%E2%80%AEb.log"),
        ] {
            assert_eq!(path("{name}.log", &subject(name)), file, "{name:?}");
        }
    }

    #[test]
    fn long_names_stay_apart_and_fit_with_what_is_put_behind_them() {
        let names = ["x".repeat(300), "x".repeat(301), "ü".repeat(300)];
        let mut files: Vec<String> = names.iter().map(|name| path("{name}.log", &subject(name))).collect();
        for file in &files {
            assert!(file.len() <= 230 && file.ends_with(".log"), "{file}");
        }
        files.dedup();
        assert_eq!(files.len(), 3);
    }

    #[test]
    fn templates_have_fields_times_and_directories() {
        let mut vm = subject("web/01");
        assert_eq!(path(DEFAULT, &vm), format!("web%2F01-{UUID}.log"));
        assert_eq!(path("{uuid}/%Y-%m-%d/{port}.log", &vm), format!("{UUID}/2026-11-30/50001.log"));
        assert_eq!(path("{name}-%H%M-100%%", &vm), "web%2F01-0053-100%");
        assert_eq!(path("nova", &vm), "abababababababababababababababab");
        vm.suffix = "_com1".into();
        assert_eq!(path("nova", &vm), "abababababababababababababababab_com1");
        assert_eq!(path("{name}.{uri}", &vm), "web%2F01.com1");
        vm.port = None;
        assert_eq!(path("{name}-{port}", &vm), "web%2F01-none");
        let prefixed = Layout::parse("a/{name}").unwrap().prefixed("../x");
        assert_eq!(prefixed.path(&vm, 0), Path::new("a/..%2Fx-web%2F01"));
    }

    #[test]
    fn templates_that_leave_the_directory_or_name_one_file_for_all_are_refused() {
        for bad in [
            "",
            "/{name}",
            "../{name}",
            "a/./{name}",
            "{name}/",
            "all.log",
            "%Y.log",
            "{vm}",
            "{name",
            "name}",
            "{name}%S",
            "{name}%",
        ] {
            let why = Layout::parse(bad).unwrap_err();
            assert!(!why.contains('\n'), "{bad}: {why}");
        }
    }

    #[test]
    fn the_files_of_a_console_are_known_whatever_their_date() {
        let folders = [
            (UUID.to_owned(), &["2026-11", "1999-01", "2026-1x", "latest", "2026-111"][..]),
            (format!("{UUID}/2026-11"), &["web01-30.log", "web01-3x.log", "web02-30.log", "web01-01.log"]),
            (format!("{UUID}/1999-01"), &["web01-00.log", "web01-00.log.1"]),
        ];
        let list = |path: &Path| {
            let names = folders.iter().find(|(folder, _)| Path::new(folder) == path).expect("is its").1;
            Arc::new(names.iter().map(|&name| name.to_owned()).collect::<BTreeSet<_>>())
        };
        let layout = Layout::parse("{uuid}/%Y-%m/{name}-%d.log").unwrap();
        let found = layout.files(&subject("web01"), list);
        let expected = ["1999-01/web01-00.log", "2026-11/web01-01.log", "2026-11/web01-30.log"];
        assert_eq!(found, expected.map(|path| Path::new(UUID).join(path)));
        let fixed = Layout::parse("{uuid}/{name}").unwrap().files(&subject("web01"), list);
        assert_eq!(fixed, [Path::new(UUID).join("web01")]);
    }

    #[test]
    fn consoles_whose_names_meet_get_names_apart() {
        let vm = subject("web01");
        let taken = Path::new("logs/web01.log");
        assert_eq!(apart(taken, &vm, 0), Path::new("logs").join(format!("web01-{UUID}.log")));
        assert_eq!(apart(taken, &vm, 2), Path::new("logs").join(format!("web01-{UUID}-2.log")));
    }
}
