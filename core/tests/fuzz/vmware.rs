//! The bodies of the fuzz targets `vmware_message` and `vmware_dialogue`. The fuzz crate includes this file.

use vspc_core::telnet::{Decoder, Item, SUBNEGOTIATION_LIMIT};
use vspc_core::vmware::{
    ANSWER_LIMIT, Code, Dialogue, Message, Said, ServiceUri, Uuid, VMWARE_TELNET_EXT, VmConfig, VmSession,
};

/// One message of option 232: `data` is its body.
///
/// Checked: what is read and written again is read as the same, by telnet too; nothing is refused that
/// vmware.md §2 allows; UUIDs are read as a slow reader reads them; a URI is text without control characters.
pub(crate) fn vmware_message(data: &[u8]) {
    let Ok(message) = Message::parse(data) else {
        assert!(data.len() <= 1, "only what has nothing behind its code can lack something");
        return;
    };
    assert_eq!(message.code().0, data[0]);
    let mut wire = Vec::new();
    message.put(&mut wire);
    let (mut decoder, mut input) = (Decoder::new(), &wire[..]);
    match decoder.decode(&mut input) {
        Some(Item::Subnegotiation(opt, body)) => {
            assert_eq!(opt, VMWARE_TELNET_EXT);
            assert!(data.starts_with(body), "{body:02x?}");
            assert_eq!(Message::parse(body), Ok(message));
        }
        item => assert!(data.len() > SUBNEGOTIATION_LIMIT, "{item:?}"),
    }
    assert_eq!(decoder.decode(&mut input), None);

    let text = &data[1..];
    assert_eq!(Uuid::parse(text).ok(), slow_uuid(text));
    if let Ok(uuid) = Uuid::parse(text) {
        let mut written = Vec::new();
        uuid.put_vmware(&mut written);
        assert_eq!(Uuid::parse(&written), Ok(uuid));
        assert_eq!(Uuid::parse(uuid.to_string().as_bytes()), Ok(uuid));
    }
    let uri = ServiceUri::new(text);
    assert!(!uri.as_str().contains(char::is_control));
    assert!(uri.as_str().starts_with(uri.base()) && uri.as_str().contains(uri.port_key()));
}

/// A VM's dialogue with any peer, in both roles: `data` is a program of messages.
///
/// Checked: the proxy's end answers with whole messages that a proxy may send, at most two for each and none
/// to a complaint, asks for nothing twice, and stops at its bound; it says that a VM is whom it said it was;
/// the VM's end keeps within its bounds, whatever the proxy says, and is not deaf afterwards.
pub(crate) fn vmware_dialogue(data: &[u8]) {
    let mut dialogue = Dialogue::new();
    let mut vm = VmSession::new(VmConfig { name: "web01".into(), ..VmConfig::default() });
    let mut typed = Vec::new();
    vm.handle_received(&[255, 253, VMWARE_TELNET_EXT.0], &mut typed);
    assert!(vm.is_ready());
    let mut answers = Vec::new();
    let mut asked = [0; 3];
    let mut program = data;
    while let [op, len, rest @ ..] = program {
        let (body, rest) = rest.split_at(rest.len().min(usize::from(len & 63)));
        program = rest;
        let mut before = answers.len();
        let mut most = 0;
        match op & 7 {
            // The dialogue's answers were taken.
            0 => {
                answers.clear();
                before = 0;
            }
            1 => {
                dialogue.ask(&mut answers);
                most = 2;
            }
            2 => drop(vm.poll_event()),
            3 => drop(vm.transmit(|bytes| bytes.len().min(usize::from(*len)))),
            4 => {
                let mut said = Vec::new();
                Message::parse(body).map(|message| message.put(&mut said)).unwrap_or_default();
                vm.handle_received(&said, &mut typed);
            }
            _ => {
                let said = dialogue.handle_received(body, &mut answers);
                // A complaint is never answered with a complaint.
                most = if body.first() == Some(&Code::UNKNOWN_SUBOPTION_RCVD_2.0) { 0 } else { 2 };
                if let Ok(Some(Said::Uuid(uuid))) = said {
                    assert!(!uuid.is_nil() && slow_uuid(&body[1..]) == Some(uuid));
                }
            }
        }
        let put = messages(&answers[before..]);
        assert!(put.len() <= most, "{put:?}");
        for code in put {
            match code {
                Code::GET_VM_VC_UUID => asked[0] += 1,
                Code::GET_VM_NAME => asked[1] += 1,
                Code::GET_VM_BIOS_UUID => asked[2] += 1,
                code => assert_eq!(code, Code::UNKNOWN_SUBOPTION_RCVD_2),
            }
        }
        assert!(asked.iter().all(|&times| times <= 1), "{asked:?}");
        assert!(vm.pending().len() <= ANSWER_LIMIT + 64);
    }
    assert!(typed.is_empty());
    vm.transmit(<[u8]>::len);
    let mut question = Vec::new();
    Message::GetVmName.put(&mut question);
    vm.handle_received(&question, &mut typed);
    assert_eq!(messages(vm.pending()), [Code::VM_NAME]);
}

/// The codes of whole messages.
fn messages(wire: &[u8]) -> Vec<Code> {
    let (mut decoder, mut input) = (Decoder::new(), wire);
    let mut codes = Vec::new();
    while let Some(item) = decoder.decode(&mut input) {
        match item {
            Item::Subnegotiation(VMWARE_TELNET_EXT, body) => {
                codes.push(Message::parse(body).expect("a whole message").code());
            }
            item => panic!("{item:?} among messages"),
        }
    }
    assert!(decoder.is_idle());
    codes
}

/// Digits of either case; white space, dashes and braces do not count (vmware.md §5).
fn slow_uuid(text: &[u8]) -> Option<Uuid> {
    let digits: Vec<u8> =
        text.iter().copied().filter(|byte| !byte.is_ascii_whitespace() && !b"-{}".contains(byte)).collect();
    let digits: Option<Vec<u8>> =
        digits.iter().map(|&byte| char::from(byte).to_digit(16).map(|digit| digit as u8)).collect();
    let pairs: Vec<u8> =
        digits?.chunks(2).map(|pair| if let [a, b] = *pair { a << 4 | b } else { 0 }).collect();
    let is_whole = text.iter().filter(|byte| byte.is_ascii_hexdigit()).count() == 32;
    is_whole.then(|| pairs.try_into().map(Uuid::from_bytes).ok()).flatten()
}
