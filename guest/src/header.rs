//! Headers: the first line of a stream that the host opens.
//!
//! Owns their members (APPLICATION §2 to §5) and what of them makes no sense. Refuses to know what may be.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::answer::{Code, Refusal, bad_line};
use crate::hello::Hello;
use crate::line;
use crate::name::{Key, Name};
use crate::pack::Pack;
use crate::process::{Belongs, Pty};
use crate::sum::Sum;

/// What a stream is that the host opens.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case")]
pub enum Header {
    /// The first of a session.
    Hello(Hello),
    /// A shell on a terminal.
    Shell(Shell),
    /// A process.
    Exec(Exec),
    /// A process' standard error.
    Err {
        /// Whose.
        key: Key,
    },
    /// Signals and sizes for a process, and how it ended.
    Control {
        /// Whose.
        key: Key,
    },
    /// The same for a shell that the guest has announced.
    Window {
        /// As what.
        name: Name,
    },
    /// A copy into the guest.
    Put(Put),
    /// A copy out of it.
    Get(Get),
    /// A connection that the guest makes.
    Connect(Connect),
}

/// The words of `op`.
pub const OPS: [&str; 9] = ["hello", "shell", "exec", "err", "control", "window", "put", "get", "connect"];

/// A shell on a terminal.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Shell {
    /// What its other streams name it by.
    pub key: Key,
    /// Its terminal.
    #[serde(default)]
    pub pty: Pty,
    /// Streams that have to be there before it starts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub with: Vec<Belongs>,
}

/// A process.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Exec {
    /// What its other streams name it by.
    pub key: Key,
    /// The program and what it is given.
    pub argv: Vec<String>,
    /// Set beside what the agent sets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Where it starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// Its terminal; none: pipes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pty: Option<Pty>,
    /// Streams that have to be there before it starts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub with: Vec<Belongs>,
}

impl Exec {
    /// Nothing, to be filled in.
    #[must_use]
    pub const fn new(key: Key) -> Self {
        Self { key, argv: Vec::new(), env: BTreeMap::new(), cwd: None, pty: None, with: Vec::new() }
    }
}

/// A copy into the guest.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Put {
    /// Where to, from the root.
    pub path: String,
    /// How many bytes it has.
    pub size: u64,
    /// Its permissions.
    pub mode: u32,
    /// Of all of it: 64 hexadecimal digits. Where it is not known before, there is a tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Tells this state of the file from others: 32 hexadecimal digits. The checksum follows the bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// Where there is a tag: how it is to be summed, if the guest can.
    #[serde(default, deserialize_with = "Sum::known", skip_serializing_if = "Sum::is_default")]
    pub sum: Sum,
    /// How its bytes are to be packed, where the guest can.
    #[serde(default, deserialize_with = "Pack::known", skip_serializing_if = "Option::is_none")]
    pub pack: Option<Pack>,
}

/// A copy out of the guest.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Get {
    /// Of what, from the root.
    pub path: String,
    /// How much of it is there from an earlier try.
    #[serde(default)]
    pub offset: u64,
    /// Which state of the file that was of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// How it is to be summed, if the guest can.
    #[serde(default, deserialize_with = "Sum::known", skip_serializing_if = "Sum::is_default")]
    pub sum: Sum,
    /// How its bytes are to be packed, where the guest can.
    #[serde(default, deserialize_with = "Pack::known", skip_serializing_if = "Option::is_none")]
    pub pack: Option<Pack>,
}

impl Get {
    /// Of all of a file, to be summed in the way that every guest knows and not packed.
    #[must_use]
    pub const fn new(path: String) -> Self {
        Self { path, offset: 0, tag: None, sum: Sum::Sha256, pack: None }
    }
}

/// A connection that the guest makes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Connect {
    /// Where to: `tcp:ADDRESS:PORT` or `unix:/PATH`.
    pub to: String,
}

impl Header {
    /// Reads one. A refusal says whether it is unknown or wrong.
    pub fn parse(line: &[u8]) -> Result<Self, Refusal> {
        #[derive(Deserialize)]
        struct Op {
            op: String,
        }
        let Op { op } = serde_json::from_slice(line).map_err(|error| bad_line(&error))?;
        if !OPS.contains(&op.as_str()) {
            return Err(Refusal::new(Code::UNSUPPORTED, format!("{op:?} is unknown")));
        }
        let header: Self = serde_json::from_slice(line).map_err(|error| bad_line(&error))?;
        header.check()?;
        Ok(header)
    }

    /// The line.
    #[must_use]
    pub fn line(&self) -> Vec<u8> {
        line::write(self)
    }

    /// The word of `op`.
    #[must_use]
    pub const fn op(&self) -> &'static str {
        match self {
            Self::Hello(_) => "hello",
            Self::Shell(_) => "shell",
            Self::Exec(_) => "exec",
            Self::Err { .. } => "err",
            Self::Control { .. } => "control",
            Self::Window { .. } => "window",
            Self::Put(_) => "put",
            Self::Get(_) => "get",
            Self::Connect(_) => "connect",
        }
    }

    /// What no system could do, however it is configured.
    fn check(&self) -> Result<(), Refusal> {
        let wrong = |message: &str| Err(Refusal::new(Code::BAD_LINE, message));
        match self {
            Self::Exec(exec) => {
                let texts = exec.argv.iter().chain(exec.env.keys()).chain(exec.env.values()).chain(&exec.cwd);
                if exec.argv.first().is_none_or(String::is_empty) {
                    wrong("argv names no program")
                } else if texts.into_iter().any(|text| text.contains('\0')) {
                    wrong("a NUL in argv, env or cwd")
                } else if exec.env.keys().any(|name| name.is_empty() || name.contains('=')) {
                    wrong("a name in env is empty or has a =")
                } else if exec.pty.is_some() && exec.with.contains(&Belongs::Err) {
                    wrong("with a terminal there is no err")
                } else {
                    check_pty(exec.pty.as_ref())
                }
            }
            Self::Shell(shell) if shell.with.contains(&Belongs::Err) => {
                wrong("with a terminal there is no err")
            }
            Self::Shell(shell) => check_pty(Some(&shell.pty)),
            Self::Put(put) => {
                let is_hex = |text: &str, len| {
                    text.len() == len && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
                };
                if put.sha256.is_some() == put.tag.is_some() {
                    wrong("either sha256 or tag is said")
                } else if put.sha256.as_ref().is_some_and(|sum| !is_hex(sum, 64)) {
                    wrong("sha256 has 64 hexadecimal digits")
                } else if put.tag.as_ref().is_some_and(|tag| !is_hex(tag, 32)) {
                    wrong("tag has 32 hexadecimal digits")
                } else if put.mode > 0o7777 {
                    wrong("mode is from 0 to 4095")
                } else {
                    check_path(&put.path)
                }
            }
            Self::Get(get) => check_path(&get.path),
            _ => Ok(()),
        }
    }
}

fn check_pty(pty: Option<&Pty>) -> Result<(), Refusal> {
    let is_term = |term: &String| {
        (1..=64).contains(&term.len())
            && term.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-+".contains(&byte))
    };
    if pty.and_then(|pty| pty.term.as_ref()).is_none_or(is_term) {
        Ok(())
    } else {
        Err(Refusal::new(Code::BAD_LINE, "term names no terminal"))
    }
}

/// Paths are written out from the root, so that what is allowed can be told by looking at them.
fn check_path(path: &str) -> Result<(), Refusal> {
    let parts = path.strip_prefix('/').map(|rest| rest.split('/'));
    let is_plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0');
    if parts.is_some_and(|mut parts| parts.all(is_plain)) {
        Ok(())
    } else {
        Err(Refusal::new(Code::BAD_LINE, "a path is written from the root, without . and .."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        Key::new("0123456789abcdef").unwrap()
    }

    #[test]
    fn headers_come_back_as_they_were() {
        let pty = Pty { rows: Some(24), cols: None, term: Some("xterm-256color".to_owned()) };
        let exec = Exec {
            argv: vec!["/bin/echo".to_owned(), "ä \"".to_owned()],
            env: BTreeMap::from([("A".to_owned(), "1".to_owned())]),
            cwd: Some("/tmp".to_owned()),
            with: vec![Belongs::Err, Belongs::Control],
            ..Exec::new(key())
        };
        let put = Put {
            path: "/srv/x".to_owned(),
            size: 1 << 40,
            mode: 0o644,
            sha256: Some("0a".repeat(32)),
            tag: None,
            sum: Sum::Sha256,
            pack: None,
        };
        let tag = Some("0a".repeat(16));
        for header in [
            Header::Shell(Shell { key: key(), pty: pty.clone(), with: vec![Belongs::Control] }),
            Header::Exec(Exec { pty: Some(pty), with: Vec::new(), ..exec.clone() }),
            Header::Exec(exec),
            Header::Err { key: key() },
            Header::Control { key: key() },
            Header::Window { name: Name::new("shell").unwrap() },
            Header::Put(Put { pack: Some(Pack::Lz4), ..put.clone() }),
            Header::Put(Put { sha256: None, tag, sum: Sum::Blake3, ..put.clone() }),
            Header::Put(put),
            Header::Get(Get {
                offset: 7,
                tag: Some("a".to_owned()),
                sum: Sum::Blake3,
                ..Get::new("/x".to_owned())
            }),
            Header::Connect(Connect { to: "tcp:127.0.0.1:80".to_owned() }),
        ] {
            let line = header.line();
            assert!(OPS.contains(&header.op()), "{}", header.op());
            assert_eq!(Header::parse(&line).as_ref(), Ok(&header), "{}", String::from_utf8_lossy(&line));
        }
    }

    #[test]
    fn what_is_unknown_is_ignored_or_refused_by_name() {
        let get = Header::Get(Get::new("/x".to_owned()));
        for member in [r#""later":{"a":[]}"#, r#""pack":"zstd""#, r#""pack":null"#, r#""sum":"md5""#] {
            let line = format!(r#"{{"op":"get","path":"/x",{member}}}"#);
            assert_eq!(Header::parse(line.as_bytes()).as_ref(), Ok(&get), "{line}");
        }
        let refusal = Header::parse(b"{\"op\":\"fly\"}\n").unwrap_err();
        assert_eq!(refusal.code, Code::UNSUPPORTED);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            r#"{"op":"exec","key":"0123456789abcdef","argv":[]}"#,
            r#"{"op":"exec","key":"0123456789abcdef","argv":[""]}"#,
            r#"{"op":"exec","key":"short","argv":["x"]}"#,
            r#"{"op":"exec","argv":["x"]}"#,
            r#"{"op":"exec","key":"0123456789abcdef","argv":["x\u0000"]}"#,
            r#"{"op":"exec","key":"0123456789abcdef","argv":["x"],"env":{"a=b":""}}"#,
            r#"{"op":"exec","key":"0123456789abcdef","argv":["x"],"pty":{},"with":["err"]}"#,
            r#"{"op":"shell","key":"0123456789abcdef","with":["err"]}"#,
            r#"{"op":"shell","key":"0123456789abcdef","pty":{"term":"a b"}}"#,
            r#"{"op":"shell","key":"0123456789abcdef","pty":{"rows":70000}}"#,
            r#"{"op":"window"}"#,
            r#"{"op":"window","name":"../x"}"#,
            r#"{"op":"get","path":"x"}"#,
            r#"{"op":"get","path":"/a/../b"}"#,
            r#"{"op":"get","path":"/a/"}"#,
            r#"{"op":"get","path":"/x","offset":-1}"#,
            r#"{"op":"put","path":"/x","size":1,"mode":420,"sha256":"00"}"#,
            r#"{"op":"put","path":"/x","size":1,"mode":420,"tag":"00"}"#,
            r#"{"op":"put","path":"/x","size":1,"mode":420}"#,
            r#"{"op":7}"#,
            "[]",
            "{",
            "",
        ] {
            assert_eq!(Header::parse(line.as_bytes()).unwrap_err().code, Code::BAD_LINE, "{line}");
        }
    }
}
