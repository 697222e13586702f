//! A telnet client that is attached to a console and writes down what it sees.

use super::telnet::{BINARY, ECHO, Item, Reader, SGA, Said, TIMING_MARK, Verb};

/// One client.
#[derive(Default, Debug)]
pub struct Client {
    reader: Reader,
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
    /// Bytes have come; what to answer. It takes what makes a console transparent and refuses the rest.
    pub fn read(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut answer = Vec::new();
        for item in self.reader.read(bytes) {
            match item.said {
                Said::Data(mut data) => self.bytes.append(&mut data),
                Said::Verb(verb, option) => {
                    if let Some(verb) = self.negotiate(verb, option) {
                        answer.extend(Item::new(Said::Verb(verb, option)).raw);
                    }
                }
                Said::Broken(_) => self.malformed += 1,
                Said::Sub(..) | Said::Command(_) => {}
            }
        }
        answer
    }

    fn negotiate(&mut self, verb: Verb, option: u8) -> Option<Verb> {
        let (list, offer, wanted, yes, no) = match verb {
            Verb::Will => {
                (&mut self.theirs, true, matches!(option, BINARY | ECHO | SGA), Verb::Do, Verb::Dont)
            }
            Verb::Do => (&mut self.own, true, matches!(option, BINARY | SGA), Verb::Will, Verb::Wont),
            Verb::Wont => (&mut self.theirs, false, false, Verb::Do, Verb::Dont),
            Verb::Dont => (&mut self.own, false, false, Verb::Will, Verb::Wont),
        };
        let on = list.iter().position(|known| *known == option);
        match (offer, on) {
            (true, Some(_)) | (false, None) => None,
            (true, None) if wanted => {
                list.push(option);
                Some(yes)
            }
            (true, None) if option == TIMING_MARK && verb == Verb::Do => Some(Verb::Wont),
            (true, None) => Some(no),
            (false, Some(at)) => {
                list.remove(at);
                Some(no)
            }
        }
    }
}
