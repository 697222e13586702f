//! The bodies of the fuzz targets `admin_pickle`, `admin_dialogue` and `admin_operator`. The fuzz crate
//! includes this file.

use vspc_core::admin::dialect::{Dialect, FirstBytes};
use vspc_core::admin::lock::{Access, Lock, LockMode};
use vspc_core::admin::openstack::OpenStackLine;
use vspc_core::admin::operator::{Code, LINE_MAX, Line, Lines, Notice, ParseError, Request};
use vspc_core::admin::operator::{put_failure, put_notice};
use vspc_core::admin::pickle::{EntryText, ITEM_LIMIT, MESSAGE_LIMIT, PickleError, Unpickler, Value};
use vspc_core::admin::v3::{V3Event, V3Server};
use vspc_core::admin::v3_client::V3Client;
use vspc_core::admin::vmware_kit::{KitEvent, KitPortList, KitRequest, KitServer, put_connected};

/// A stream of pickles: `data` is what is read.
///
/// Checked: cuts change nothing; an error is final; what is held is bounded, and nothing between two pickles;
/// an exception comes out only where exceptions are read; containers are flat and no longer than allowed.
///
/// Returns how many were whole.
pub(crate) fn admin_pickle(data: &[u8]) -> usize {
    for new in [Unpickler::new, Unpickler::with_exceptions, || Unpickler::with_limit(64)] {
        let whole = pickles(new(), data.chunks(data.len().max(1)));
        let bytes = pickles(new(), data.chunks(1));
        let pieces = pickles(new(), data.chunks(7));
        assert_eq!(whole, bytes);
        assert_eq!(whole, pieces);
        for value in &whole.0 {
            assert!(is_flat(value), "{value}");
        }
    }
    let plain = pickles(Unpickler::new(), [data]);
    assert!(!plain.0.iter().any(|value| matches!(value, Value::Exception { .. })));
    // Whoever reads exceptions reads as much otherwise.
    let with_exceptions = pickles(Unpickler::with_exceptions(), [data]);
    assert!(with_exceptions.0.starts_with(&plain.0));
    with_exceptions.0.len()
}

/// A client of the admin listener: `data` is what it says, the first byte how that is cut.
///
/// Checked: its protocol is told by its first bytes, and by more of them the same; what a dialogue of that
/// protocol holds and answers is bounded; it says what was asked at most once, and takes no byte of telnet's.
pub(crate) fn admin_dialogue(data: &[u8]) {
    let Some((&size, said)) = data.split_first() else { return };
    let size = usize::from(size % 32).max(1);
    let told =
        (0..=said.len()).map(|len| FirstBytes::of(&said[..len])).find(|&told| told != FirstBytes::NeedsMore);
    if let Some(told) = told {
        assert_eq!(FirstBytes::of(said), told);
    } else {
        assert!(said.len() < FirstBytes::LIMIT);
    }
    v3_server(said, size);
    v3_client(said, size);
    match told {
        Some(FirstBytes::Of(Dialect::OpenStack)) => {
            let mut line = OpenStackLine::new();
            let asked = said.chunks(size).filter_map(|mut piece| line.receive(&mut piece)).count();
            assert!(asked <= 1);
        }
        Some(FirstBytes::Of(Dialect::VmwareKit)) => vmware_kit(said, size),
        _ => {}
    }
}

/// An operator's control stream: `data` is what the client says, the first byte how that is cut.
///
/// Checked: cuts change nothing; a line is a request, or is answered in one line of JSON that is no longer
/// than a line may be; what is held is bounded, and nothing between two lines.
///
/// Returns how many lines were requests.
pub(crate) fn admin_operator(data: &[u8]) -> usize {
    let Some((&size, said)) = data.split_first() else { return 0 };
    let whole = requests(said, said.len().max(1));
    assert_eq!(whole, requests(said, usize::from(size % 32) + 1));
    whole.iter().filter(|request| request.is_ok()).count()
}

fn requests(said: &[u8], size: usize) -> Vec<Result<Request, ParseError>> {
    let (mut lines, mut read) = (Lines::default(), Vec::new());
    for mut piece in said.chunks(size) {
        while let Some(line) = lines.next(&mut piece) {
            let Line::Whole(line) = line else { return read };
            assert!(line.len() < LINE_MAX && !line.contains(&b'\n'));
            let request = Request::parse(line);
            match &request {
                Ok(request) => assert!(request.id < 1 << 53),
                Err(ParseError::Refused(id, failure)) => {
                    assert!(matches!(failure.code, Code::BadRequest | Code::UnknownOp), "{failure:?}");
                    answered(|out| put_failure(*id, failure, out));
                }
                Err(ParseError::Broken(message)) => {
                    answered(|out| put_notice(&Notice::Broken { message: message.clone() }, out));
                    read.push(request);
                    return read;
                }
            }
            read.push(request);
        }
        assert!(piece.is_empty() && lines.memory() <= 2 * LINE_MAX, "{}", lines.memory());
    }
    read
}

/// One line of JSON.
fn answered(put: impl Fn(&mut Vec<u8>)) {
    let mut out = Vec::new();
    put(&mut out);
    assert!(out.len() <= LINE_MAX && out.iter().filter(|&&byte| byte == b'\n').count() == 1);
    assert!(out.starts_with(b"{") && out.ends_with(b"}\n"), "{}", out.escape_ascii());
}

fn pickles<'i>(
    mut unpickler: Unpickler,
    pieces: impl IntoIterator<Item = &'i [u8]>,
) -> (Vec<Value>, Option<PickleError>) {
    let mut values = Vec::new();
    for mut piece in pieces {
        loop {
            match unpickler.feed(&mut piece) {
                Ok(Some(value)) => {
                    assert!(unpickler.is_idle() && unpickler.held() == 0);
                    values.push(value);
                }
                Ok(None) => {
                    assert!(piece.is_empty());
                    assert!(unpickler.held() <= 8 * MESSAGE_LIMIT, "{}", unpickler.held());
                    break;
                }
                Err(error) => {
                    assert_eq!(unpickler.feed(&mut &b"N."[..]), Err(error));
                    assert_eq!(unpickler.held(), 0);
                    return (values, Some(error));
                }
            }
        }
    }
    (values, None)
}

fn is_flat(value: &Value) -> bool {
    let is_leaf =
        |value: &Value| matches!(value, Value::None | Value::Bool(_) | Value::Int(_) | Value::Str(_));
    match value {
        Value::List(items) => items.len() <= ITEM_LIMIT && items.iter().all(is_leaf),
        Value::Dict(items) => {
            items.len() <= ITEM_LIMIT && items.iter().all(|(key, value)| is_leaf(key) && is_leaf(value))
        }
        _ => true,
    }
}

fn v3_server(said: &[u8], size: usize) {
    let mut server = V3Server::new();
    let (mut out, mut requests) = (Vec::new(), 0);
    for mut piece in said.chunks(size) {
        while let Some(event) = server.receive(&mut piece, &mut out) {
            match event {
                V3Event::Request(asked) => {
                    requests += 1;
                    match (asked.name, asked.lock) {
                        (None, _) => {
                            server.not_found(2, &mut out);
                            let entry = EntryText { name: "web01", uuid: "u1", port: None };
                            assert!(server.entries(&mut std::iter::repeat(entry), usize::MAX, &mut out));
                        }
                        (_, Err(_)) => server.lock_invalid(&mut out),
                        (_, Ok(lock)) => server.found(lock, "login: ", &mut out),
                    }
                }
                V3Event::Refused(_) => assert!(server.is_ended()),
                V3Event::Telnet => assert!(server.may_send()),
                V3Event::Hello { version } => assert!(version >= 3),
            }
        }
        assert!(piece.is_empty() || server.may_send());
        assert!(server.held() <= MESSAGE_LIMIT && out.len() < 1000);
    }
    assert!(requests <= 1);
}

fn v3_client(said: &[u8], size: usize) {
    let mut out = Vec::new();
    let mut client = V3Client::attach("web01", LockMode::Write, &mut out);
    for mut piece in said.chunks(size) {
        while let Some(answer) = client.receive(&mut piece, &mut out) {
            assert!(answer.is_ok() || client.is_ended());
        }
        assert!(piece.is_empty() || client.is_attached());
        assert!(out.len() < 200);
    }
}

/// The client against a console of its own lock's.
fn vmware_kit(said: &[u8], size: usize) {
    let mut out = Vec::new();
    let mut server = KitServer::open(&mut out);
    let mut lock = Lock::new();
    for mut piece in said.chunks(size) {
        out.clear();
        let mut list = false;
        while let Some(event) = server.receive(&mut piece, &mut out) {
            match event {
                KitEvent::Request(KitRequest::PortList) => list = true,
                KitEvent::Request(KitRequest::Connect { lock: mode, .. }) => {
                    let granted = lock.request(1, mode).expect("nobody else is there");
                    assert_eq!(granted.access == Access::Spectator, mode == LockMode::Readonly);
                    put_connected(&mut out);
                }
                KitEvent::Request(KitRequest::Disconnect) => drop(lock.release(1)),
                KitEvent::Data(bytes) => assert!(!bytes.is_empty()),
                _ => {}
            }
        }
        if list {
            KitPortList::begin(&mut out).end(&mut out);
        }
        assert!(piece.is_empty() && server.held() <= 1024);
        // Three bytes ask for at most three, or a message for one.
        assert!(out.len() <= 2 * size + 64, "{}", out.len());
    }
}
