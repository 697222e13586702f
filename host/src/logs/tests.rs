//! The loop's end and the thread together, where a test decides when the thread comes to write.

use std::fs;
use std::path::PathBuf;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, mpsc::channel};

use vspc_core::concentrator::{Address, Concentrator, Config, ConnId, Peer};
use vspc_core::time::Instant;

use super::index::Index;
use super::layout::Layout;
use super::reading::{Readings, Where};
use super::restoring::Restorer;
use super::tap::{self, Message};
use super::writer::Threads;
use super::{Files, Logs, Rotation, Settings, Writer, rotate};
use crate::commands;
use crate::housekeeping::Housekeeping;
use crate::room::Room;
use crate::work::Work;

/// A loop without sockets, whose logs nobody writes until the test wants it.
struct Rig {
    engine: Concentrator,
    house: Housekeeping,
    messages: Receiver<Message>,
    room: Arc<Room>,
    vm: ConnId,
}

fn settings(dir: PathBuf) -> Settings {
    Settings {
        dir,
        layout: Layout::parse("{name}").unwrap(),
        mode: 0o600,
        most_open: 4,
        stamps: false,
        rotation: Rotation::default(),
        index: None,
        restored: 0,
    }
}

const NOW: Instant = Instant::from_millis(1);

/// As a host tells it.
const NAME: &[u8] = b"\xff\xfa\xe8\x52web01\xff\xf0";

impl Rig {
    /// With a VM that is called web01.
    fn new() -> Self {
        let mut rig = Self::nameless();
        rig.print(NAME);
        rig
    }

    /// With a VM that has told its UUID.
    fn nameless() -> Self {
        let config = Config {
            vm_listen: vec![Address::Ip(([127, 0, 0, 1], 1).into())],
            client_ports: None,
            ..Config::default()
        };
        let mut engine = Concentrator::new(Arc::new(config), [1; 32], NOW);
        let mut house = Housekeeping::new(false).unwrap();
        let (sender, messages) = channel();
        let room = Arc::new(tap::room());
        let settings = Arc::new(settings(PathBuf::from("/nonexistent")));
        let (commands, ..) = commands::pair().unwrap();
        let readings = Readings::new(Arc::clone(&settings), Index::default(), commands);
        house.logs = Logs::new(sender, (Arc::clone(&room), Arc::default()), &settings, readings);
        let Some(Work::Listen(listener, address)) = house.next_work(&mut engine, NOW) else { panic!() };
        house.listened(&mut engine, listener, address.clone(), Ok(address), NOW);
        let peer = Peer::new(Address::Ip("192.0.2.1:1".parse().unwrap()));
        let vm = engine.handle_accepted(listener, peer, NOW).unwrap();
        let mut rig = Self { engine, house, messages, room, vm };
        rig.print(b"\xff\xfb\xe8\xff\xfa\xe8\x5001 23 45 67 89 ab cd ef-fe dc ba 98 00 00 00 00\xff\xf0");
        rig
    }

    /// The VM sends this, and the loop has its turn.
    fn print(&mut self, bytes: &[u8]) {
        assert!(self.engine.receive_window(self.vm) > 0, "the VM waits for its log");
        self.engine.handle_received(self.vm, &mut bytes.to_vec(), NOW);
        while self.house.next_work(&mut self.engine, NOW).is_some() {}
    }

    /// How many bytes wait for the thread.
    fn waiting(messages: &[Message]) -> usize {
        let pieces = messages.iter().map(|message| match message {
            Message::Piece(_, piece) => piece.bytes.len(),
            _ => 0,
        });
        pieces.sum()
    }
}

#[test]
fn a_log_waits_for_a_name_no_longer_than_until_it_is_there() {
    let mut rig = Rig::nameless();
    assert!(rig.house.logs.deadline().is_some(), "it does not wait for ever");
    rig.print(b"boot");
    assert_eq!(Rig::waiting(&rig.messages.try_iter().collect::<Vec<_>>()), 0, "nobody knows whose it is");
    rig.print(NAME);
    assert_eq!(rig.house.logs.deadline(), None);
    assert_eq!(Rig::waiting(&rig.messages.try_iter().collect::<Vec<_>>()), 4);
}

#[test]
fn a_vm_waits_for_no_log_that_hangs_and_its_log_tells_afterwards_what_is_missing() {
    let folder = std::env::temp_dir().join(format!("vspc-logs-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let mut rig = Rig::new();
    let total = 96 << 20;
    for _ in 0..total >> 16 {
        rig.print(&[b'x'; 64 << 10]);
    }
    let mut messages: Vec<Message> = rig.messages.try_iter().collect();
    let held = Rig::waiting(&messages);
    assert!(held <= 64 << 20, "{held} bytes wait for the thread");
    // The thread comes back to what was there for it, and then to what waited in the journal.
    let (sender, received) = channel();
    let (nudges, _commands, _woken) = commands::pair().unwrap();
    let room = Arc::clone(&rig.room);
    for message in &messages {
        if let Message::Piece(_, piece) = message {
            room.give_back(tap::charge(piece.bytes.len()));
        }
    }
    rig.house.woken(&mut rig.engine, NOW);
    rig.print(b"after");
    messages.extend(rig.messages.try_iter());
    messages.into_iter().for_each(|message| sender.send(message).unwrap());
    drop(sender);
    let settings = Arc::new(settings(folder.clone()));
    let files = Files::new(folder.clone(), 0o600, 4);
    let rotated = rotate::start(&folder, &settings.rotation).unwrap();
    let threads = Threads { rotated, index: Index::default(), restorer: Restorer::default() };
    Writer::new(files, &settings, threads, received, (Arc::new(tap::room()), Arc::default()), nudges).run();
    let text = String::from_utf8(fs::read(folder.join("web01")).unwrap()).unwrap();
    fs::remove_dir_all(&folder).unwrap();
    let (before, behind) = text.split_once("\r\n[vspc: ").unwrap();
    let (missing, behind) = behind.split_once(" bytes are missing here]\r\n").unwrap();
    let missing: usize = missing.parse().unwrap();
    assert!(missing > 0 && behind.ends_with("xafter"));
    assert_eq!(before.len() + missing + behind.len(), total + 5, "what is missing is told, all of it, once");
}

#[test]
fn a_log_that_ends_before_it_was_tried_again_says_what_is_missing() {
    let folder = std::env::temp_dir().join(format!("vspc-logs-end-{}", std::process::id()));
    let file = folder.join("web01");
    // Nobody can write into that.
    fs::create_dir_all(&file).unwrap();
    let mut rig = Rig::new();
    rig.print(b"lost");
    let (sender, received) = channel();
    let (mut console, mut subject) = (None, None);
    for message in rig.messages.try_iter() {
        if let Message::Subject(id, named, _) = &message {
            (console, subject) = (Some(*id), Some(named.clone()));
        }
        sender.send(message).unwrap();
    }
    let (answer, answered) = channel();
    let wanted = Where { subject: subject.unwrap(), answer, follower: None };
    sender.send(Message::Where(console.unwrap(), wanted)).unwrap();
    let writer = {
        let folder = folder.clone();
        let (nudges, ..) = commands::pair().unwrap();
        std::thread::spawn(move || {
            let settings = Arc::new(settings(folder.clone()));
            let rotated = rotate::start(&folder, &settings.rotation).unwrap();
            let threads = Threads { rotated, index: Index::default(), restorer: Restorer::default() };
            let files = Files::new(folder, 0o600, 4);
            let room = (Arc::new(tap::room()), Arc::default());
            Writer::new(files, &settings, threads, received, room, nudges).run();
        })
    };
    answered.recv().expect("it has tried to write");
    fs::remove_dir(&file).unwrap();
    sender.send(Message::End(console.unwrap())).unwrap();
    drop(sender);
    writer.join().unwrap();
    let text = fs::read_to_string(&file).unwrap();
    fs::remove_dir_all(&folder).unwrap();
    assert_eq!(text, "\r\n[vspc: 4 bytes are missing here]\r\n");
}
