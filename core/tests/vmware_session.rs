//! Both ends of the VMware dialogue against each other, in memory (vmware.md §3, vmotion.md §1).

use quickcheck::quickcheck;
use vspc_core::telnet::{Opt, Side};
use vspc_core::vmware::{
    Message, NoUuid, Opens, ProxyEvent, ProxySession, Resume, Said, Uuid, VmConfig, VmEvent, VmSession,
};

fn uuid(digit: u8) -> Uuid {
    Uuid::from_bytes([digit; 16])
}

fn web01() -> VmConfig {
    VmConfig { name: "web01".into(), vc_uuid: Some(uuid(1)), ..VmConfig::default() }
}

/// A concentrator reduced to one connection: it agrees to everything.
#[derive(Default)]
struct Proxy {
    session: ProxySession,
    heard: Vec<String>,
    serial: Vec<u8>,
}

impl Proxy {
    fn receive(&mut self, input: &[u8]) {
        self.session.handle_received(input, &mut self.serial);
        while let Some(event) = self.session.poll_event() {
            let ProxyEvent::Said(said) = event else {
                self.heard.push("break".into());
                continue;
            };
            self.heard.push(match said {
                Said::Name(name) => format!("name {}", name.escape_ascii()),
                Said::Proxy { direction, uri } => {
                    self.session.put(&Message::WillProxy);
                    format!("proxy {} {}", direction as char, uri.escape_ascii())
                }
                Said::VmotionBegin { sequence } => {
                    let sequence_and_secret = &[&sequence, SECRET].concat();
                    self.session.put(&Message::VmotionGoahead { sequence_and_secret });
                    "begin".into()
                }
                Said::VmotionPeer { sequence_and_secret } => {
                    let sequence = sequence_and_secret.strip_suffix(SECRET).unwrap();
                    self.session.put(&Message::VmotionPeerOk { sequence });
                    "peer".into()
                }
                Said::VmotionComplete { sequence } => format!("complete {}", sequence.escape_ascii()),
                said => format!("{said:?}"),
            });
        }
    }
}

const SECRET: &[u8] = b"\xffsecret\xff";
const SEQUENCE: &[u8] = b"\x00\xff\xff\x01";

/// Carries bytes both ways, `chunk` at a time, until nobody has anything to say.
fn settle(vm: &mut VmSession, proxy: &mut Proxy, chunk: usize, input: &mut Vec<u8>) {
    loop {
        let from_vm = vm.transmit(|bytes| {
            let n = chunk.min(bytes.len());
            proxy.receive(&bytes[..n]);
            n
        });
        let from_proxy = proxy.session.transmit(|bytes| {
            let n = chunk.min(bytes.len());
            vm.handle_received(&bytes[..n], input);
            n
        });
        if from_vm + from_proxy == 0 {
            return;
        }
    }
}

fn events(vm: &mut VmSession) -> Vec<VmEvent> {
    std::iter::from_fn(|| vm.poll_event()).collect()
}

#[test]
fn both_ends_meet_in_both_openings_however_the_bytes_are_cut() {
    for opens in [Opens::WaitsForDo, Opens::WillFirst] {
        for offers in [false, true] {
            for chunk in [1, 2, 3, 5, 8, 1000] {
                let config = VmConfig { opens, offers_auth: offers, offers_com_port: offers, ..web01() };
                let mut vm = VmSession::new(config);
                let mut proxy = Proxy::default();
                let mut input = Vec::new();
                vm.print(b"BIOS\xff\r\n");
                settle(&mut vm, &mut proxy, chunk, &mut input);
                let uuid = format!("{:?}", Said::<Vec<u8>>::Uuid(uuid(1)));
                assert_eq!(proxy.heard, ["proxy S vSPC.py", &uuid, "name web01"]);
                assert_eq!(proxy.serial, b"BIOS\xff\r\n");
                let mut expected = vec![VmEvent::Ready, VmEvent::ProxyAgreed];
                if offers {
                    expected.push(VmEvent::Offer { opt: Opt::AUTHENTICATION, agreed: false });
                    expected.push(VmEvent::Offer { opt: Opt::COM_PORT, agreed: false });
                }
                let mut events = events(&mut vm);
                events.sort_by_key(|event| expected.iter().position(|other| other == event));
                assert_eq!(events, expected);
                assert!(vm.is_ready());
                for opt in [Opt::BINARY, Opt::SGA] {
                    assert!(proxy.session.negotiator().is_on(Side::Us, opt), "{opt}");
                    assert!(proxy.session.negotiator().is_on(Side::Him, opt), "{opt}");
                }
                assert!(proxy.session.negotiator().is_on(Side::Us, Opt::ECHO));
            }
        }
    }
}

#[test]
fn the_bios_uuid_is_given_where_there_is_no_other() {
    for no_uuid in [NoUuid::Empty, NoUuid::Unknown] {
        let config = VmConfig { vc_uuid: None, bios_uuid: Some(uuid(2)), no_uuid, ..web01() };
        let mut vm = VmSession::new(config);
        let mut proxy = Proxy::default();
        settle(&mut vm, &mut proxy, 1000, &mut Vec::new());
        let identity = format!("{:?}", Said::<Vec<u8>>::Uuid(uuid(2)));
        assert!(proxy.heard.contains(&identity), "{:?}", proxy.heard);
    }
}

#[test]
fn a_vm_moves_and_every_255_arrives() {
    let mut source = VmSession::new(web01());
    let mut proxy = Proxy::default();
    let mut input = Vec::new();
    settle(&mut source, &mut proxy, 1000, &mut input);
    events(&mut source);
    source.begin(SEQUENCE);
    settle(&mut source, &mut proxy, 1000, &mut input);
    let goahead = events(&mut source);
    let [VmEvent::Goahead { sequence, secret }] = &goahead[..] else { panic!("{goahead:?}") };
    assert_eq!((&sequence[..], &secret[..]), (SEQUENCE, SECRET));

    let resume = Resume { sequence: sequence.clone(), secret: secret.clone() };
    let mut target = VmSession::new(VmConfig { resume: Some(resume), ..web01() });
    let mut proxy = Proxy::default();
    settle(&mut target, &mut proxy, 1, &mut input);
    assert_eq!(proxy.heard[0], "peer", "before UUID and name, and no DO-PROXY: {:?}", proxy.heard);
    assert_eq!(proxy.heard.len(), 3);
    assert_eq!(events(&mut target), [VmEvent::Ready, VmEvent::PeerOk { sequence: SEQUENCE.into() }]);
    target.complete();
    settle(&mut target, &mut proxy, 1000, &mut input);
    assert_eq!(proxy.heard.last().unwrap(), "complete \\x00\\xff\\xff\\x01");
}

#[test]
fn breaks_cross_both_ways() {
    let mut vm = VmSession::new(web01());
    let mut proxy = Proxy::default();
    settle(&mut vm, &mut proxy, 1000, &mut Vec::new());
    events(&mut vm);
    vm.put_break();
    proxy.session.put_break();
    settle(&mut vm, &mut proxy, 1, &mut Vec::new());
    assert_eq!(proxy.heard.last().unwrap(), "break");
    assert_eq!(events(&mut vm), [VmEvent::Break]);
}

quickcheck! {
    fn what_is_typed_and_printed_arrives(typed: Vec<u8>, printed: Vec<u8>, chunk: u8) -> bool {
        let mut vm = VmSession::new(web01());
        let mut proxy = Proxy::default();
        let mut input = Vec::new();
        vm.print(&printed);
        proxy.session.type_in(&typed);
        settle(&mut vm, &mut proxy, usize::from(chunk % 32) + 1, &mut input);
        proxy.serial == printed && input == typed
    }
}
