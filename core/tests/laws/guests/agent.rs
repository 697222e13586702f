//! A guest with an agent in a world in memory: what tests answer with.

use std::collections::BTreeMap;

use vspc_core::concentrator::ConnId;
use vspc_core::mux::link::{Link, LinkConfig, LinkEvent, carry};
use vspc_core::mux::{Config, Event, Received, Role, Session, StreamId};
use vspc_core::vmware::VmConfig;
use vspc_guest::{Announcement, Header, Hello, Key, Name, Secret, Welcome, answer};

use crate::world::{Part, World};

/// The agent, at the end of a VM's serial port, or of a line without telnet.
pub(crate) struct Agent {
    pub(crate) vm: ConnId,
    pub(crate) session: Session,
    link: Option<Link>,
    secret: Option<Secret>,
    may: Vec<&'static str>,
    packs: &'static [&'static str],
    /// What has come on each stream and was not taken.
    pub(crate) came: BTreeMap<StreamId, Vec<u8>>,
    pub(crate) ended: Vec<StreamId>,
    pub(crate) reset: Vec<StreamId>,
    /// Hello is over.
    pub(crate) is_known: bool,
    welcome: Option<Welcome>,
    /// Streams that are not read.
    pub(crate) stalled: Vec<StreamId>,
}

impl Agent {
    pub(crate) fn new(world: &World, vm: ConnId, nonce: u32) -> Self {
        Self {
            vm,
            session: Session::new(sizes(nonce), world.now).unwrap(),
            link: None,
            secret: None,
            may: vec!["exec", "shell", "put", "get", "connect"],
            packs: &[],
            came: BTreeMap::new(),
            ended: Vec::new(),
            reset: Vec::new(),
            is_known: false,
            welcome: None,
            stalled: Vec::new(),
        }
    }

    /// It keeps at most so many bytes of each stream until the host has taken them.
    pub(crate) fn keeping(mut self, world: &World, send_buffer: u32) -> Self {
        self.session = Session::new(Config { send_buffer, ..sizes(9) }, world.now).unwrap();
        self
    }

    pub(crate) fn over_sl(mut self, world: &World, nonce: u32) -> Self {
        let mut link = Link::new(LinkConfig::new(nonce));
        link.open(world.now);
        self.link = Some(link);
        self
    }

    pub(crate) fn with_key(mut self, key: &[u8]) -> Self {
        self.secret = Secret::new(key);
        self
    }

    pub(crate) fn allowing(mut self, may: &[&'static str]) -> Self {
        self.may = may.to_vec();
        self
    }

    pub(crate) fn packing(mut self, packs: &'static [&'static str]) -> Self {
        self.packs = packs;
        self
    }

    /// Lets bytes go both ways until there are none. Whether there were any.
    pub(crate) fn pass(&mut self, world: &mut World) -> bool {
        let mut any = false;
        for _ in 0..10_000 {
            world.settle();
            self.session.handle_timeout(world.now);
            if let Some(link) = &mut self.link {
                link.handle_timeout(world.now);
            }
            let typed = self.typed(world);
            self.receive(&typed, world);
            let said = self.says(world);
            if !said.is_empty() {
                self.print(world, &said);
            }
            if typed.is_empty() && said.is_empty() {
                return any;
            }
            any = true;
        }
        panic!("the agent and the server do not come to rest");
    }

    /// What has come on its line and was not looked at.
    pub(crate) fn typed(&self, world: &mut World) -> Vec<u8> {
        match self.is_on_raw_line(world) {
            true => std::mem::take(world.wire(self.vm)),
            false => std::mem::take(&mut world.host(self.vm).typed),
        }
    }

    /// Its line brings these bytes.
    pub(crate) fn print(&self, world: &mut World, bytes: &[u8]) {
        match self.is_on_raw_line(world) {
            true => world.type_wire(self.vm, bytes),
            false => world.print(self.vm, bytes),
        }
    }

    /// Its line is no host's: what goes over it is its bytes and nothing else.
    fn is_on_raw_line(&self, world: &mut World) -> bool {
        matches!(world.link(self.vm).part, Part::Client(_))
    }

    pub(crate) fn receive(&mut self, bytes: &[u8], world: &World) {
        match &mut self.link {
            None => self.session.handle_received(bytes, world.now),
            Some(link) => {
                link.handle_received(bytes, world.now);
                while let Some(event) = link.poll_event() {
                    if let LinkEvent::Restarted = event {
                        self.session.line_reopened(world.now);
                    }
                }
                carry(&mut self.session, link, world.now);
            }
        }
        self.handle_events();
    }

    /// What it has to say now.
    pub(crate) fn says(&mut self, world: &World) -> Vec<u8> {
        let mut said = Vec::new();
        loop {
            let sent = match &mut self.link {
                None => self.session.transmit_with(world.now, |runs| {
                    runs.iter().for_each(|run| said.extend_from_slice(run));
                    runs.iter().map(|run| run.len()).sum()
                }),
                Some(link) => {
                    carry(&mut self.session, link, world.now);
                    link.transmit_with(world.now, |frame| {
                        said.extend_from_slice(frame);
                        frame.len()
                    })
                }
            };
            if sent == 0 {
                return said;
            }
        }
    }

    fn handle_events(&mut self) {
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::Started(_) | Event::Restarted(_) => {
                    self.is_known = false;
                    self.welcome = None;
                    self.came.clear();
                }
                Event::Readable(id) => self.take(id),
                Event::Reset(id, _) => self.reset.push(id),
                _ => {}
            }
        }
    }

    /// Reads a stream.
    pub(crate) fn take(&mut self, id: StreamId) {
        if self.stalled.contains(&id) {
            return;
        }
        loop {
            match self.session.received(id) {
                Ok(Received::Bytes(bytes)) => {
                    let n = bytes.len();
                    self.came.entry(id).or_default().extend_from_slice(bytes);
                    self.session.consume(id, n).unwrap();
                }
                Ok(Received::End) => {
                    self.ended.push(id);
                    break;
                }
                _ => break,
            }
        }
        if !self.is_known {
            self.answer_hello(id);
        }
    }

    fn answer_hello(&mut self, id: StreamId) {
        let Some(line) = self.line(id) else { return };
        let reply = match &self.welcome {
            None => {
                let Ok(Header::Hello(hello)) = Header::parse(&line) else { panic!("hello comes first") };
                let hello: Hello = hello;
                let welcome = Welcome::new(&hello, self.secret.clone(), [5; 32]).unwrap();
                let (reply, is_all) = welcome.line("test-agent 1", &self.may, self.packs);
                self.is_known = is_all;
                if !is_all {
                    self.welcome = Some(welcome);
                }
                reply
            }
            Some(welcome) => {
                let judged = welcome.handle_line(&line);
                self.welcome = None;
                match judged {
                    Ok(()) => {
                        self.is_known = true;
                        answer::ok(&answer::Done {})
                    }
                    Err(refusal) => refusal.line(),
                }
            }
        };
        self.session.write(id, &reply).unwrap();
        if self.welcome.is_none() {
            self.session.finish(id).unwrap();
        }
    }

    /// The next line of a stream.
    pub(crate) fn line(&mut self, id: StreamId) -> Option<Vec<u8>> {
        let came = self.came.get_mut(&id)?;
        let end = came.iter().position(|&byte| byte == b'\n')?;
        Some(came.drain(..=end).collect())
    }

    /// What has come on a stream.
    pub(crate) fn heard(&mut self, id: StreamId) -> String {
        String::from_utf8_lossy(&self.came.remove(&id).unwrap_or_default()).into_owned()
    }

    /// The next stream that the host has opened with a header, and that.
    pub(crate) fn opened(&mut self) -> (StreamId, Header) {
        let ids: Vec<StreamId> = self.came.keys().copied().filter(|id| !id.is_guests()).collect();
        for id in ids {
            if let Some(line) = self.line(id) {
                return (id, Header::parse(&line).unwrap());
            }
        }
        panic!("nothing was opened: {:?}", self.came);
    }

    /// Announces a stream.
    pub(crate) fn announce(&mut self, announcement: &Announcement) -> StreamId {
        let id = self.session.open().unwrap();
        self.session.write(id, &announcement.line()).unwrap();
        id
    }

    /// Closes its half of a stream although not all was taken (SPEC §4 forbids it), over SL.
    pub(crate) fn close_too_soon(&mut self, id: StreamId) {
        let link = self.link.as_mut().expect("a line with SL");
        let word = [&id.0.to_be_bytes()[..], &0xc000_0000_u32.to_be_bytes()].concat();
        assert_eq!(link.write(&word), word.len(), "it has no room");
    }

    pub(crate) fn say(&mut self, id: StreamId, bytes: &[u8]) {
        assert_eq!(self.session.write(id, bytes), Ok(bytes.len()), "it has no room");
    }
}

fn sizes(nonce: u32) -> Config {
    Config {
        nonce,
        max_frame: 16 << 10,
        window: 16 << 10,
        receive_buffer: 16 << 10,
        ..Config::new(Role::Guest)
    }
}

pub(crate) fn shell(name: &str) -> Announcement {
    Announcement::Shell { name: Name::new(name).unwrap(), key: Key::random([7; 16]) }
}

pub(crate) fn log(name: &str) -> Announcement {
    Announcement::Log { name: Name::new(name).unwrap() }
}

pub(crate) fn facts() -> Announcement {
    Announcement::Facts { name: Name::new("facts").unwrap() }
}

/// A VM whose serial port carries streams.
pub(crate) fn vm_with_streams(n: u8, mux: &str) -> VmConfig {
    VmConfig { uri: format!("vSPC.py?mux={mux}"), ..crate::world::vm_config(n) }
}
