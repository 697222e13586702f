//! The control socket: who may use it tells lines of moves, one request a connection.
//!
//! A request is one line of JSON, `{"do": "begin", "line": "web01"}`, and so is the answer: `{"ok": true,
//! "secret": "…"}` or `{"ok": false, "error": "…"}`. Each connection has a thread, which waits and is not the
//! loop.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use socket2::Socket;
use vspc_core::concentrator::{Address, SocketFile};
use vspc_host::listener::Listener;

use crate::orders::{Answer, Orders, What, Whom};

/// Opens it. Only this user can reach it: whoever does can take a VM's console over.
pub(crate) fn open(path: &Path) -> io::Result<Listener> {
    let file = SocketFile { path: path.to_owned(), mode: 0o600, owner: None, group: None };
    Listener::open(&Address::Unix(Arc::new(file)))
}

/// Those who are being answered.
#[derive(Debug, Default)]
pub(crate) struct Askers(Arc<()>);

impl Askers {
    /// Answers one who has connected, in a thread. One too many is closed.
    pub(crate) fn answer(&self, socket: Socket, orders: &Orders) -> io::Result<()> {
        if Arc::strong_count(&self.0) > MOST {
            return Err(io::Error::other("too many wait for answers"));
        }
        let (place, orders) = (Arc::clone(&self.0), orders.clone());
        thread::Builder::new().name("control".to_owned()).spawn(move || {
            if let Err(error) = serve(socket, &orders) {
                log::debug!("a request is not answered: {error}");
            }
            drop(place);
        })?;
        Ok(())
    }
}

fn serve(socket: Socket, orders: &Orders) -> io::Result<()> {
    socket.set_nonblocking(false)?;
    socket.set_read_timeout(Some(ASK))?;
    socket.set_write_timeout(Some(ASK))?;
    let mut socket = UnixStream::from(socket);
    let mut line = String::new();
    BufReader::new((&socket).take(LONGEST)).read_line(&mut line)?;
    let answer = match request(&line) {
        Ok((name, what)) => {
            log::debug!("{name}: {what:?} is asked for");
            let patience = if what == What::Watch { WATCH } else { ANSWER };
            match orders.ask(Whom::Named(name), what, patience) {
                Some(answer) => answer,
                None => Err("the relay is ending".to_owned()),
            }
        }
        Err(fault) => Err(fault),
    };
    let answer = match answer {
        Ok(secret) if secret.is_empty() => json!({"ok": true}),
        Ok(secret) => json!({"ok": true, "secret": secret}),
        Err(error) => json!({"ok": false, "error": error}),
    };
    writeln!(socket, "{answer}")
}

fn request(line: &str) -> Result<(String, What), String> {
    let request: Value =
        serde_json::from_str(line).map_err(|error| format!("this is no request: {error}"))?;
    let text = |key: &str| request[key].as_str().ok_or_else(|| format!("{key:?} is missing"));
    let what = match text("do")? {
        "begin" => What::Begin,
        "secret" => What::Watch,
        "expect" => match request.get("secret") {
            None | Some(Value::Null) => What::Expect(None),
            Some(_) => What::Expect(Some(text("secret")?.parse()?)),
        },
        "complete" => What::Complete,
        "abort" => What::Abort,
        other => return Err(format!("{other:?} cannot be done; {FORMS}")),
    };
    Ok((text("line")?.to_owned(), what))
}

/// Asks a relay that runs. The answer is the secret, where there is one.
pub(crate) fn ask(path: &Path, request: &Value) -> io::Result<Answer> {
    let mut socket = UnixStream::connect(path)?;
    writeln!(socket, "{request}")?;
    let mut line = String::new();
    BufReader::new(socket).read_line(&mut line)?;
    let answer: Value = serde_json::from_str(&line).map_err(io::Error::other)?;
    Ok(match answer["ok"].as_bool() {
        Some(true) => Ok(answer["secret"].as_str().unwrap_or_default().to_owned()),
        _ => Err(answer["error"].as_str().unwrap_or("the relay gives no reason").to_owned()),
    })
}

const FORMS: &str = "there are begin, secret, expect, complete and abort";

/// Requests that may wait at a time: dozens of VMs leave a host in one moment.
const MOST: usize = 256;

/// A request: a secret has 128 KiB of typed bytes in it at most, in hexadecimal.
const LONGEST: u64 = 512 << 10;

/// How long a request may take to come.
const ASK: Duration = Duration::from_secs(10);

/// How long a line is given to answer.
const ANSWER: Duration = Duration::from_secs(70);

/// How long the next secret is waited for.
const WATCH: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_or_refused_with_what_is_wrong() {
        let read = |text| request(text).map(|(name, what)| format!("{name} {what:?}"));
        assert_eq!(read(r#"{"do": "begin", "line": "web01"}"#).unwrap(), "web01 Begin");
        assert_eq!(read(r#"{"do": "expect", "line": "a"}"#).unwrap(), "a Expect(None)");
        for (text, named) in [
            ("", "no request"),
            ("{}", "do"),
            (r#"{"do": "begin"}"#, "line"),
            (r#"{"do": "stop", "line": "a"}"#, "begin, secret"),
            (r#"{"do": "expect", "line": "a", "secret": "x"}"#, "vspc1"),
            (r#"{"do": "expect", "line": "a", "secret": 1}"#, "secret"),
        ] {
            let fault = read(text).unwrap_err();
            assert!(fault.contains(named), "{text}: {fault}");
        }
    }
}
