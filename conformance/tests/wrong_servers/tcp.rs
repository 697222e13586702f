//! The small server over TCP, for the program as people run it.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};

use crate::server::{Fault, Id, Server};

/// A small server in a thread of its own, gone when dropped.
pub(crate) struct Tcp {
    pub(crate) vms: SocketAddr,
    pub(crate) first_client_port: u16,
    stop: Arc<AtomicBool>,
    /// Its end wakes the thread.
    waker: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

struct Loop {
    server: Server,
    vms: Option<TcpListener>,
    clients: Vec<TcpListener>,
    next_port: u16,
    streams: Vec<(Id, TcpStream)>,
    /// Those that have sent their last byte.
    silent: Vec<Id>,
}

impl Tcp {
    pub(crate) fn start(fault: Fault, with_clients: bool) -> Self {
        let vms = listen(0).unwrap();
        let address = vms.local_addr().unwrap();
        // Below the ports that the system gives to outgoing connections, and another stretch for each server.
        let first = 6_000 + 20 * (address.port() % 500);
        let first_client_port = (first..first + 20).find(|port| listen(*port).is_ok()).unwrap_or(first);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let (stopping, waker) = UnixStream::pair().unwrap();
        let next_port = if with_clients { first_client_port } else { 0 };
        let mut server = Loop {
            server: Server::new(fault),
            vms: Some(vms),
            clients: Vec::new(),
            next_port,
            streams: Vec::new(),
            silent: Vec::new(),
        };
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                if !server.turn() {
                    server.wait(&stopping);
                }
            }
        });
        Self { vms: address, first_client_port, stop, waker: Some(waker), thread: Some(thread) }
    }
}

impl Drop for Tcp {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.waker = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn listen(port: u16) -> std::io::Result<TcpListener> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

impl Loop {
    /// Does what there is to do; false: nothing.
    fn turn(&mut self) -> bool {
        let mut busy = false;
        while let Some(stream) = self.vms.as_ref().and_then(accept) {
            let id = self.server.connect_vm();
            self.streams.push((id, stream));
            busy = true;
        }
        for console in 0..self.clients.len() {
            while let Some(stream) = accept(&self.clients[console]) {
                let id = self.server.connect_client(console);
                self.streams.push((id, stream));
                busy = true;
            }
        }
        for index in 0..self.streams.len() {
            let (id, stream) = &mut self.streams[index];
            if self.silent.contains(id) {
                continue;
            }
            let mut bytes = [0; 4096];
            match stream.read(&mut bytes) {
                Ok(n) if n > 0 => self.server.receive(*id, &bytes[..n]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Ok(_) => {
                    self.silent.push(*id);
                    self.server.half_closed(*id);
                }
                _ => self.server.ended(*id),
            }
            busy = true;
        }
        self.flush();
        busy
    }

    /// Waits until a socket has something, or whoever started this wants its end.
    fn wait(&self, stopping: &UnixStream) {
        let loud = self.streams.iter().filter(|(id, _)| !self.silent.contains(id));
        let listeners = self.vms.iter().chain(&self.clients).map(AsFd::as_fd);
        let all = listeners.chain(loud.map(|(_, stream)| stream.as_fd())).chain([stopping.as_fd()]);
        let mut ready: Vec<PollFd<'_>> = all.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
        poll(&mut ready, None).unwrap();
    }

    fn flush(&mut self) {
        for (id, what) in std::mem::take(&mut self.server.out) {
            let Some(index) = self.streams.iter().position(|(known, _)| *known == id) else { continue };
            match what {
                None => drop(self.streams.swap_remove(index)),
                Some(bytes) => {
                    let stream = &mut self.streams[index].1;
                    // The suite reads all it is sent; a peer that has gone needs nothing.
                    let _ = stream.set_nonblocking(false);
                    let _ = stream.write_all(&bytes);
                    let _ = stream.set_nonblocking(true);
                }
            }
        }
        while self.next_port > 0 && self.clients.len() < self.server.consoles() {
            self.clients.extend(listen(self.next_port).ok());
            self.next_port += 1;
        }
        if self.server.dead {
            (self.vms, self.clients, self.streams) = (None, Vec::new(), Vec::new());
        }
    }
}

fn accept(listener: &TcpListener) -> Option<TcpStream> {
    let (stream, _) = listener.accept().ok()?;
    stream.set_nonblocking(true).ok()?;
    stream.set_nodelay(true).ok()?;
    stream.set_write_timeout(Some(Duration::from_secs(5))).ok()?;
    Some(stream)
}
