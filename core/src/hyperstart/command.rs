//! Commands of the control channel: what a host asks of a guest, in the JSON that each API has it in.
//!
//! Owns hyperstart.md §4 and §5: which members a process has, which signals there are, what API 4242 says
//! otherwise. Refuses to know what was answered.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::message::Code;

/// The version of the API that a guest has.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Api(u32);

impl Api {
    /// One that is spoken here.
    #[must_use]
    pub const fn known(number: u32) -> Option<Self> {
        if number >= 4242 && number <= 4244 { Some(Self(number)) } else { None }
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }

    /// Processes have no names: one is what its stream's number is, and only a container's first one can be
    /// sent a signal.
    #[must_use]
    pub const fn is_nameless(self) -> bool {
        self.0 <= 4242
    }
}

/// Which process.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ProcessName {
    /// The container that it is in.
    pub container: Box<str>,
    /// What it is called there.
    pub process: Box<str>,
}

/// A process that is to run.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Process {
    /// What it is called.
    pub id: Box<str>,
    /// The program and what it is given.
    pub args: Vec<String>,
    /// Its environment, beside what the guest sets.
    pub env: BTreeMap<String, String>,
    /// Where it starts.
    pub workdir: Option<String>,
    /// It has a terminal.
    pub terminal: bool,
    /// The stream of its standard input and output.
    pub stdio: u64,
    /// That of its standard error; 0 with a terminal, and never without one.
    pub stderr: u64,
}

/// One command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Command {
    pub(super) code: Code,
    pub(super) payload: Vec<u8>,
}

impl Command {
    /// With a payload that is handed through.
    #[must_use]
    pub const fn new(code: Code, payload: Vec<u8>) -> Self {
        Self { code, payload }
    }

    /// Which one it is.
    #[must_use]
    pub const fn code(&self) -> Code {
        self.code
    }

    /// What stands behind its header.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Runs one more process in a container, or beside all of them in [`NO_CONTAINER`].
    #[must_use]
    pub fn exec(container: &str, process: &Process, api: Api) -> Self {
        Self::json(Code::EXECCMD, &json!({ "container": container, "process": process.members(api) }))
    }

    /// Makes a container and runs its first process: `container` is as somebody has written it, and
    /// `process` says what of its process is decided here.
    ///
    /// # Errors
    ///
    /// Why it can be none; for people.
    pub fn container(container: &Value, process: &Process, api: Api) -> Result<Self, &'static str> {
        let mut container = container.clone();
        let members = container.as_object_mut().ok_or("a container is an object")?;
        if !members.get("id").and_then(Value::as_str).is_some_and(is_id) {
            return Err("a container has an id of 1 to 64 letters, digits and . _ -");
        }
        let own = members.get_mut("process").and_then(Value::as_object_mut);
        let own = own.ok_or("a container has a process")?;
        // A guest stops at one that it does not know, and passes over all that follow.
        if own.keys().any(|key| !PROCESS_MEMBERS.contains(&&**key)) {
            return Err("its process has a member that a guest does not know");
        }
        let is_program = |args: &Vec<Value>| !args.is_empty() && args.iter().all(Value::is_string);
        if !own.get("args").and_then(Value::as_array).is_some_and(is_program) {
            return Err("its process has args, which are strings");
        }
        let Value::Object(decided) = process.stdio_members(api) else { unreachable!("it is made as one") };
        ["id", "stdio", "stderr"].iter().for_each(|&member| drop(own.remove(member)));
        own.extend(decided);
        Ok(Self::json(Code::NEWCONTAINER, &container))
    }

    /// A terminal has this size.
    #[must_use]
    pub fn size(of: &ProcessName, stdio: u64, (rows, cols): (u16, u16), api: Api) -> Self {
        let size = if api.is_nameless() {
            json!({ "seq": stdio, "row": rows, "column": cols })
        } else {
            json!({ "container": of.container, "process": of.process, "row": rows, "column": cols })
        };
        Self::json(Code::WINSIZE, &size)
    }

    /// Sends a signal to a process and its group; `is_init`: it is its container's init. `None`:
    /// a guest of this API cannot.
    #[must_use]
    pub fn signal(to: &ProcessName, signal: u8, is_init: bool, api: Api) -> Option<Self> {
        match (api.is_nameless(), is_init) {
            (false, _) => {
                let ProcessName { container, process } = to;
                let signal = json!({ "container": container, "process": process, "signal": signal });
                Some(Self::json(Code::SIGNALPROCESS, &signal))
            }
            (true, true) => {
                let signal = json!({ "container": to.container, "signal": signal });
                Some(Self::json(Code::KILLCONTAINER, &signal))
            }
            (true, false) => None,
        }
    }

    fn json(code: Code, value: &Value) -> Self {
        Self { code, payload: value.to_string().into() }
    }
}

impl Process {
    fn members(&self, api: Api) -> Value {
        let env: Vec<_> = self.env.iter().map(|(env, value)| json!({ "env": env, "value": value })).collect();
        let mut members = self.stdio_members(api);
        members["args"] = json!(self.args);
        if !env.is_empty() {
            members["envs"] = env.into();
        }
        if let Some(workdir) = &self.workdir {
            members["workdir"] = json!(workdir);
        }
        members
    }

    fn stdio_members(&self, api: Api) -> Value {
        let mut members = json!({ "terminal": self.terminal, "stdio": self.stdio });
        if self.stderr != 0 {
            members["stderr"] = json!(self.stderr);
        }
        if !api.is_nameless() {
            members["id"] = json!(self.id);
        }
        members
    }
}

/// How a process ended, as PROCESSASYNCEVENT has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finished {
    /// Which one.
    pub name: ProcessName,
    /// Its status. One that was ended by a signal has 0 here: the guest does not tell.
    pub status: u8,
}

impl Finished {
    /// Reads one; `None`: it tells of something else, or makes no sense.
    #[must_use]
    pub fn read(payload: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Told {
            container: Box<str>,
            process: Box<str>,
            event: Box<str>,
            #[serde(default)]
            status: u8,
        }
        let Told { container, process, event, status } = serde_json::from_slice(payload).ok()?;
        (&*event == "finished").then_some(Self { name: ProcessName { container, process }, status })
    }
}

/// The number of a signal that may be sent by name, as Linux has them.
#[must_use]
pub fn signal_number(name: &str) -> Option<u8> {
    Some(match name {
        "HUP" => HUP,
        "INT" => 2,
        "QUIT" => 3,
        "KILL" => KILL,
        "USR1" => 10,
        "USR2" => 12,
        "TERM" => 15,
        "CONT" => 18,
        "STOP" => 19,
        "TSTP" => 20,
        "WINCH" => 28,
        _ => return None,
    })
}

/// Whether a guest can be told a container's name: it puts it between quotes as it is.
#[must_use]
pub fn is_id(text: &str) -> bool {
    let may_be = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=64).contains(&text.len()) && text.bytes().all(may_be)
}

/// Where processes are that are in no container, but beside the guest's init (hyperstart.md §4).
pub const NO_CONTAINER: &str = "hyperstart";

/// What a terminal's process gets when who it was for has gone.
pub const HUP: u8 = 1;
/// What it gets when that was not enough.
pub const KILL: u8 = 9;

/// What a guest knows of a process.
const PROCESS_MEMBERS: [&str; 10] =
    ["id", "user", "group", "additionalGroups", "terminal", "stdio", "stderr", "args", "envs", "workdir"];

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: Api = Api(4244);
    const OLD: Api = Api(4242);

    fn said(command: &Command) -> String {
        format!("{:?} {}", command.code(), String::from_utf8_lossy(command.payload()))
    }

    fn process() -> Process {
        Process {
            id: "p5".into(),
            args: vec!["sh".to_owned(), "-c".to_owned(), "exit \"7\"".to_owned()],
            env: [("A".to_owned(), "b".to_owned())].into(),
            workdir: Some("/srv".to_owned()),
            terminal: false,
            stdio: 5,
            stderr: 6,
        }
    }

    #[test]
    fn a_process_has_the_members_that_its_guest_knows() {
        let exec = said(&Command::exec("c1", &process(), NEW));
        let expected = concat!(
            r#"EXECCMD {"container":"c1","process":{"args":["sh","-c","exit \"7\""],"#,
            r#""envs":[{"env":"A","value":"b"}],"id":"p5","stderr":6,"stdio":5,"terminal":false,"#,
            r#""workdir":"/srv"}}"#
        );
        assert_eq!(exec, expected);
        let old = Process { terminal: true, stderr: 0, env: BTreeMap::new(), workdir: None, ..process() };
        let expected = concat!(
            r#"EXECCMD {"container":"c1","process":{"args":["sh","-c","exit \"7\""],"#,
            r#""stdio":5,"terminal":true}}"#
        );
        assert_eq!(said(&Command::exec("c1", &old, OLD)), expected);
    }

    #[test]
    fn a_container_is_handed_through_with_the_streams_of_its_process() {
        let container = json!({
            "id": "c1", "rootfs": "rootfs", "image": "",
            "process": { "args": ["sh"], "stdio": 99, "stderr": 98, "id": "mine", "user": "0" },
        });
        let own = Process { id: "init".into(), terminal: true, stdio: 7, stderr: 0, ..process() };
        let expected = concat!(
            r#"NEWCONTAINER {"id":"c1","image":"","process":{"args":["sh"],"id":"init","stdio":7,"#,
            r#""terminal":true,"user":"0"},"rootfs":"rootfs"}"#
        );
        assert_eq!(said(&Command::container(&container, &own, NEW).unwrap()), expected);
        for (wrong, why) in [
            (json!([]), "object"),
            (json!({ "process": { "args": ["sh"] } }), "id"),
            (json!({ "id": "a\"b", "process": { "args": ["sh"] } }), "id"),
            (json!({ "id": "c1" }), "process"),
            (json!({ "id": "c1", "process": {} }), "args"),
            (json!({ "id": "c1", "process": { "args": [1] } }), "args"),
            (json!({ "id": "c1", "process": { "args": ["sh"], "rlimits": [] } }), "member"),
        ] {
            let refused = Command::container(&wrong, &own, NEW).unwrap_err();
            assert!(refused.contains(why), "{wrong}: {refused}");
        }
    }

    #[test]
    fn sizes_and_signals_are_said_as_the_api_has_them() {
        let of = ProcessName { container: "c1".into(), process: "p5".into() };
        let size = |api| said(&Command::size(&of, 5, (50, 132), api));
        assert_eq!(size(NEW), r#"WINSIZE {"column":132,"container":"c1","process":"p5","row":50}"#);
        assert_eq!(size(OLD), r#"WINSIZE {"column":132,"row":50,"seq":5}"#);
        let signal = |first, api| Command::signal(&of, 15, first, api).map(|command| said(&command));
        let by_name = r#"SIGNALPROCESS {"container":"c1","process":"p5","signal":15}"#;
        assert_eq!(signal(false, NEW).unwrap(), by_name);
        assert_eq!(signal(true, NEW).unwrap(), by_name);
        assert_eq!(signal(true, OLD).unwrap(), r#"KILLCONTAINER {"container":"c1","signal":15}"#);
        assert_eq!(signal(false, OLD), None);
        for name in vspc_guest::SIGNALS {
            assert!(signal_number(name).is_some(), "{name}");
        }
        assert_eq!(signal_number("SEGV"), None);
    }

    #[test]
    fn an_ending_is_read_and_what_makes_no_sense_is_not() {
        let told = br#"{"container":"c1","process":"p1","event":"finished","status":7}"#;
        let name = ProcessName { container: "c1".into(), process: "p1".into() };
        assert_eq!(Finished::read(told), Some(Finished { name, status: 7 }));
        for wrong in [
            &b""[..],
            b"{}",
            br#"{"container":"c1","process":"p1","event":"started"}"#,
            br#"{"container":"c1","process":"p1","event":"finished","status":-1}"#,
            br#"{"container":"c1","process":"p1","event":"finished","status":256}"#,
            b"\xff\xff",
        ] {
            assert_eq!(Finished::read(wrong), None, "{wrong:?}");
        }
    }
}
