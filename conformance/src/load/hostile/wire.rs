//! What attackers say: session starts and messages of a VM, put together byte by byte, right or wrong.

use vspc_core::telnet::escape_into;
use vspc_core::vmware::{Uuid, VmConfig};

use crate::random::mix;
use crate::telnet::names::{IAC, SB, SE, VMWARE, WILL, WONT, code};

/// All that a VM says of itself, in one piece.
pub(super) fn hello(config: &VmConfig) -> Vec<u8> {
    let mut said = vec![IAC, WILL, VMWARE];
    put(code::KNOWN_1, &[0, code::DO_PROXY, code::UUID, code::NAME], &mut said);
    put(code::DO_PROXY, format!("S{}", config.uri).as_bytes(), &mut said);
    let mut uuid = Vec::new();
    config.vc_uuid.unwrap_or(Uuid::NIL).put_vmware(&mut uuid);
    put(code::UUID, &uuid, &mut said);
    put(code::NAME, config.name.as_bytes(), &mut said);
    said
}

/// A VM that nobody has: another one for each number.
pub(super) fn made_up(number: u64) -> VmConfig {
    let mut bytes = *b"made up!........";
    bytes[8..].copy_from_slice(&mix(number).to_be_bytes());
    VmConfig {
        name: format!("made-up-{number}"),
        vc_uuid: Some(Uuid::from_bytes(bytes)),
        ..VmConfig::default()
    }
}

/// A message of option 232.
pub(super) fn message(code: u8, body: &[u8]) -> Vec<u8> {
    let mut said = Vec::new();
    put(code, body, &mut said);
    said
}

fn put(code: u8, body: &[u8], said: &mut Vec<u8>) {
    said.extend_from_slice(&[IAC, SB, VMWARE]);
    escape_into(&[&[code], body].concat(), said);
    said.extend_from_slice(&[IAC, SE]);
}

/// What a server says to a VM that it serves: the beginning of WILL-PROXY.
pub(super) const SERVED: [u8; 4] = [IAC, SB, VMWARE, code::WILL_PROXY];
/// The shortest thing to say that has to be looked at: the option, on and off.
pub(super) const ON_AND_OFF: [u8; 6] = [IAC, WILL, VMWARE, IAC, WONT, VMWARE];
/// The beginning of a session start.
pub(super) const OPENING: [u8; 3] = [IAC, WILL, VMWARE];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telnet::{Decoder, Word};

    #[test]
    fn a_hello_is_what_a_vm_says() {
        let said = hello(&made_up(255));
        let words = Decoder::default().read(&said);
        let codes: Vec<u8> = words.iter().filter_map(Word::as_vmware).map(|(code, _)| code).collect();
        assert_eq!(words[0], Word::Negotiation(WILL, VMWARE));
        assert_eq!(codes, [code::KNOWN_1, code::DO_PROXY, code::UUID, code::NAME]);
        assert_ne!(made_up(1).vc_uuid, made_up(2).vc_uuid);
    }
}
