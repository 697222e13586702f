//! What a stream towards hyperstart is to be: the first line of whoever opens it, as
//! [APPLICATION](../mux/APPLICATION.md) has it, with what only this guest does: containers, and commands that
//! are handed through.
//!
//! Owns which of it can be done there at all. Refuses to know what is running.

use serde::Deserialize;
use serde_json::Value;
use vspc_guest::{Belongs, Code as Word, Exec, Header as GuestHeader, Hello, Key, Refusal, Shell};

use super::command::is_id;
use super::message::Code;

/// What a stream is to be.
#[derive(Clone, PartialEq, Debug)]
pub enum Header {
    /// The first of a session.
    Hello(Hello),
    /// A process; in this container, if it says so.
    Exec(Exec, Option<String>),
    /// A shell on a terminal; in this container, if it says so.
    Shell(Shell, Option<String>),
    /// A process' standard error, or what is said of it.
    Part(Belongs, Key),
    /// A container, whose first process it is. So many bytes follow that describe it.
    Container {
        /// What the process' other streams name it by.
        key: Key,
        /// Streams that have to be there before it starts.
        with: Vec<Belongs>,
        /// How many bytes follow.
        size: usize,
    },
    /// A command that is handed through. So many bytes follow, which are what it says.
    Command {
        /// Which one.
        code: Code,
        /// Its name here.
        name: &'static str,
        /// How many bytes follow.
        size: usize,
    },
}

impl Header {
    /// Reads one.
    ///
    /// # Errors
    ///
    /// It is wrong, or asks for what such a guest cannot do.
    pub fn parse(line: &[u8]) -> Result<Self, Refusal> {
        let fields: Fields = serde_json::from_slice(line).map_err(|error| wrong(error.to_string()))?;
        match &*fields.op {
            "container" => {
                let key = fields.key.ok_or_else(|| wrong("key is missing"))?;
                Ok(Self::Container { key, with: fields.with, size: size(fields.size)? })
            }
            "command" => {
                let asked = fields.name.ok_or_else(|| wrong("name is missing"))?;
                let known = COMMANDS.iter().find(|(name, _)| *name == asked);
                let &(name, code) = known.ok_or_else(|| {
                    let names: Vec<_> = COMMANDS.iter().map(|&(name, _)| name).collect();
                    Refusal::new(Word::UNSUPPORTED, format!("there are {}", names.join(", ")))
                })?;
                Ok(Self::Command { code, name, size: size(fields.size)? })
            }
            _ => Self::of_guest(GuestHeader::parse(line)?, fields.container),
        }
    }

    fn of_guest(header: GuestHeader, container: Option<String>) -> Result<Self, Refusal> {
        if container.as_deref().is_some_and(|container| !is_id(container)) {
            return Err(wrong("container is no name of one"));
        }
        match header {
            GuestHeader::Hello(hello) => Ok(Self::Hello(hello)),
            GuestHeader::Exec(exec) => Ok(Self::Exec(exec, container)),
            GuestHeader::Shell(shell) => Ok(Self::Shell(shell, container)),
            GuestHeader::Err { key } => Ok(Self::Part(Belongs::Err, key)),
            GuestHeader::Control { key } => Ok(Self::Part(Belongs::Control, key)),
            GuestHeader::Window { .. } => {
                Err(Refusal::new(Word::UNSUPPORTED, "hyperstart announces no shells"))
            }
            GuestHeader::Put(_) | GuestHeader::Get(_) => {
                Err(Refusal::new(Word::UNSUPPORTED, "hyperstart copies no files over its streams"))
            }
            GuestHeader::Connect(_) => {
                Err(Refusal::new(Word::UNSUPPORTED, "hyperstart makes no connections"))
            }
        }
    }

    /// The word of `op`.
    #[must_use]
    pub const fn op(&self) -> &'static str {
        match self {
            Self::Hello(_) => "hello",
            Self::Exec(..) => "exec",
            Self::Shell(..) => "shell",
            Self::Part(Belongs::Err, _) => "err",
            Self::Part(Belongs::Control, _) => "control",
            Self::Container { .. } => "container",
            Self::Command { .. } => "command",
        }
    }

    /// It is one of the streams of a process, which come with that.
    #[must_use]
    pub const fn is_part(&self) -> bool {
        matches!(self, Self::Part(..))
    }

    /// What of it is for people: no input, and no keys.
    #[must_use]
    pub fn detail(&self) -> String {
        match self {
            Self::Exec(exec, None) => exec.argv.join(" "),
            Self::Exec(exec, Some(container)) => format!("{container}: {}", exec.argv.join(" ")),
            Self::Shell(_, Some(container)) => container.clone(),
            Self::Command { name, .. } => (*name).to_owned(),
            _ => String::new(),
        }
    }
}

/// What a guest may be asked for.
pub const MAY: [&str; 4] = ["exec", "shell", "container", "command"];

/// The JSON of a command: an object, or nothing where it needs none.
///
/// # Errors
///
/// It makes no sense; for people.
pub(super) fn check_command(code: Code, body: &[u8]) -> Result<(), &'static str> {
    if body.is_empty() {
        let has_none = matches!(code, Code::DESTROYPOD | Code::ONLINECPUMEM | Code::PING);
        return if has_none { Ok(()) } else { Err("it says nothing") };
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(members)) if code == Code::STARTPOD && members.contains_key("containers") => {
            Err("containers are made one by one, each with a stream of its own")
        }
        Ok(Value::Object(_)) => Ok(()),
        _ => Err("it is no JSON object"),
    }
}

#[derive(Deserialize)]
struct Fields {
    op: String,
    key: Option<Key>,
    #[serde(default)]
    with: Vec<Belongs>,
    size: Option<u64>,
    name: Option<String>,
    container: Option<String>,
}

fn wrong(message: impl Into<String>) -> Refusal {
    Refusal::new(Word::BAD_LINE, message)
}

fn size(size: Option<u64>) -> Result<usize, Refusal> {
    let size = size.ok_or_else(|| wrong("size is missing"))?;
    match usize::try_from(size) {
        Ok(size) if size <= MOST_BODY => Ok(size),
        _ => Err(wrong(format!("size is {MOST_BODY} at most"))),
    }
}

/// Commands that are handed through. Those that begin a process, or mean one by its name, are not: they go
/// with streams.
const COMMANDS: [(&str, Code); 9] = [
    ("startpod", Code::STARTPOD),
    ("destroypod", Code::DESTROYPOD),
    ("killcontainer", Code::KILLCONTAINER),
    ("removecontainer", Code::REMOVECONTAINER),
    ("setupinterface", Code::SETUPINTERFACE),
    ("deleteinterface", Code::DELETEINTERFACE),
    ("setuproute", Code::SETUPROUTE),
    ("onlinecpumem", Code::ONLINECPUMEM),
    ("ping", Code::PING),
];

/// The most that describes a container, or that a command says: hundreds of mounts and variables.
pub const MOST_BODY: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(line: &str) -> String {
        Header::parse(line.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn headers_are_read_with_what_only_this_guest_does() {
        let exec = br#"{"op":"exec","key":"0123456789abcdef","argv":["ls","/"],"container":"web"}"#;
        let exec = Header::parse(exec).unwrap();
        assert_eq!((exec.op(), &*exec.detail()), ("exec", "web: ls /"));
        let command = Header::parse(br#"{"op":"command","name":"startpod","size":2}"#).unwrap();
        assert_eq!(command, Header::Command { code: Code::STARTPOD, name: "startpod", size: 2 });
        let container =
            Header::parse(br#"{"op":"container","key":"0123456789abcdef","with":["control"],"size":9}"#);
        assert!(matches!(container, Ok(Header::Container { size: 9, .. })), "{container:?}");
    }

    #[test]
    fn what_such_a_guest_cannot_do_is_told_from_what_is_wrong() {
        for (line, why) in [
            (r#"{"op":"get","path":"/a"}"#, "unsupported"),
            (r#"{"op":"connect","to":"tcp:127.0.0.1:1"}"#, "unsupported"),
            (r#"{"op":"fly"}"#, "unsupported"),
            (r#"{"op":"command","name":"execcmd","size":2}"#, "unsupported"),
            (r#"{"op":"command","name":"ping","size":65537}"#, "bad-line"),
            (r#"{"op":"container","size":5}"#, "bad-line"),
            (r#"{"op":"exec","key":"0123456789abcdef","argv":["a"],"container":"a\"b"}"#, "bad-line"),
            ("no", "bad-line"),
        ] {
            assert!(refused(line).contains(why), "{line}: {}", refused(line));
        }
    }

    #[test]
    fn a_commands_json_is_looked_at_and_no_more() {
        assert_eq!(check_command(Code::STARTPOD, br#"{"hostname":"a"}"#), Ok(()));
        assert_eq!(check_command(Code::PING, b""), Ok(()));
        for (code, body) in [
            (Code::STARTPOD, &b""[..]),
            (Code::STARTPOD, b"[]"),
            (Code::STARTPOD, b"{\"a\":"),
            (Code::STARTPOD, br#"{"containers":[]}"#),
            (Code::SETUPROUTE, b"\xff"),
        ] {
            assert!(check_command(code, body).is_err(), "{body:?}");
        }
    }
}
