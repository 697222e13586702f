//! Searches among consoles on real sockets.

use std::io::Write;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::load::process::raise_descriptor_limit;

/// Consoles that show what their VM prints, each on a port of its own, and others that show nothing.
struct Server {
    first: u16,
    others: Vec<TcpListener>,
    consoles: Vec<Arc<Mutex<Console>>>,
}

/// A console has printed something, and has shown all of it to these.
#[derive(Default)]
struct Console {
    printed: Vec<u8>,
    clients: Vec<TcpStream>,
}

impl Server {
    /// Others on `others` ports in a row from `first` on, as far as they are free.
    fn new(first: u16, others: u16) -> Self {
        raise_descriptor_limit();
        let others = (first..first + others).filter_map(|port| listen(port).ok()).collect();
        Self { first, others, consoles: Vec::new() }
    }

    /// One more console, on `port` or the next one that is free.
    fn console(&mut self, port: u16) -> u16 {
        let (port, listener) = (port..).find_map(|port| Some((port, listen(port).ok()?))).unwrap();
        listener.set_nonblocking(false).unwrap();
        let console = Arc::<Mutex<Console>>::default();
        self.consoles.push(Arc::clone(&console));
        std::thread::spawn(move || {
            for mut client in listener.incoming().map_while(Result::ok) {
                let mut console = console.lock().unwrap();
                // One that has gone already is none.
                if client.write_all(&console.printed).is_ok() {
                    console.clients.push(client);
                }
            }
        });
        port
    }

    fn ports(&self, count: u16) -> Ports {
        Ports::new(Ipv4Addr::LOCALHOST.into(), self.first, count, Dial::default())
    }

    /// How many have connected to others since the last call.
    fn bothered(&self) -> usize {
        self.others.iter().map(|other| std::iter::from_fn(|| other.accept().ok()).count()).sum()
    }
}

impl Printing for Server {
    fn print(&mut self, vm: usize, bytes: &[u8]) -> bool {
        let mut console = self.consoles[vm].lock().unwrap();
        console.printed.extend(bytes);
        console.clients.retain_mut(|client| client.write_all(bytes).is_ok());
        true
    }

    fn serve(&mut self) {}
}

fn listen(port: u16) -> std::io::Result<TcpListener> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Each test has a stretch of ports of its own, below those of outgoing connections.
fn stretch() -> u16 {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    3000 + (NEXT.fetch_add(1, Ordering::Relaxed) as u16) * 500
}

#[test]
fn a_fresh_console_is_found_anywhere_among_many_and_the_others_are_left_alone() {
    let first = stretch();
    let mut server = Server::new(first, 300);
    let gap = server.others.remove(170).local_addr().unwrap().port();
    let ports = server.ports(450);
    ports.look().unwrap();
    assert!(server.bothered() >= 290);
    for port in [gap, first + 440] {
        let port = server.console(port);
        assert_eq!(ports.find(&mut Only(&mut server), 1, 1), Ok(vec![port]));
        assert_eq!(server.bothered(), 0);
    }
}

#[test]
fn a_console_that_was_open_before_is_found_too() {
    let mut server = Server::new(stretch(), 300);
    let others = server.others.len();
    let last = server.others.remove(others - 1).local_addr().unwrap().port();
    let port = server.console(last);
    let ports = server.ports(310);
    ports.look().unwrap();
    assert_eq!(ports.find(&mut server, 1, 1), Ok(vec![port]));
}

#[test]
fn many_vms_are_told_apart() {
    let first = stretch();
    let mut server = Server::new(first, 20);
    let expected: Vec<u16> = [80, 30, 50].map(|more| server.console(first + more)).to_vec();
    assert_eq!(server.ports(100).find(&mut server, 3, 1), Ok(expected));
}

#[test]
fn a_vm_without_port_is_told_and_not_waited_for_long() {
    struct Gone;
    impl Printing for Gone {
        fn print(&mut self, _vm: usize, _bytes: &[u8]) -> bool {
            false
        }
        fn serve(&mut self) {}
    }
    let server = Server::new(stretch(), 3);
    let begun = Instant::now();
    assert_eq!(
        server.ports(10).find(&mut Gone, 1, 1),
        Err("the server has ended the VM's connection".into())
    );
    assert!(begun.elapsed() < SEARCH);
}

/// The console that was opened last.
struct Only<'a>(&'a mut Server);

impl Printing for Only<'_> {
    fn print(&mut self, _vm: usize, bytes: &[u8]) -> bool {
        let last = self.0.consoles.len() - 1;
        self.0.print(last, bytes)
    }

    fn serve(&mut self) {}
}
