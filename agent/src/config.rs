//! What the agent is to do, and what it allows: the command line and the file together.
//!
//! Owns the file's keys, and what of them makes no sense. Nothing is allowed that is not written there.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use vspc_guest::{Code, Connect, Exec, Facts, Name, Pty, Refusal, Secret, Shell};

use crate::args::{LogFile, Options};
use crate::carrier::{Carrier, Place};
use crate::connection::{Target, Targets};
use crate::copy::{Root, Roots};
use crate::facts::machine;
use crate::fatal::Fatal;
use crate::process::{Kind, Recipe};
use crate::users::User;

/// All of it.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) line: Place,
    pub(crate) speed: Option<u32>,
    /// Whether the line loses bytes.
    pub(crate) sl: bool,
    /// Whether it is a serial port.
    pub(crate) is_port: bool,
    /// Whether copies and logs are packed where that is asked for.
    pub(crate) pack: bool,
    pub(crate) secret: Option<Secret>,
    pub(crate) shell: Option<ShellSettings>,
    pub(crate) exec: Option<ExecSettings>,
    pub(crate) processes: usize,
    pub(crate) roots: Roots,
    pub(crate) targets: Targets,
    /// What listens, and where.
    pub(crate) listen: Vec<(Name, Target)>,
    pub(crate) logs: Vec<LogFile>,
    pub(crate) facts: Facts,
    pub(crate) control: Option<PathBuf>,
}

/// Shells.
#[derive(Debug)]
pub(crate) struct ShellSettings {
    command: Vec<String>,
    user: Option<User>,
    /// Those that are announced.
    pub(crate) announce: Vec<Name>,
}

/// Processes.
#[derive(Debug)]
pub(crate) struct ExecSettings {
    /// None: all of them.
    programs: Option<Vec<String>>,
    user: Option<User>,
}

/// The file as it is written.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct File {
    line: Option<String>,
    speed: Option<u32>,
    sl: Option<bool>,
    pack: Option<bool>,
    key_file: Option<PathBuf>,
    processes: Option<usize>,
    control: Option<PathBuf>,
    shell: Option<ShellTable>,
    exec: Option<ExecTable>,
    copy: Vec<CopyTable>,
    connect: Option<ConnectTable>,
    listen: Vec<ListenTable>,
    log: Vec<LogTable>,
    facts: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct ShellTable {
    command: Vec<String>,
    user: Option<String>,
    #[serde(default)]
    announce: Vec<Name>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct ExecTable {
    programs: Vec<String>,
    user: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct CopyTable {
    root: PathBuf,
    #[serde(default)]
    write: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct ConnectTable {
    to: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct ListenTable {
    name: Name,
    at: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct LogTable {
    name: String,
    path: PathBuf,
}

impl Settings {
    /// What the options say, and the file that they name.
    pub(crate) fn read(options: &Options) -> Result<Self, Fatal> {
        let file = match &options.config {
            None => File::default(),
            Some(path) => {
                let text = fs::read_to_string(path)
                    .map_err(|error| Fatal::File { path: path.clone(), why: error.to_string() })?;
                parse(&text).map_err(|why| Fatal::File { path: path.clone(), why })?
            }
        };
        let fault = |why: String| match &options.config {
            Some(path) => Fatal::File { path: path.clone(), why },
            None => Fatal::Options(why),
        };
        let line = match (&options.line, &file.line) {
            (Some(line), _) => line.clone(),
            (None, Some(line)) => line.parse().map_err(|why| fault(format!("line: {why}")))?,
            (None, None) => {
                return Err(Fatal::Options("there is no line: --line LINE, or --config FILE".to_owned()));
            }
        };
        let is_port = Carrier::is_terminal(&line);
        let sl = match (options.sl, options.raw, file.sl) {
            (true, ..) => true,
            (_, true, _) => false,
            (_, _, Some(sl)) => sl,
            _ => is_port,
        };
        let secret = file.key_file.as_deref().map(read_key).transpose()?;
        let shell =
            file.shell.map(ShellSettings::new).transpose().map_err(|why| fault(format!("shell: {why}")))?;
        let exec =
            file.exec.map(ExecSettings::new).transpose().map_err(|why| fault(format!("exec: {why}")))?;
        let mut facts = machine::facts();
        for (key, value) in &file.facts {
            facts.set(key, value).map_err(|why| fault(format!("facts: {key:?}: {}", why.message)))?;
        }
        let logs = file.log.into_iter().map(|log| LogFile::new(&log.name, log.path));
        let logs = options.log.iter().cloned().map(Ok).chain(logs).collect::<Result<Vec<_>, _>>();
        let to = file.connect.map(|table| table.to).unwrap_or_default();
        let settings = Self {
            line,
            speed: options.speed.or(file.speed),
            sl,
            is_port,
            // A socket carries more than can be packed in that time.
            pack: file.pack.unwrap_or(sl || is_port),
            secret,
            shell,
            exec,
            processes: file.processes.unwrap_or(PROCESSES),
            roots: roots(file.copy).map_err(|why| fault(format!("copy: {why}")))?,
            targets: Targets::new(&to).map_err(|why| fault(format!("connect: {why}")))?,
            listen: listen(file.listen).map_err(|why| fault(format!("listen: {why}")))?,
            logs: logs.map_err(|why| fault(format!("log: {why}")))?,
            facts,
            control: options.control.clone().or(file.control),
        };
        settings.check().map_err(fault)?;
        Ok(settings)
    }

    /// Nothing is announced twice under one name, nor more than there are streams for.
    fn check(&self) -> Result<(), String> {
        let shells = self.shell.iter().flat_map(|shell| &shell.announce);
        let mut names: Vec<&Name> = shells.chain(self.logs.iter().map(|log| &log.name)).collect();
        names.extend(self.listen.iter().map(|(name, _)| name));
        if names.len() > ANNOUNCED {
            return Err(format!("more than {ANNOUNCED} shells, logs and listeners"));
        }
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(format!("{} is there twice", pair[0].as_str())),
            None if names.iter().any(|name| name.as_str() == FACTS_NAME) => {
                Err(format!("{FACTS_NAME} is what facts are called"))
            }
            None => Ok(()),
        }
    }

    /// The words of `op` that are allowed.
    pub(crate) fn may(&self) -> Vec<&'static str> {
        let mut may = Vec::new();
        if self.shell.is_some() {
            may.push("shell");
        }
        if self.exec.is_some() {
            may.push("exec");
        }
        if self.roots.0.iter().any(|root| root.write) {
            may.push("put");
        }
        if !self.roots.0.is_empty() {
            may.push("get");
        }
        if !self.targets.is_empty() {
            may.push("connect");
        }
        may
    }

    /// Where a connection goes, if it may.
    pub(crate) fn target(&self, connect: &Connect) -> Result<Target, Refusal> {
        let target = connect.to.parse().map_err(|why: String| Refusal::new(Code::BAD_LINE, why))?;
        if self.targets.allow(&target) {
            return Ok(target);
        }
        Err(not_allowed("no connections there"))
    }

    /// How a shell starts.
    pub(crate) fn shell(&self, shell: &Shell) -> Result<Recipe, Refusal> {
        let settings = self.shell.as_ref().ok_or_else(|| not_allowed("no shells here"))?;
        Ok(settings.recipe(shell.pty.clone()))
    }

    /// How a process starts, where it may.
    pub(crate) fn exec(&self, exec: &Exec) -> Result<Recipe, Refusal> {
        let settings = self.exec.as_ref().ok_or_else(|| not_allowed("no processes here"))?;
        if let Some(programs) = &settings.programs {
            if !exec.argv.first().is_some_and(|program| programs.contains(program)) {
                return Err(not_allowed("not one of the programs that are allowed here"));
            }
            // Both can make another program of it.
            if !exec.env.is_empty() || exec.cwd.is_some() {
                return Err(not_allowed("no env and no cwd where not every program is allowed"));
            }
        }
        Ok(Recipe {
            argv: exec.argv.clone(),
            env: exec.env.clone(),
            cwd: exec.cwd.as_ref().map(PathBuf::from),
            user: settings.user.clone(),
            kind: exec.pty.clone().map_or(Kind::Pipes, Kind::Terminal),
        })
    }
}

impl ShellSettings {
    fn new(table: ShellTable) -> Result<Self, String> {
        if table.command.first().is_none_or(|program| !program.starts_with('/')) {
            return Err("command has to begin with a program's path from the root".to_owned());
        }
        Ok(Self { command: table.command, user: user(table.user)?, announce: table.announce })
    }

    /// How one starts.
    pub(crate) fn recipe(&self, pty: Pty) -> Recipe {
        Recipe {
            argv: self.command.clone(),
            env: BTreeMap::new(),
            cwd: None,
            user: self.user.clone(),
            kind: Kind::Terminal(pty),
        }
    }
}

impl ExecSettings {
    fn new(table: ExecTable) -> Result<Self, String> {
        let programs = match table.programs.as_slice() {
            [all] if all == "*" => None,
            programs => {
                if let Some(program) = programs.iter().find(|program| !program.starts_with('/')) {
                    return Err(format!(
                        "{program:?} is no path from the root, and not the only one as \"*\""
                    ));
                }
                Some(table.programs)
            }
        };
        Ok(Self { programs, user: user(table.user)? })
    }
}

fn roots(tables: Vec<CopyTable>) -> Result<Roots, String> {
    let root = |table: CopyTable| {
        if table.root.is_absolute() {
            Ok(Root { path: table.root, write: table.write })
        } else {
            Err(format!("{} is not written from the root", table.root.display()))
        }
    };
    tables.into_iter().map(root).collect::<Result<_, _>>().map(Roots)
}

fn listen(tables: Vec<ListenTable>) -> Result<Vec<(Name, Target)>, String> {
    tables.into_iter().map(|table| Ok((table.name, table.at.parse()?))).collect()
}

fn user(name: Option<String>) -> Result<Option<User>, String> {
    name.map(|name| User::find(&name)).transpose()
}

fn not_allowed(message: &str) -> Refusal {
    Refusal::new(Code::NOT_ALLOWED, message)
}

fn parse(text: &str) -> Result<File, String> {
    toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())
}

/// Thirty-two bytes that nobody can guess, as they are in the file.
fn read_key(path: &Path) -> Result<Secret, Fatal> {
    let fault = |why: String| Fatal::File { path: path.to_owned(), why };
    let system = |error: io::Error| fault(error.to_string());
    let mut file = fs::File::open(path).map_err(system)?;
    if file.metadata().map_err(system)?.mode() & OTHERS != 0 {
        return Err(fault("others may read it, and it is no secret: chmod 600".to_owned()));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(system)?;
    Secret::new(&bytes).ok_or_else(|| fault("a key has 32 bytes or more, of /dev/urandom".to_owned()))
}

/// What facts are announced as.
pub(crate) const FACTS_NAME: &str = "facts";
/// Things that are announced: half of the streams that the agent opens, the rest are connections.
const ANNOUNCED: usize = 64;
/// What others may do with a file.
const OTHERS: u32 = 0o007;
/// Processes at a time.
const PROCESSES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    use clap::Parser;

    /// What a file and a command line come to.
    fn read(text: &str, options: &[&str]) -> Result<Settings, String> {
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("vspc-agent-{}-{number}.toml", std::process::id()));
        fs::write(&path, text).unwrap();
        let config = path.display().to_string();
        let words = ["vspc-agent", "--config", &config].into_iter().chain(options.iter().copied());
        let settings = Settings::read(&Options::try_parse_from(words).unwrap());
        fs::remove_file(&path).unwrap();
        settings.map_err(|fatal| {
            assert_eq!(fatal.exit_code(), 2, "{fatal}");
            fatal.to_string()
        })
    }

    const LINE: &str = "line = \"unix:/run/x\"\n";

    #[test]
    fn nothing_is_allowed_that_is_not_written() {
        let settings = read(LINE, &[]).unwrap();
        assert!(settings.may().is_empty());
        assert!(settings.listen.is_empty() && settings.logs.is_empty() && settings.control.is_none());
        let all = "[shell]\ncommand = [\"/bin/sh\"]\n[exec]\nprograms = [\"*\"]\n[[copy]]\nroot = \"/\"\n\
            write = true\n[connect]\nto = [\"*\"]\n";
        let settings = read(&format!("{LINE}{all}"), &[]).unwrap();
        assert_eq!(settings.may(), ["shell", "exec", "put", "get", "connect"]);
    }

    #[test]
    fn options_go_before_the_file_and_a_socket_loses_nothing() {
        let settings = read(LINE, &["--speed", "9600", "--log", "a=/var/log/a"]).unwrap();
        assert_eq!((settings.speed, settings.sl, settings.logs.len()), (Some(9600), false, 1));
        assert!(read(LINE, &["--sl"]).unwrap().sl);
        assert!(read("line = \"unix:/run/x\"\nsl = true\n", &[]).unwrap().sl);
        assert!(!read("line = \"unix:/run/x\"\nsl = true\n", &["--raw"]).unwrap().sl);
        let settings = read(LINE, &["--line", "/dev/other"]).unwrap();
        assert_eq!(settings.line, Place::Device("/dev/other".into()));
    }

    #[test]
    fn a_key_that_others_may_read_or_that_is_short_is_none() {
        use std::os::unix::fs::PermissionsExt;
        let path = std::env::temp_dir().join(format!("vspc-agent-{}.key", std::process::id()));
        let text = format!("{LINE}key-file = {path:?}\n");
        for (len, mode, fault) in
            [(32, 0o600, None), (32, 0o604, Some("others")), (31, 0o600, Some("32 bytes"))]
        {
            fs::write(&path, vec![7; len]).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let told = read(&text, &[]).err();
            assert_eq!(told.is_some(), fault.is_some(), "{told:?}");
            assert!(told.is_none_or(|told| fault.is_some_and(|fault| told.contains(fault))));
        }
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_fault_is_named() {
        for (text, fault) in [
            ("", "no line"),
            ("line = \"ttyS1\"\n", "a line is"),
            ("line = \"unix:/run/x\"\nspeling = 1\n", "speling"),
            ("line = \"unix:/run/x\"\nkey-file = \"/nowhere/key\"\n", "/nowhere/key"),
            ("line = \"unix:/run/x\"\n[shell]\ncommand = [\"sh\"]\n", "shell: command"),
            (
                "line = \"unix:/run/x\"\n[shell]\ncommand = [\"/x\"]\nuser = \"no one\"\n",
                "no user \"no one\"",
            ),
            ("line = \"unix:/run/x\"\n[shell]\ncommand = [\"/x\"]\nannounce = [\"a b\"]\n", "no name"),
            (
                "line = \"unix:/run/x\"\n[shell]\ncommand = [\"/x\"]\nannounce = [\"a\", \"a\"]\n",
                "a is there twice",
            ),
            (
                "line = \"unix:/run/x\"\n[shell]\ncommand = [\"/x\"]\nannounce = [\"facts\"]\n",
                "facts is what",
            ),
            ("line = \"unix:/run/x\"\n[exec]\nprograms = [\"ls\"]\n", "\"ls\" is no path"),
            ("line = \"unix:/run/x\"\n[exec]\nprograms = [\"*\", \"/x\"]\n", "\"*\" is no path"),
            ("line = \"unix:/run/x\"\n[[copy]]\nroot = \"srv\"\n", "copy: srv"),
            ("line = \"unix:/run/x\"\n[connect]\nto = [\"tcp:db:1\"]\n", "connect: \"tcp:db:1\""),
            ("line = \"unix:/run/x\"\n[[listen]]\nname = \"x\"\nat = \"x\"\n", "listen: \"x\""),
            ("line = \"unix:/run/x\"\n[[log]]\nname = \"x\"\npath = \"x\"\n", "log: x"),
            ("line = \"unix:/run/x\"\n[facts]\n\"a b\" = \"\"\n", "facts: \"a b\""),
        ] {
            let told = read(text, &[]).unwrap_err();
            assert!(told.contains(fault), "{text:?}: {told}");
        }
    }
}
