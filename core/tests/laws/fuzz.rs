//! The body of the fuzz target `tls_listener`, so that stable CI replays its corpus. The fuzz crate includes
//! this file.

use std::time::Duration;

use vspc_core::concentrator::{Config, ConnId, InBandTls, VmTls};
use vspc_core::vmware::VmSession;

use crate::world::secure::{Sealed, Version};
use crate::world::{Client, Kind, Part, World, uuid, vm_config};

/// What a stranger says and does to a listener before, during and after each step of an upgrade and of a
/// handshake: `data` is a program of that. The world around the engine checks its every answer.
///
/// Checked besides: nothing but the upgrade goes out in clear where TLS is required, memory stays within
/// what a connection may have, and another VM and its client do not notice.
pub(crate) fn tls_listener(data: &[u8]) {
    let mut program = data.iter().copied();
    let Some(shape) = program.next() else { return };
    let config = Config {
        vm_tls: [VmTls::Off, VmTls::Auto, VmTls::On][usize::from(shape & 3).min(2)],
        in_band_tls: [InBandTls::Require, InBandTls::Offer, InBandTls::Off]
            [usize::from(shape >> 2 & 3).min(2)],
        client_tls: shape & 0x40 != 0,
        banner: false,
        ..Config::default()
    };
    let mut world = World::new(config);
    let vm = world.vm(vm_config(1));
    let reader = world.client(uuid(1), Kind::Telnet);
    world.by_hand = true;
    let port = if shape & 0x80 == 0 { 13370 } else { world.port(uuid(1)).expect("it has a port") };
    let mut stranger = Stranger::new(&mut world, port, shape);
    while let Some(op) = program.next() {
        let Some(arg) = program.next() else { break };
        stranger.step(&mut world, op, arg, &mut program);
    }
    world.print(vm, b"still here");
    assert!(world.seen(reader).ends_with("still here"));
}

/// The connection that the program is about.
struct Stranger {
    id: ConnId,
    tls: Sealed,
    session: VmSession,
}

impl Stranger {
    fn new(world: &mut World, port: u16, shape: u8) -> Self {
        let id = world.connect_to(port, Part::Client(Client::new(Kind::Raw))).expect("there is room");
        let version = if shape & 0x20 == 0 { Version::V13 } else { Version::V12 };
        Self { id, tls: Sealed::new(version), session: VmSession::new(vm_config(2)) }
    }

    fn step(&mut self, world: &mut World, op: u8, arg: u8, program: &mut impl Iterator<Item = u8>) {
        if !world.is_open(self.id) {
            return;
        }
        match op % 11 {
            0 => {
                let bytes: Vec<u8> = program.take(arg.into()).collect();
                self.say(world, bytes, 0);
            }
            1 => self.say(world, b"\xff\xfb\x25".to_vec(), arg),
            2 => self.say(world, b"\xff\xfa\x25\x00\x07\x00\x01\xff\xf0".to_vec(), arg),
            3 => self.say(world, b"\xff\xfa\x25\x00\x00\x00\xff\xf0".to_vec(), arg),
            // What the peer's TLS has to say: the next flight of its handshake, an alert.
            4 => {
                let said = self.tls.seal(&[]);
                self.say(world, said, arg);
            }
            5 if self.tls.is_up() => {
                let plain: Vec<u8> = program.take(arg.into()).collect();
                let said = self.tls.seal(&plain);
                self.say(world, said, 0);
            }
            // What a VM has to say.
            6 => {
                let said = self.session.pending().to_vec();
                self.session.transmit(<[u8]>::len);
                let said = if self.tls.is_up() { self.tls.seal(&said) } else { said };
                self.say(world, said, arg);
            }
            7 => {
                let brought = world.take(self.id);
                self.hear(&brought);
            }
            8 => world.pass(Duration::from_millis(u64::from(arg) * 50)),
            9 => {
                let said = self.tls.close();
                self.say(world, said, arg);
            }
            10 => world.link(self.id).fin |= arg & 7 == 7,
            _ => {}
        }
    }

    /// `fault`: 0 for none, else which byte is changed, or left out at the end.
    fn say(&mut self, world: &mut World, mut bytes: Vec<u8>, fault: u8) {
        if fault & 0x80 != 0 {
            bytes.truncate(bytes.len().saturating_sub(usize::from(fault & 0x7f)));
        } else if fault != 0 && !bytes.is_empty() {
            let at = usize::from(fault) * 7 % bytes.len();
            bytes[at] ^= fault;
        }
        if !bytes.is_empty() && world.is_open(self.id) {
            world.deal(self.id, &bytes);
        }
    }

    /// Clear bytes of an upgrade go before the first record.
    fn hear(&mut self, bytes: &[u8]) {
        let records = bytes.iter().position(|&byte| (0x14..=0x17).contains(&byte)).unwrap_or(bytes.len());
        let plain = self.tls.open(if self.tls.is_up() { bytes } else { &bytes[records..] });
        self.session.handle_received(&plain, &mut Vec::new());
    }
}
