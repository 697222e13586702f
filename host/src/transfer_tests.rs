//! What a visit does, with sockets of both kinds that have a peer in this process.

use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use vspc_core::concentrator::{Address, Config, Output, Peer};

use super::*;

/// An engine, and a connection of its that has been greeted with offers.
fn engine() -> (Concentrator, ConnId) {
    let now = Instant::ZERO;
    let mut engine = Concentrator::new(Arc::new(Config::default()), [7; 32], now);
    let Some(Output::Listen(listener, address)) = engine.poll_output() else { panic!("no listener") };
    engine.handle_listening(listener, Ok(address), now);
    let peer = Peer::new(Address::Ip("192.0.2.1:1".parse().unwrap()));
    let id = engine.handle_accepted(listener, peer, now).unwrap();
    (engine, id)
}

/// A connected pair of sockets, of which the first does not block.
fn pair() -> (UnixStream, UnixStream) {
    let (socket, peer) = UnixStream::pair().unwrap();
    socket.set_nonblocking(true).unwrap();
    (socket, peer)
}

/// No connection of the engine's, and so its window is 0.
const NOBODY: ConnId = ConnId::from_bits(99);

#[test]
fn what_is_there_is_read_and_then_the_end() {
    let (mut engine, id) = engine();
    let (socket, mut peer) = pair();
    let mut receive =
        |len| receive(&mut engine, id, &socket, Ending::default(), &mut vec![0; len], Instant::ZERO);
    assert_eq!(receive(8), Received::Nothing);
    peer.write_all(b"hello").unwrap();
    assert_eq!(receive(4), Received::Bytes { more: true });
    assert_eq!(receive(4), Received::Bytes { more: false });
    assert_eq!(receive(4), Received::Nothing);
    drop(peer);
    assert_eq!(receive(4), Received::Closed(Closed::Input));
}

#[test]
fn a_failure_that_a_write_met_is_told_behind_what_came_before_it() {
    let (mut engine, id) = engine();
    let (socket, mut peer) = pair();
    peer.write_all(b"last words").unwrap();
    drop(peer);
    assert_eq!(
        transmit(&mut engine, id, &socket, &mut Refills::default(), Instant::ZERO),
        Transmitted::Failed(ErrorKind::BrokenPipe)
    );
    let failed = Closed::Failed(ErrorKind::BrokenPipe);
    let mut receive = || receive(&mut engine, id, &socket, Ending(Some(failed)), &mut [0; 64], Instant::ZERO);
    assert_eq!(receive(), Received::Bytes { more: false });
    assert_eq!(receive(), Received::Closed(failed));
    // Also if the peer does not end: nothing can be said to it any more.
    let (socket, _peer) = pair();
    assert_eq!(
        super::receive(&mut engine, id, &socket, Ending(Some(failed)), &mut [0; 64], Instant::ZERO),
        Received::Closed(failed)
    );
}

#[test]
fn with_no_window_nothing_is_read_and_yet_an_end_is_found() {
    let (mut engine, _) = engine();
    let (mut socket, mut peer) = pair();
    let mut receive = |socket: &UnixStream| {
        receive(&mut engine, NOBODY, socket, Ending::default(), &mut [0; 64], Instant::ZERO)
    };
    assert_eq!(receive(&socket), Received::Nothing);
    peer.write_all(b"kept").unwrap();
    assert_eq!(receive(&socket), Received::WindowClosed);
    drop(peer);
    assert_eq!(receive(&socket), Received::WindowClosedAndEnded);
    assert_eq!(socket.read(&mut [0; 64]).unwrap(), 4);
    assert_eq!(receive(&socket), Received::Closed(Closed::Input));
}

#[test]
fn with_no_window_an_end_behind_unread_bytes_is_found_also_by_tcp() {
    let (mut engine, _) = engine();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (socket, _) = listener.accept().unwrap();
    socket.set_nonblocking(true).unwrap();
    peer.write_all(b"unread").unwrap();
    let mut receive =
        || receive(&mut engine, NOBODY, &socket, Ending::default(), &mut [0; 64], Instant::ZERO);
    assert_eq!(receive(), Received::WindowClosed);
    peer.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(receive(), Received::WindowClosedAndEnded);
}

#[test]
fn with_no_window_a_reset_behind_unread_bytes_is_found() {
    let (mut engine, _) = engine();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (socket, _) = listener.accept().unwrap();
    peer.write_all(b"unread").unwrap();
    SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
    drop(peer);
    assert_eq!(
        receive(&mut engine, NOBODY, &socket, Ending::default(), &mut [0; 64], Instant::ZERO),
        Received::WindowClosedAndFailed(ErrorKind::ConnectionReset)
    );
}

#[test]
fn a_full_socket_is_told_from_an_engine_that_has_no_more() {
    let (mut engine, id) = engine();
    let (mut socket, mut peer) = pair();
    while socket.write(&[0; 4096]).is_ok() {}
    assert_eq!(transmit(&mut engine, id, &socket, &mut Refills::default(), Instant::ZERO), Transmitted::Full);
    peer.set_nonblocking(true).unwrap();
    while peer.read(&mut [0; 4096]).is_ok() {}
    assert_eq!(transmit(&mut engine, id, &socket, &mut Refills::default(), Instant::ZERO), Transmitted::All);
    // What the engine had: its offers.
    assert!(peer.read(&mut [0; 4096]).unwrap() > 0);
    assert_eq!(transmit(&mut engine, id, &socket, &mut Refills::default(), Instant::ZERO), Transmitted::All);
}

#[test]
fn a_lingering_socket_is_read_to_its_end() {
    let (socket, mut peer) = pair();
    assert_eq!(discard(&socket, &mut [0; 4]), Discarded::Nothing);
    peer.write_all(b"hello").unwrap();
    drop(peer);
    assert_eq!(discard(&socket, &mut [0; 4]), Discarded::More);
    assert_eq!(discard(&socket, &mut [0; 4]), Discarded::More);
    assert_eq!(discard(&socket, &mut [0; 4]), Discarded::End);
}

#[test]
fn who_lingers_and_never_stops_is_read_a_little_at_a_time() {
    let (socket, mut peer) = pair();
    peer.write_all(&[b'x'; 40 << 10]).unwrap();
    drop(peer);
    let mut scratch = vec![0; 256 << 10];
    let reads = (1..).take_while(|_| discard(&socket, &mut scratch) == Discarded::More).count();
    assert!(reads >= 3, "{reads} reads");
}
