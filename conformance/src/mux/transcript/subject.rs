//! What a transcript is played to: a session or a link of the core.

use std::fmt;

use vspc_core::mux::link::{Link, LinkEvent};
use vspc_core::mux::{Dialect, Event, GoAwayCode, Received, Session, StreamId};
use vspc_core::time::Instant;

use super::{bytes, hex};

pub(super) enum Subject {
    Session(Box<Session>),
    Link(Box<Link>),
}

impl Subject {
    pub(super) fn hear(&mut self, bytes: &[u8], now: Instant) {
        match self {
            Self::Session(session) => session.handle_received(bytes, now),
            Self::Link(link) => link.handle_received(bytes, now),
        }
    }

    pub(super) fn say(&mut self, now: Instant) -> Vec<u8> {
        let mut said = Vec::new();
        loop {
            let n = match self {
                Self::Session(session) => session.transmit_with(now, |runs| {
                    runs.iter().for_each(|run| said.extend_from_slice(run));
                    runs.iter().map(|run| run.len()).sum()
                }),
                Self::Link(link) => link.transmit_with(now, |frame| {
                    said.extend_from_slice(frame);
                    frame.len()
                }),
            };
            if n == 0 {
                return said;
            }
        }
    }

    pub(super) fn due(&self) -> Option<Instant> {
        match self {
            Self::Session(session) => session.poll_timeout(),
            Self::Link(link) => link.poll_timeout(),
        }
    }

    pub(super) fn timeout(&mut self, now: Instant) {
        match self {
            Self::Session(session) => session.handle_timeout(now),
            Self::Link(link) => link.handle_timeout(now),
        }
    }

    pub(super) fn event(&mut self) -> Option<String> {
        match self {
            Self::Session(session) => loop {
                return Some(match session.poll_event()? {
                    Event::Started(_) | Event::Readable(_) | Event::Writable(_) => continue,
                    Event::Restarted(_) => "restarted".into(),
                    Event::Opened(id) => format!("opened {}", name(id)),
                    Event::Exited(id, code) => format!("exited {} {code}", name(id)),
                    Event::Reset(id, _) => format!("reset {}", name(id)),
                    Event::Retired(id) => format!("retired {}", name(id)),
                    Event::GoingAway { code, last } => format!("going-away {} {}", code.to_u16(), name(last)),
                    Event::Closed(_) => "closed".into(),
                    other => format!("{other:?}"),
                });
            },
            Self::Link(link) => loop {
                return Some(match link.poll_event()? {
                    LinkEvent::Readable | LinkEvent::Writable => continue,
                    LinkEvent::Opened => "opened".into(),
                    LinkEvent::Restarted => "restarted".into(),
                    LinkEvent::Ended => "ended".into(),
                    LinkEvent::Closed(_) => "closed".into(),
                    other => format!("{other:?}"),
                });
            },
        }
    }

    pub(super) fn act(&mut self, words: &[String], now: Instant) -> Result<(), String> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let data = |text: &str| bytes(text).ok_or_else(|| format!("neither hex nor \"text\": {text}"));
        match self {
            Self::Session(session) => {
                let id = |text: &str| id(text).ok_or_else(|| format!("no stream id: {text}"));
                let plain = |error: vspc_core::mux::StreamError| error.to_string();
                match words[..] {
                    ["open", want] => {
                        let opened = session.open().map_err(|error| error.to_string())?;
                        same("stream", &opened, &id(want)?)
                    }
                    ["announce", want] => {
                        let opened = session.open_announced().map_err(|error| error.to_string())?;
                        same("stream", &opened, &id(want)?)
                    }
                    ["credit", at, n] => same("credit", &session.credit(id(at)?).to_string(), &n.to_string()),
                    ["attach", at] => session.attach(id(at)?).map_err(|error| error.to_string()),
                    ["write", at, text] => {
                        let text = data(text)?;
                        same("bytes taken", &session.write(id(at)?, &text).map_err(plain)?, &text.len())
                    }
                    ["read", at, text] => {
                        let (at, text) = (id(at)?, data(text)?);
                        let mut got = vec![0; text.len()];
                        let n = session.read(at, &mut got).map_err(plain)?;
                        got.truncate(n);
                        same("bytes", &hex(&got), &hex(&text))
                    }
                    ["end", at] => same("state", &session.received(id(at)?).map_err(plain)?, &Received::End),
                    ["finish", at] => session.finish(id(at)?).map_err(plain),
                    ["reset", at] => session.reset(id(at)?).map_err(plain),
                    ["stop", at] => session.stop_reading(id(at)?).map_err(plain),
                    ["exit", at, code] => {
                        let code = code.parse().map_err(|_| format!("no exit code: {code}"))?;
                        session.exit(id(at)?, code).map_err(plain)
                    }
                    ["speaks", "s2"] => same("dialect", &session.dialect(), &Some(Dialect::S2)),
                    ["speaks", "nothing"] => same("dialect", &session.dialect(), &None),
                    ["speaks", "v1"] => same("dialect", &session.dialect(), &Some(Dialect::V1)),
                    ["goaway"] => {
                        session.go_away();
                        Ok(())
                    }
                    ["close"] => {
                        session.close();
                        Ok(())
                    }
                    ["close", code] => {
                        let code = code.parse().map_err(|_| format!("no code: {code}"))?;
                        session.close_with(GoAwayCode::from_u16(code));
                        Ok(())
                    }
                    ["reopened"] => {
                        session.line_reopened(now);
                        Ok(())
                    }
                    _ => Err(format!("no such action: {words:?}")),
                }
            }
            Self::Link(link) => match words[..] {
                ["open"] => {
                    link.open(now);
                    Ok(())
                }
                ["write", text] => {
                    let text = data(text)?;
                    same("bytes taken", &link.write(&text), &text.len())
                }
                ["read", text] => {
                    let text = data(text)?;
                    same("bytes", &hex(link.received()), &hex(&text))?;
                    link.consume(text.len());
                    Ok(())
                }
                ["end"] => same("end", &link.is_ended(), &true),
                ["finish"] => {
                    link.finish();
                    Ok(())
                }
                ["reset", code] => {
                    link.reset(code.parse().map_err(|_| format!("no code: {code}"))?);
                    Ok(())
                }
                // Counted: bad checksums and short frames, as noise has made them.
                ["noise", checksum, short] => {
                    let counters = link.counters();
                    let got = format!("{} {}", counters.bad_checksum, counters.short);
                    same("bad checksums and short frames", &got, &format!("{checksum} {short}"))
                }
                _ => Err(format!("no such action: {words:?}")),
            },
        }
    }
}

fn same<T: PartialEq + fmt::Debug>(what: &str, got: &T, want: &T) -> Result<(), String> {
    if got == want { Ok(()) } else { Err(format!("{what}: expected {want:?}, got {got:?}")) }
}

fn id(text: &str) -> Option<StreamId> {
    match text.strip_prefix('g') {
        Some(number) => Some(StreamId(number.parse::<u64>().ok()? | StreamId::GUEST_BIT)),
        None => text.parse().ok().map(StreamId),
    }
}

fn name(id: StreamId) -> String {
    if id.is_guests() { format!("g{}", id.number()) } else { id.number().to_string() }
}
