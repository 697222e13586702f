//! A bare server: the limit of how fast a program can take in a fleet.
//!
//! One process, one thread, one event queue. It accepts, and answers each VM with the bytes that a session
//! start brings, as many of them and in as many steps, without a look at what it reads: it counts. It keeps
//! nothing, opens no client port, and never closes a connection first. The bytes are what a concentrator says
//! to one VM in memory, recorded when it starts.
//!
//! It gets what the server gets and nothing less: the same backlog, edge-triggered readiness, no system call
//! that the server does not make.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use mio::net::{TcpListener, TcpStream};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use vspc_core::concentrator::{Address, Concentrator, Config, ConnId, ListenerId, Output, Peer};
use vspc_core::time;
use vspc_core::vmware::{VmEvent, VmSession};

use super::link::{numbered_vm, tells_name};
use super::{process, relay};

/// Options of `load bare`.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct BareArgs {
    /// Where VMs connect
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:13370")]
    pub listen: SocketAddr,
    /// End when standard input does (for a parent that starts it)
    #[arg(long, hide = true)]
    pub until_stdin_closes: bool,
}

/// Runs `load bare`.
pub(super) fn run(args: &BareArgs) -> ExitCode {
    process::raise_descriptor_limit();
    let bare = match Bare::bind(args.listen) {
        Ok(bare) => bare,
        Err(error) => {
            eprintln!("bare: cannot listen on {}: {error}", args.listen);
            return ExitCode::from(2);
        }
    };
    println!("bare listens: VMs {}", bare.at);
    match bare.run(args.until_stdin_closes) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bare: {error}");
            ExitCode::from(2)
        }
    }
}

/// A bare server that listens.
#[derive(Debug)]
pub(super) struct Bare {
    poll: Poll,
    listener: TcpListener,
    /// Where VMs connect.
    pub at: SocketAddr,
    script: Vec<Step>,
    members: Vec<Option<Member>>,
    free: Vec<usize>,
}

#[derive(Debug)]
struct Member {
    stream: TcpStream,
    received: usize,
    /// The next step of the script.
    step: usize,
}

/// What is said once so much has been received.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Step {
    after: usize,
    say: Vec<u8>,
}

impl Bare {
    /// Listens.
    pub(super) fn bind(address: SocketAddr) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut listener = relay::listen(address)?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Self {
            at: listener.local_addr()?,
            poll,
            listener,
            script: script(),
            members: Vec::new(),
            free: Vec::new(),
        })
    }

    /// Answers until standard input ends (if asked to watch it) or the event queue fails.
    pub(super) fn run(mut self, until_stdin_closes: bool) -> io::Result<()> {
        if until_stdin_closes {
            self.poll.registry().register(&mut SourceFd(&0), STDIN, Interest::READABLE)?;
        }
        let mut events = Events::with_capacity(1024);
        loop {
            match self.poll.poll(&mut events, None) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accept(),
                    STDIN => {
                        if matches!(io::stdin().read(&mut [0; 64]), Ok(0) | Err(_)) {
                            return Ok(());
                        }
                    }
                    Token(id) => self.visit(id),
                }
            }
        }
    }

    fn accept(&mut self) {
        loop {
            let mut stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return,
            };
            let id = self.free.pop().unwrap_or_else(|| {
                self.members.push(None);
                self.members.len() - 1
            });
            if self.poll.registry().register(&mut stream, Token(id), Interest::READABLE).is_err() {
                self.free.push(id);
                continue;
            }
            let mut member = Member { stream, received: 0, step: 0 };
            if member.answer(&self.script) {
                self.members[id] = Some(member);
            } else {
                self.free.push(id);
            }
        }
    }

    fn visit(&mut self, id: usize) {
        let Some(member) = self.members.get_mut(id).and_then(Option::as_mut) else { return };
        let mut scratch = [0; 16384];
        loop {
            match member.stream.read(&mut scratch) {
                Ok(n @ 1..) => {
                    member.received += n;
                    if !member.answer(&self.script) {
                        break;
                    }
                    // What comes later is told anew.
                    if n < scratch.len() {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => break,
            }
        }
        self.members[id] = None;
        self.free.push(id);
    }
}

impl Member {
    /// Says what is due. A few hundred bytes on a fresh connection: the socket takes them, or it is broken.
    fn answer(&mut self, script: &[Step]) -> bool {
        while let Some(step) = script.get(self.step).filter(|step| step.after <= self.received) {
            if !matches!(self.stream.write(&step.say), Ok(n) if n == step.say.len()) {
                return false;
            }
            self.step += 1;
        }
        true
    }
}

/// What a concentrator says to a VM until it is up, and when.
fn script() -> Vec<Step> {
    let now = time::Instant::ZERO;
    let mut engine = Concentrator::new(Arc::new(Config::default()), [0; 32], now);
    let (mut vms, mut vm) = (None, None);
    let mut session = VmSession::new(numbered_vm(1));
    let mut script: Vec<Step> = Vec::new();
    let mut received = 0;
    let (mut agreed, mut named) = (false, false);
    while !(agreed && named) {
        let said = serve(&mut engine, &mut vms, &mut vm, now);
        session.handle_received(&said, &mut Vec::new());
        agreed |= std::iter::from_fn(|| session.poll_event()).any(|event| event == VmEvent::ProxyAgreed);
        let mut heard = session.pending().to_vec();
        named |= tells_name(&heard);
        session.transmit(<[u8]>::len);
        assert!(!said.is_empty() || !heard.is_empty(), "VM and concentrator wait for each other");
        if !said.is_empty() {
            script.push(Step { after: received, say: said });
        }
        received += heard.len();
        if let Some(vm) = vm {
            engine.handle_received(vm, &mut heard, now);
        }
    }
    script
}

/// Lets an engine in memory do what it wants; returns what it says to the one VM.
fn serve(
    engine: &mut Concentrator,
    vms: &mut Option<ListenerId>,
    vm: &mut Option<ConnId>,
    now: time::Instant,
) -> Vec<u8> {
    let mut said = Vec::new();
    loop {
        while let Some(output) = engine.poll_output() {
            if let Output::Listen(id, address) = output {
                vms.get_or_insert(id);
                engine.handle_listening(id, Ok(address), now);
            }
        }
        let Some(listener) = *vms else { return said };
        let id = *vm.get_or_insert_with(|| {
            let peer = Peer::new(Address::Ip(SocketAddr::from(([127, 0, 0, 1], 1))));
            engine.handle_accepted(listener, peer, now).expect("nobody else is there")
        });
        let before = said.len();
        let sent = engine.transmit(id, now, |runs| {
            runs.iter().for_each(|run| said.extend_from_slice(run));
            said.len() - before
        });
        if sent.is_idle() {
            return said;
        }
    }
}

const LISTENER: Token = Token(usize::MAX);
const STDIN: Token = Token(usize::MAX - 1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::link::VmLink;
    use crate::load::subject::Subject;
    use crate::tunnel::Dial;

    #[test]
    fn a_vm_comes_up_on_what_was_recorded_whatever_its_name() {
        let bare = Bare::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let subject = Subject::Server { vms: bare.at, first: 1, dial: Dial::default() };
        std::thread::spawn(|| bare.run(false));
        for number in [1, 20, 12345] {
            VmLink::open(&subject, numbered_vm(number)).unwrap();
        }
    }
}
