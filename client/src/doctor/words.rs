//! What somebody answers to the first words of an ESXi host (tls-in-band.md §2, vmware.md §2), up to where it
//! is clear who that is.
//!
//! Owns how the answer is understood. Refuses to know how it is carried.

use vspc_core::telnet::{Decoder, Item, Opt, Verb};

/// What a host says first: that it could go over to TLS, and that it has VMware's extension.
pub(super) const FIRST: &[u8] = b"\xff\xfb\x25\xff\xfb\xe8";

/// IS NULL: the host would rather not go over to TLS.
pub(super) const NO_TLS: &[u8] = b"\xff\xfa\x25\x00\x00\x00\xff\xf0";

/// IS SSL START.
pub(super) const START_TLS: &[u8] = b"\xff\xfa\x25\x00\x07\x00\x01\xff\xf0";

/// Who answers, as far as that is known.
#[derive(Debug)]
pub(super) struct Answer {
    decoder: Decoder,
    /// The first bytes, whatever they are.
    pub(super) first: Vec<u8>,
    /// It has VMware's extension: it is a concentrator.
    pub(super) has_extension: bool,
    /// It speaks telnet.
    pub(super) is_telnet: bool,
    /// It would go over to TLS: it asked for that, in which case it waits for an answer.
    pub(super) asks_for_tls: bool,
    /// It goes over to TLS, as the last that it says in clear.
    pub(super) accepts_tls: bool,
    /// It declines to go over to TLS.
    pub(super) declines_tls: bool,
    /// Data, which nobody but a concentrator has a reason to send.
    text: Vec<u8>,
}

impl Answer {
    pub(super) fn new() -> Self {
        Self {
            decoder: Decoder::new(),
            first: Vec::new(),
            has_extension: false,
            is_telnet: false,
            asks_for_tls: false,
            accepts_tls: false,
            declines_tls: false,
            text: Vec::new(),
        }
    }

    pub(super) fn hear(&mut self, mut bytes: &[u8]) {
        let room = MOST - self.first.len();
        self.first.extend(bytes.iter().take(room));
        while let Some(item) = self.decoder.decode(&mut bytes) {
            match item {
                Item::Negotiation(verb, opt) => {
                    self.is_telnet = true;
                    self.has_extension |= (verb, opt) == (Verb::Do, EXTENSION);
                    self.declines_tls |= (verb, opt) == (Verb::Dont, Opt::AUTHENTICATION);
                }
                Item::Subnegotiation(Opt::AUTHENTICATION, body) => {
                    self.asks_for_tls |=
                        body.first() == Some(&SEND) && body[1..].chunks(2).any(|it| it == SSL);
                    self.accepts_tls |= body == ACCEPT_SSL;
                }
                Item::Data(data) => {
                    let room = MOST - self.text.len();
                    self.text.extend(data.iter().take(room));
                }
                _ => {}
            }
        }
    }

    /// Whether more would say nothing new.
    pub(super) fn is_clear(&self) -> bool {
        self.asks_for_tls
            || (self.has_extension && self.declines_tls)
            || (!self.is_telnet && (self.first.len() >= 8 || self.begins_tls()))
    }

    /// It speaks TLS from its first byte on: what comes is an alert, or a handshake.
    pub(super) fn begins_tls(&self) -> bool {
        matches!(self.first[..], [0x15 | 0x16, 3, ..])
    }

    /// What it says to people, in one line.
    pub(super) fn line(&self) -> String {
        let text = String::from_utf8_lossy(&self.text);
        text.trim().lines().next().unwrap_or_default().trim_end().chars().take(100).collect()
    }
}

/// VMware's extension of telnet.
const EXTENSION: Opt = Opt(232);

const SEND: u8 = 1;
const SSL: [u8; 2] = [7, 0];
const ACCEPT_SSL: [u8; 4] = [2, 7, 0, 2];

/// As much as is kept of either.
const MOST: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(bytes: &[u8]) -> Answer {
        let mut whole = Answer::new();
        whole.hear(bytes);
        // However it is cut, it means the same.
        let mut cut = Answer::new();
        bytes.chunks(1).for_each(|byte| cut.hear(byte));
        let facts =
            |answer: &Answer| (answer.has_extension, answer.is_telnet, answer.asks_for_tls, answer.line());
        assert_eq!(facts(&whole), facts(&cut));
        whole
    }

    #[test]
    fn a_concentrator_is_known_by_its_extension_and_by_what_it_says_of_tls() {
        let answer = heard(b"\xff\xfe\x25\xff\xfd\xe8");
        assert!(answer.has_extension && answer.declines_tls && answer.is_clear());
        let answer = heard(b"\xff\xfd\x25\xff\xfa\x25\x01\x07\x00\xff\xf0");
        assert!(answer.asks_for_tls && !answer.has_extension && answer.is_clear());
        // Kerberos alone is no offer of TLS.
        assert!(!heard(b"\xff\xfd\x25\xff\xfa\x25\x01\x02\x00\xff\xf0").asks_for_tls);
        assert!(heard(b"\xff\xfa\x25\x02\x07\x00\x02\xff\xf0").accepts_tls);
    }

    #[test]
    fn others_are_known_by_what_they_begin_with() {
        let answer = heard(b"SSH-2.0-OpenSSH_9.2\r\nmore");
        assert!(answer.is_clear() && !answer.is_telnet);
        assert_eq!(answer.line(), "SSH-2.0-OpenSSH_9.2");
        let answer = heard(b"\xff\xfb\x01\xff\xfe\xe8\r\nlogin: ");
        assert!(answer.is_telnet && !answer.has_extension && !answer.is_clear());
        assert_eq!(answer.line(), "login:");
        assert!(heard(b"\x15\x03\x03\x00\x02\x02\x46").begins_tls());
        let _ = heard(&[7; 5000]);
    }
}
