//! A telnet client that is attached to a console and writes down what it sees.

use super::names::{BINARY, DO, DONT, ECHO, SGA, TIMING_MARK, WILL, WONT};
use super::{Decoder, Word};

/// One client. It agrees to what makes a console transparent and to nothing else.
#[derive(Default, Debug)]
pub struct Client {
    decoder: Decoder,
    /// The options it has agreed to, theirs and its own.
    theirs: Vec<u8>,
    own: Vec<u8>,
    /// What it has seen.
    pub bytes: Vec<u8>,
    /// Telnet faults of the concentrator.
    pub malformed: usize,
    /// The concentrator closed the connection.
    pub closed: bool,
}

impl Client {
    /// Bytes have come; what to answer.
    pub fn read(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut answer = Vec::new();
        for word in self.decoder.read(bytes) {
            match word {
                Word::Data(mut data) => self.bytes.append(&mut data),
                Word::Negotiation(verb, option) => {
                    if let Some(verb) = self.negotiate(verb, option) {
                        Word::Negotiation(verb, option).encode(&mut answer);
                    }
                }
                Word::Fault(_) => self.malformed += 1,
                Word::Sub(..) | Word::Command(_) => {}
            }
        }
        answer
    }

    fn negotiate(&mut self, verb: u8, option: u8) -> Option<u8> {
        let (list, offer, wanted, yes, no) = match verb {
            WILL => (&mut self.theirs, true, matches!(option, BINARY | ECHO | SGA), DO, DONT),
            DO => (&mut self.own, true, matches!(option, BINARY | SGA), WILL, WONT),
            WONT => (&mut self.theirs, false, false, DO, DONT),
            _ => (&mut self.own, false, false, WILL, WONT),
        };
        let on = list.iter().position(|known| *known == option);
        match (offer, on) {
            (true, Some(_)) | (false, None) => None,
            (true, None) if wanted => {
                list.push(option);
                Some(yes)
            }
            // It has no state (RFC 860), and is answered each time.
            (true, None) if option == TIMING_MARK && verb == DO => Some(WONT),
            (true, None) => Some(no),
            (false, Some(at)) => {
                list.remove(at);
                Some(no)
            }
        }
    }
}
