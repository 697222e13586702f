//! Both ends of the VMware dialogue against each other, in memory (vmware.md §3, vmotion.md §1).

use quickcheck::quickcheck;
use vspc_core::telnet::{Command, Decoder, Item, Negotiator, Opt, Side, Verb, escape_into, put_negotiation};
use vspc_core::vmware::{
    Dialogue, Message, NoUuid, Opens, Resume, Said, Uuid, VMWARE_TELNET_EXT, VmConfig, VmEvent, VmSession,
};

fn uuid(digit: u8) -> Uuid {
    Uuid::from_bytes([digit; 16])
}

fn web01() -> VmConfig {
    VmConfig { name: "web01".into(), vc_uuid: Some(uuid(1)), ..VmConfig::default() }
}

/// A concentrator reduced to one connection: it agrees to everything.
struct Proxy {
    decoder: Decoder,
    negotiator: Negotiator,
    dialogue: Dialogue,
    out: Vec<u8>,
    heard: Vec<String>,
    serial: Vec<u8>,
    declined: Vec<Opt>,
}

impl Proxy {
    fn new() -> Self {
        let mut proxy = Self {
            decoder: Decoder::new(),
            negotiator: Negotiator::new(Dialogue::POLICY),
            dialogue: Dialogue::new(),
            out: Vec::new(),
            heard: Vec::new(),
            serial: Vec::new(),
            declined: Vec::new(),
        };
        proxy.dialogue.open(&mut proxy.negotiator, &mut proxy.out);
        proxy
    }

    fn receive(&mut self, mut input: &[u8]) {
        while let Some(item) = self.decoder.decode(&mut input) {
            let said = match item {
                Item::Data(data) => {
                    self.serial.extend_from_slice(data);
                    continue;
                }
                Item::Negotiation(verb, opt) => {
                    let outcome = self.negotiator.receive(verb, opt);
                    if let Some((verb, opt)) = outcome.send {
                        put_negotiation(verb, opt, &mut self.out);
                        if verb == Verb::Dont {
                            self.declined.push(opt);
                        }
                    }
                    outcome.change.and_then(|change| self.dialogue.changed(&change, &mut self.out))
                }
                Item::Subnegotiation(VMWARE_TELNET_EXT, body) => {
                    self.dialogue.received(body, &mut self.out).unwrap()
                }
                Item::Command(Command::BRK) => {
                    self.heard.push("break".into());
                    continue;
                }
                item => panic!("{item:?}"),
            };
            let Some(said) = said else { continue };
            self.heard.push(match said {
                Said::Name(name) => format!("name {}", name.escape_ascii()),
                Said::Proxy { direction, uri } => {
                    Message::WillProxy.put(&mut self.out);
                    format!("proxy {} {}", direction as char, uri.escape_ascii())
                }
                Said::VmotionBegin { sequence } => {
                    let sequence_and_secret = &[sequence, SECRET].concat();
                    Message::VmotionGoahead { sequence_and_secret }.put(&mut self.out);
                    "begin".into()
                }
                Said::VmotionPeer { sequence_and_secret } => {
                    let sequence = sequence_and_secret.strip_suffix(SECRET).unwrap();
                    Message::VmotionPeerOk { sequence }.put(&mut self.out);
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
    while !vm.transmit().is_empty() || !proxy.out.is_empty() {
        let n = chunk.min(vm.transmit().len());
        proxy.receive(&vm.transmit()[..n]);
        vm.sent(n);
        let n = chunk.min(proxy.out.len());
        vm.handle_received(&proxy.out[..n], input);
        proxy.out.drain(..n);
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
                let mut proxy = Proxy::new();
                let mut input = Vec::new();
                vm.print(b"BIOS\xff\r\n");
                settle(&mut vm, &mut proxy, chunk, &mut input);
                let uuid = format!("{:?}", Said::Uuid(uuid(1)));
                assert_eq!(proxy.heard, ["proxy S vSPC.py", &uuid, "name web01"]);
                assert_eq!(proxy.serial, b"BIOS\xff\r\n");
                let mut expected = vec![VmEvent::Ready, VmEvent::ProxyAgreed];
                if offers {
                    assert_eq!(proxy.declined, [Opt::AUTHENTICATION, Opt::COM_PORT]);
                    expected.push(VmEvent::Offer { opt: Opt::AUTHENTICATION, agreed: false });
                    expected.push(VmEvent::Offer { opt: Opt::COM_PORT, agreed: false });
                }
                let mut events = events(&mut vm);
                events.sort_by_key(|event| expected.iter().position(|other| other == event));
                assert_eq!(events, expected);
                assert!(vm.is_ready());
                for opt in [Opt::BINARY, Opt::SGA] {
                    assert!(proxy.negotiator.is_on(Side::Us, opt), "{opt}");
                    assert!(proxy.negotiator.is_on(Side::Him, opt), "{opt}");
                }
                assert!(proxy.negotiator.is_on(Side::Us, Opt::ECHO));
            }
        }
    }
}

#[test]
fn the_bios_uuid_is_given_where_there_is_no_other() {
    for no_uuid in [NoUuid::Empty, NoUuid::Unknown] {
        let config = VmConfig { vc_uuid: None, bios_uuid: Some(uuid(2)), no_uuid, ..web01() };
        let mut vm = VmSession::new(config);
        let mut proxy = Proxy::new();
        settle(&mut vm, &mut proxy, 1000, &mut Vec::new());
        let identity = format!("{:?}", Said::Uuid(uuid(2)));
        assert!(proxy.heard.contains(&identity), "{:?}", proxy.heard);
    }
}

#[test]
fn a_vm_moves_and_every_255_arrives() {
    let mut source = VmSession::new(web01());
    let mut proxy = Proxy::new();
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
    let mut proxy = Proxy::new();
    settle(&mut target, &mut proxy, 1, &mut input);
    assert_eq!(proxy.heard[0], "peer", "before UUID and name, and no DO-PROXY: {:?}", proxy.heard);
    assert_eq!(proxy.heard.len(), 3);
    assert_eq!(events(&mut target), [VmEvent::Ready, VmEvent::PeerOk { sequence: SEQUENCE.into() }]);
    target.complete();
    settle(&mut target, &mut proxy, 1000, &mut input);
    assert_eq!(proxy.heard.last().unwrap(), "complete \\x00\\xff\\xff\\x01");
}

quickcheck! {
    fn what_is_typed_and_printed_arrives(typed: Vec<u8>, printed: Vec<u8>, chunk: u8) -> bool {
        let mut vm = VmSession::new(web01());
        let mut proxy = Proxy::new();
        let mut input = Vec::new();
        vm.print(&printed);
        escape_into(&typed, &mut proxy.out);
        settle(&mut vm, &mut proxy, usize::from(chunk % 32) + 1, &mut input);
        proxy.serial == printed && input == typed
    }
}
