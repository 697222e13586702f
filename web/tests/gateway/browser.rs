//! What a browser does, by hand: requests, server-sent events, a websocket.

use std::time::Instant;

use serde_json::Value;

use crate::processes::{Gateway, PATIENCE, Wire};

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (of, value) = line.split_once(": ")?;
            of.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

/// Sends a request's first lines; `Host` is the gateway's if none is given.
fn send(gateway: &Gateway, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Box<dyn Wire> {
    let mut stream = gateway.connect();
    let mut text = format!("{method} {path} HTTP/1.1\r\n");
    if !headers.iter().any(|(name, _)| *name == "host") {
        text.push_str(&format!("host: {}\r\n", gateway.address));
    }
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() {
        text.push_str(&format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len()));
    }
    stream.write_all(format!("{text}\r\n{body}").as_bytes()).unwrap();
    stream
}

pub(crate) fn ask(
    gateway: &Gateway,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let headers = [headers, &[("connection", "close")]].concat();
    let mut stream = send(gateway, method, path, &headers, body);
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

pub(crate) fn get(gateway: &Gateway, path: &str) -> Answer {
    ask(gateway, "GET", path, &[], "")
}

/// Asks again until this holds: what the server has told takes a moment.
pub(crate) fn until(gateway: &Gateway, path: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let value = get(gateway, path).json();
        if holds(&value) {
            return value;
        }
        assert!(Instant::now() < deadline, "it never held of {value}");
    }
}

/// Server-sent events.
pub(crate) struct Events {
    stream: Box<dyn Wire>,
    received: Vec<u8>,
}

impl Events {
    pub(crate) fn of(gateway: &Gateway, path: &str, headers: &[(&str, &str)]) -> Self {
        Self { stream: send(gateway, "GET", path, headers, ""), received: Vec::new() }
    }

    /// The next event: its kind, its data, its id.
    pub(crate) fn next(&mut self) -> (String, Value, Option<String>) {
        loop {
            // Chunks of the transfer coding stand between; a line that is no field is none of ours.
            if let Some(end) = self.received.windows(2).position(|two| two == b"\n\n") {
                let text: Vec<u8> = self.received.drain(..end + 2).collect();
                let text = String::from_utf8(text).unwrap();
                let field =
                    |name: &str| text.lines().find_map(|line| line.strip_prefix(name).map(str::to_owned));
                if let (Some(kind), Some(data)) = (field("event: "), field("data: ")) {
                    return (kind, serde_json::from_str(&data).unwrap(), field("id: "));
                }
                continue;
            }
            let mut buf = [0; 4096];
            let n = self.stream.read(&mut buf).unwrap();
            assert!(n > 0, "the events ended");
            self.received.extend_from_slice(&buf[..n]);
        }
    }

    /// Reads until they end.
    pub(crate) fn ends(&mut self) {
        let mut buf = [0; 4096];
        while matches!(self.stream.read(&mut buf), Ok(n) if n > 0) {}
    }

    pub(crate) fn next_of(&mut self, kind: &str) -> (Value, Option<String>) {
        loop {
            let (of, data, id) = self.next();
            if of == kind {
                return (data, id);
            }
        }
    }
}

/// A websocket.
pub(crate) struct Socket {
    stream: Box<dyn Wire>,
    received: Vec<u8>,
}

#[derive(PartialEq, Debug)]
pub(crate) enum Frame {
    Bytes(Vec<u8>),
    Text(Value),
    Pong(Vec<u8>),
    Close(u16, String),
}

impl Socket {
    pub(crate) fn open(gateway: &Gateway, path: &str, speech: &str) -> Self {
        Self::try_open(gateway, path, speech, &[]).unwrap_or_else(|answer| panic!("{answer}"))
    }

    /// `Err` has the head of an answer that is no websocket.
    pub(crate) fn try_open(
        gateway: &Gateway,
        path: &str,
        speech: &str,
        headers: &[(&str, &str)],
    ) -> Result<Self, String> {
        let handshake = [
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-protocol", speech),
        ];
        let mut stream = send(gateway, "GET", path, &[&handshake, headers].concat(), "");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        if !head.starts_with("HTTP/1.1 101") {
            return Err(head);
        }
        assert!(head.to_lowercase().contains("s3pplmbitxaq9kygzzhzrbk+xoo="), "{head}");
        Ok(Self { stream, received: Vec::new() })
    }

    pub(crate) fn send(&mut self, kind: u8, content: &[u8]) {
        let mut wire = vec![0x80 | kind];
        match content.len() {
            len @ 0..=125 => wire.push(0x80 | len as u8),
            len => {
                wire.push(0x80 | 126);
                wire.extend_from_slice(&(len as u16).to_be_bytes());
            }
        }
        let mask = [7, 1, 9, 4];
        wire.extend_from_slice(&mask);
        wire.extend(content.iter().enumerate().map(|(i, byte)| byte ^ mask[i % 4]));
        self.stream.write_all(&wire).unwrap();
    }

    /// Sends bytes as they are.
    pub(crate) fn send_raw(&mut self, wire: &[u8]) {
        self.try_send_raw(wire).unwrap();
    }

    /// The same, to a gateway that may have closed.
    pub(crate) fn try_send_raw(&mut self, wire: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(wire)
    }

    pub(crate) fn say(&mut self, value: &Value) {
        self.send(1, value.to_string().as_bytes());
    }

    /// The next frame that is no ping.
    pub(crate) fn next(&mut self) -> Frame {
        loop {
            let kind = self.take(1)[0];
            let len = match self.take(1)[0] {
                126 => usize::from(u16::from_be_bytes(self.take(2).try_into().unwrap())),
                127 => u64::from_be_bytes(self.take(8).try_into().unwrap()) as usize,
                len => usize::from(len),
            };
            let content = self.take(len);
            match kind {
                0x82 => return Frame::Bytes(content),
                0x81 => return Frame::Text(serde_json::from_slice(&content).unwrap()),
                0x8a => return Frame::Pong(content),
                0x88 => {
                    let code = u16::from_be_bytes(content[..2].try_into().unwrap());
                    return Frame::Close(code, String::from_utf8(content[2..].to_vec()).unwrap());
                }
                _ => {}
            }
        }
    }

    /// The next notice of this kind; output is passed over.
    pub(crate) fn notice(&mut self, kind: &str) -> Value {
        loop {
            match self.next() {
                Frame::Text(value) if value["event"] == kind => return value,
                Frame::Close(code, why) => panic!("closed: {code} {why}"),
                _ => {}
            }
        }
    }

    /// Reads until the gateway closes, which has to be with this code and for this reason.
    pub(crate) fn closes(&mut self, code: u16, why: &str) {
        loop {
            if let Frame::Close(of, words) = self.next() {
                assert_eq!((of, words.as_str()), (code, why));
                return;
            }
        }
    }

    /// Reads as much output as this, and compares.
    pub(crate) fn expect(&mut self, text: &[u8]) {
        let mut seen = Vec::new();
        while seen.len() < text.len() {
            match self.next() {
                Frame::Bytes(mut bytes) => seen.append(&mut bytes),
                Frame::Text(_) | Frame::Pong(_) => {}
                Frame::Close(code, why) => panic!("closed: {code} {why}"),
            }
        }
        assert!(seen == text, "{}", String::from_utf8_lossy(&seen));
    }

    fn take(&mut self, n: usize) -> Vec<u8> {
        let mut buf = vec![0; 64 * 1024];
        while self.received.len() < n {
            let read = self.stream.read(&mut buf).unwrap();
            assert!(read > 0, "the gateway closed");
            self.received.extend_from_slice(&buf[..read]);
        }
        self.received.drain(..n).collect()
    }
}
