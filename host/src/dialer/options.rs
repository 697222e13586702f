//! The options of connections that the server makes.

use std::sync::Arc;

use vspc_core::concentrator::{
    LinePlace, LocalLine, NoLine, NoTarget, Pattern, SerialLine, Target, TargetPlace, take_mux, uuid_of_line,
};

use super::program::words;

/// What consoles are connected to.
#[derive(Clone, PartialEq, Eq, Debug, clap::Args)]
#[command(next_help_heading = "Connections that the server makes")]
pub(crate) struct DialOptions {
    /// Connect each console whose VM has this name or UUID (* stands for any characters, ? for one) to
    /// tcp://HOST:PORT, tls://HOST:PORT, telnet://HOST:PORT, telnets://HOST:PORT or unix:/PATH, as to one of
    /// its clients, while its VM is there. With ?hello behind the address the first line says which console
    /// it is, in JSON. Repeat it; the first that matches counts.
    #[arg(long, value_name = "PATTERN=URI", value_parser = forward)]
    pub(crate) forward: Vec<Forward>,

    /// A serial line that comes without a concentrator's protocol is the console of this name:
    /// tcp://HOST:PORT, telnet://HOST:PORT, tls://, telnets://, unix:/PATH or rfc2217://HOST:PORT?speed=9600
    /// (and data=, parity=, stop=, flow=) is connected to; tcp://:PORT, telnet://:PORT, tls://:PORT,
    /// telnets://:PORT (tcp://ADDRESS:PORT?listen) or unix:/PATH?listen is listened at;
    /// tty:/dev/ttyS0?speed=9600 (or /dev/ttyS0) is opened; exec:COMMAND is run, and run again when it ends;
    /// pty:/PATH is a pseudoterminal that is made. Its UUID follows from its name; [[line]] in the
    /// configuration file can give another. Repeat it.
    #[arg(long, value_name = "NAME=URI", value_parser = line)]
    pub(crate) line: Vec<SerialLine>,

    /// Let VMs whose serial port has the direction "Client" be connected to where its URI says, if that
    /// matches: tcp://*.lab.example:2377, with * and ? as in --forward. Repeat it. Without, no VM is. Never
    /// let this machine's own addresses through: a guest would speak there as you.
    #[arg(long, value_name = "PATTERN", value_parser = allowed)]
    pub(crate) dial_allow: Vec<Pattern>,
}

/// Which consoles are connected, and to what.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Forward {
    pub(crate) pattern: Pattern,
    pub(crate) target: Arc<Target>,
}

impl DialOptions {
    /// Which consoles are connected to what.
    pub(crate) fn forwards(&self) -> Vec<(Pattern, Arc<Target>)> {
        self.forward.iter().map(|forward| (forward.pattern.clone(), Arc::clone(&forward.target))).collect()
    }
}

fn line(text: &str) -> Result<SerialLine, String> {
    let Some((name, uri)) = split(text) else {
        return Err("give a name, = and where it is, as in plc1=tcp://10.0.0.5:2001".to_owned());
    };
    let name = line_name(name)?.to_owned();
    let (uri, mux) = take_mux(uri).map_err(|why| why.to_string())?;
    Ok(SerialLine { uuid: uuid_of_line(&name), name, place: line_place(&uri)?, mux })
}

/// What a line may be called.
pub(crate) fn line_name(name: &str) -> Result<&str, String> {
    let is_name = !name.is_empty() && name.chars().count() <= 128 && !name.contains(char::is_control);
    if is_name { Ok(name) } else { Err("a name has 1 to 128 characters, which can be shown".to_owned()) }
}

/// Where a line is.
pub(crate) fn line_place(uri: &str) -> Result<LinePlace, String> {
    let place = uri.parse().map_err(|why: NoLine| why.to_string())?;
    match &place {
        LinePlace::Dial(target) => match target.place() {
            TargetPlace::Local(LocalLine::Program(command)) if words(command).is_none() => {
                Err(format!("{command:?} has a quote without an end, or no word"))
            }
            _ => Ok(place),
        },
        LinePlace::Listen { .. } => Ok(place),
    }
}

fn forward(text: &str) -> Result<Forward, String> {
    let Some((pattern, uri)) = split(text) else {
        return Err("give a pattern, = and where to, as in web*=tcp://attach.example:2377".to_owned());
    };
    let pattern = self::pattern(pattern)?;
    Ok(Forward { pattern, target: target(uri)? })
}

/// Splits where a URI begins, or at the last =: names may have one, and so may paths.
pub(super) fn split(text: &str) -> Option<(&str, &str)> {
    let schemes = [
        "tcp:", "tls:", "ssl:", "telnet:", "telnets:", "rfc2217:", "unix:", "exec:", "pty:", "tty:", "/dev/",
    ];
    let is_uri = |rest: &str| {
        let rest = rest.to_ascii_lowercase();
        schemes.iter().any(|scheme| rest.starts_with(scheme))
    };
    let mut ends = text.match_indices('=').map(|(at, _)| at);
    let at = ends.find(|&at| is_uri(&text[at + 1..])).or_else(|| text.rfind('='))?;
    Some((&text[..at], &text[at + 1..]))
}

/// A pattern of targets, as they are written by the one who looks.
fn allowed(text: &str) -> Result<Pattern, String> {
    let fault = match text {
        _ if text.contains(|c: char| c.is_ascii_uppercase()) => "write it in lower case, as targets are",
        _ if text.starts_with("ssl:") => "write tls:// for ssl://",
        _ if text.starts_with("unix:") => "unix sockets are not for VMs",
        _ => return pattern(text),
    };
    Err(fault.to_owned())
}

fn pattern(text: &str) -> Result<Pattern, String> {
    text.parse().map_err(|_| "the pattern is empty, and would match nothing".to_owned())
}

/// Something to connect to.
pub(crate) fn target(uri: &str) -> Result<Arc<Target>, String> {
    let target: Target = uri.parse().map_err(|why: NoTarget| why.to_string())?;
    match target.port() {
        Some(_) => Err("rfc2217:// is for lines: a console is not set".to_owned()),
        None => Ok(Arc::new(target)),
    }
}
