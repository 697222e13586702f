//! `vspc log`: what a console has printed, from its log.
//!
//! Owns where the log is read: on a server, by the operator protocol, also after it went away; or in a log
//! directory, without one (`offline`). What becomes of what is read is `shown`'s and `cast`'s.

mod cast;
mod lines;
mod offline;
mod shown;
mod times;

use std::thread;

use serde_json::{Value, json};
use vspc_core::admin::operator::{LogRecord, LogRecords, When};
use vspc_core::mux::StreamId;

use self::cast::Cast;
use self::shown::Shown;
use crate::args::LogArgs;
use crate::attach::reconnect::{FIRST_PAUSE, LONGEST_PAUSE};
use crate::clock;
use crate::connection::Connection;
use crate::endings::{describe, failure};
use crate::failure::{Code, Failure};
use crate::names::{name_of, reference, resolve};
use crate::output;
use crate::printable::printable;
use crate::server::Server;
use vspc_operator::News;

/// What is done with a log.
enum Output {
    Shown(Box<Shown>),
    Cast(Box<Cast>),
}

/// Which part of a log is wanted.
struct Span {
    since: Option<When>,
    until: Option<When>,
    /// So many of the last lines, where whoever reads the log may pick them.
    lines: Option<usize>,
    follow: bool,
}

pub(crate) fn run(open: impl FnOnce() -> Result<Connection, Failure>, args: &LogArgs) -> Result<(), Failure> {
    clock::find_zone();
    let time = |text: &Option<String>| text.as_deref().map(times::parse).transpose();
    let (since, until) = (time(&args.since)?, time(&args.until)?);
    // The last lines of what was found are picked where it is found.
    let is_whole = since.is_none() && until.is_none() && args.grep.is_none();
    let span = Span { since, until, lines: args.lines.filter(|_| is_whole), follow: args.follow };
    let mut output = Output::new(args, is_whole)?;
    match &args.dir {
        Some(dir) => offline::read(dir, args, &span, &mut output)?,
        None => read(open()?, args, &span, &mut output)?,
    }
    output.finish()
}

impl Output {
    fn new(args: &LogArgs, is_whole: bool) -> Result<Self, Failure> {
        Ok(match &args.cast {
            Some(path) => Self::Cast(Box::new(Cast::create(path, args)?)),
            None => Self::Shown(Box::new(Shown::new(args, args.lines.filter(|_| !is_whole))?)),
        })
    }

    /// A piece of the log.
    fn take(&mut self, record: LogRecord<'_>) -> Result<(), Failure> {
        match (record, self) {
            (LogRecord::Note(text), _) => output::tell(printable(text)),
            (LogRecord::Failed(text), _) => return Err(Failure::error(printable(text))),
            (LogRecord::Text(bytes) | LogRecord::Stamp(bytes), Self::Shown(shown)) => {
                return shown.take(bytes);
            }
            (LogRecord::Text(bytes), Self::Cast(cast)) => return cast.take(bytes),
            (LogRecord::Time(millis), Self::Cast(cast)) => cast.time(millis),
            _ => {}
        }
        Ok(())
    }

    /// What has come by now is to be seen.
    fn flush(&mut self) -> Result<(), Failure> {
        match self {
            Self::Shown(shown) => shown.flush(),
            Self::Cast(_) => Ok(()),
        }
    }

    fn finish(self) -> Result<(), Failure> {
        match self {
            Self::Shown(shown) => shown.finish(),
            Self::Cast(cast) => cast.finish(),
        }
    }
}

/// How the reading of a log has ended.
enum End {
    Whole,
    /// The server went away.
    Gone(String),
}

fn read(mut connection: Connection, args: &LogArgs, span: &Span, output: &mut Output) -> Result<(), Failure> {
    let console = resolve(&mut connection, &args.console.name)?;
    let mut request = json!({
        "console": reference(&console), "since": span.since, "until": span.until, "lines": span.lines,
        "follow": span.follow,
    });
    loop {
        match stream(&mut connection, &mut request, output)? {
            End::Whole => return Ok(()),
            End::Gone(why) if span.follow => output::tell(format_args!("{why}; reconnecting")),
            End::Gone(why) => return Err(Failure::no_connection(why)),
        }
        let mut pause = FIRST_PAUSE;
        loop {
            match again(connection.server(), &console) {
                Ok((again, console)) => {
                    connection = again;
                    request["console"] = console.into();
                    break;
                }
                // It is waited for, and so is the VM.
                Err(failure) if matches!(failure.code, Code::NoConnection | Code::NoSuchConsole) => {
                    thread::sleep(pause);
                }
                Err(failure) => return Err(failure),
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        output::tell("connected again");
    }
}

/// Connects again; also what names the console now. Ids are another run's; the UUID is the VM's, and its name
/// where several have that.
fn again(server: &Server, console: &Value) -> Result<(Connection, String), Failure> {
    let mut connection = Connection::open(server)?;
    let mut refused = None;
    for text in [console["uuid"].as_str().unwrap_or_default().to_owned(), name_of(console)] {
        match connection.ask("show", json!({"console": text}))? {
            Ok(answer) => return Ok((connection, reference(&answer["console"]))),
            Err(refusal) => refused = Some(failure(&refusal)),
        }
    }
    Err(refused.unwrap_or_else(|| Failure::error("there is nothing to read")))
}

/// Reads until the log or the connection ends. The request knows afterwards where it stands.
fn stream(connection: &mut Connection, request: &mut Value, output: &mut Output) -> Result<End, Failure> {
    let Some((id, stream)) = connection.request_stream("log", request.clone()) else {
        return Err(Failure::error("the server speaks vSPC.py's protocol, in which there are no logs"));
    };
    let mut records = LogRecords::default();
    loop {
        while let Some(news) = connection.poll() {
            match news {
                News::Answer(of, Err(refusal)) if of == id => {
                    return Err(match refusal.code.as_str() {
                        "unknown-op" => Failure::error("this server shows no logs: it is too old for that"),
                        _ => failure(&refusal),
                    });
                }
                News::Readable(of)
                    if of == stream && take(connection, stream, &mut records, request, output)? =>
                {
                    return Ok(End::Whole);
                }
                News::Reset(of) if of == stream => {
                    return Err(Failure::error("the server took the log away"));
                }
                News::Over(ending) => return Ok(End::Gone(describe(&ending))),
                _ => {}
            }
        }
        output.flush()?;
        connection.wait(clock::now() + IDLE);
    }
}

/// Takes what has come. Returns whether it was the last.
fn take(
    connection: &mut Connection,
    stream: StreamId,
    records: &mut LogRecords,
    request: &mut Value,
    output: &mut Output,
) -> Result<bool, Failure> {
    let mut outcome = Ok(());
    let ended = connection.read(stream, usize::MAX, |bytes| {
        let taken = records.take(bytes, |record| {
            if let LogRecord::Place(place) = record {
                request["after"] = place.into();
            } else if outcome.is_ok() {
                outcome = output.take(record);
            }
        });
        if let Err(error) = taken {
            outcome = Err(Failure::error(error.to_string()));
        }
    });
    outcome.map(|()| ended)
}

/// How often a connection is looked after on which nothing happens.
const IDLE: std::time::Duration = std::time::Duration::from_secs(60);
