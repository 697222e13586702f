//! Hello (APPLICATION §2): versions, what a guest allows, and the proofs that both sides have the same key.
//!
//! Owns the challenge in both roles: [`Greeting`] is the host's, [`Welcome`] the guest's. Refuses to know
//! where keys and random bytes come from.

use std::fmt;

use ring::hmac;
use serde::{Deserialize, Serialize};

use crate::answer::{self, Code, Done, Refusal};
use crate::header::Header;
use crate::line;

/// The version of the page.
pub const VERSION: u32 = 1;
/// The least that a key has.
pub const KEY: usize = 32;

/// Thirty-two random bytes, for one hello.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Nonce(pub [u8; 32]);

/// Says that somebody has the key.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Proof([u8; 32]);

/// A key that both sides have been given.
#[derive(Clone)]
pub struct Secret(hmac::Key);

/// The header of the host's first stream.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// The highest version that the host speaks.
    pub v: u32,
    /// Which program it is.
    #[serde(default)]
    pub host: String,
    /// The host's.
    pub nonce: Nonce,
}

/// The guest's answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct HelloOk {
    v: u32,
    #[serde(default)]
    agent: String,
    #[serde(default)]
    may: Vec<String>,
    #[serde(default)]
    packs: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nonce: Option<Nonce>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    proof: Option<Proof>,
}

#[derive(Serialize, Deserialize)]
struct Proved {
    proof: Proof,
}

impl Secret {
    /// From bytes that nobody can guess; `None` for fewer than [`KEY`].
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Self> {
        (bytes.len() >= KEY).then(|| Self(hmac::Key::new(hmac::HMAC_SHA256, bytes)))
    }

    fn prove(&self, who: Side, host: Nonce, guest: Nonce) -> Proof {
        let tag = hmac::sign(&self.0, &said(who, host, guest));
        let mut proof = [0; 32];
        proof.copy_from_slice(tag.as_ref());
        Proof(proof)
    }

    /// In constant time.
    fn is_proved(&self, proof: Proof, who: Side, host: Nonce, guest: Nonce) -> bool {
        hmac::verify(&self.0, &said(who, host, guest), &proof.0).is_ok()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[derive(Clone, Copy)]
enum Side {
    Host,
    Guest,
}

/// What is proved: no side's proof is the other's.
fn said(who: Side, host: Nonce, guest: Nonce) -> Vec<u8> {
    let who: &[u8] = match who {
        Side::Host => b"vspc-agent 1 host\0",
        Side::Guest => b"vspc-agent 1 guest\0",
    };
    [who, &host.0, &guest.0].concat()
}

/// A host that says hello.
#[derive(Debug)]
pub struct Greeting {
    secret: Option<Secret>,
    nonce: Nonce,
    proved: bool,
}

/// What a host knows of a guest once hello is over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Guest {
    /// Which program it is.
    pub agent: String,
    /// The words of `op` that it allows.
    pub may: Vec<String>,
    /// How it can pack bytes: words of [`crate::Pack`].
    pub packs: Vec<String>,
}

/// What the host does next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Next {
    /// Send this line.
    Say(Vec<u8>),
    /// Hello is over.
    Over,
}

impl Greeting {
    /// With the key that the guest has to have, if any, and a nonce that was never used.
    #[must_use]
    pub const fn new(secret: Option<Secret>, nonce: [u8; 32]) -> Self {
        Self { secret, nonce: Nonce(nonce), proved: false }
    }

    /// The header.
    #[must_use]
    pub fn header(&self, program: &str) -> Vec<u8> {
        Header::Hello(Hello { v: VERSION, host: program.to_owned(), nonce: self.nonce }).line()
    }

    /// A line came from the guest; the first one also says who it is.
    pub fn handle_line(&mut self, line: &[u8]) -> Result<(Option<Guest>, Next), Refusal> {
        if self.proved {
            return answer::parse::<Done>(line).map(|Done {}| (None, Next::Over));
        }
        let HelloOk { v, agent, may, packs, nonce, proof } = answer::parse(line)?;
        if v != VERSION {
            return Err(Refusal::new(Code::VERSION, format!("the guest speaks version {v}")));
        }
        let guest = Guest { agent, may, packs };
        let wrong = |message: &str| Refusal::new(Code::NOT_AUTHENTIC, message);
        match (&self.secret, nonce, proof) {
            (None, None, None) => Ok((Some(guest), Next::Over)),
            (Some(secret), Some(theirs), Some(proof)) => {
                if !secret.is_proved(proof, Side::Guest, self.nonce, theirs) {
                    return Err(wrong("the guest has another key"));
                }
                self.proved = true;
                let proof = secret.prove(Side::Host, self.nonce, theirs);
                Ok((Some(guest), Next::Say(line::write(&Proved { proof }))))
            }
            (Some(_), ..) => Err(wrong("the guest has no key")),
            (None, ..) => Err(wrong("the guest asks for a key")),
        }
    }
}

/// A guest that answers a hello.
#[derive(Debug)]
pub struct Welcome {
    secret: Option<Secret>,
    host: Nonce,
    nonce: Nonce,
}

impl Welcome {
    /// To a host's hello, with the key that it has to have, if any, and a nonce that was never used.
    pub fn new(hello: &Hello, secret: Option<Secret>, nonce: [u8; 32]) -> Result<Self, Refusal> {
        if hello.v < VERSION {
            return Err(Refusal::new(Code::VERSION, format!("this agent speaks version {VERSION}")));
        }
        Ok(Self { secret, host: hello.nonce, nonce: Nonce(nonce) })
    }

    /// The answer, and whether it is all. `packs` is how bytes can be packed, of [`crate::Pack::WORDS`].
    #[must_use]
    pub fn line(&self, program: &str, may: &[&str], packs: &[&str]) -> (Vec<u8>, bool) {
        let secret = self.secret.as_ref();
        let ok = HelloOk {
            v: VERSION,
            agent: program.to_owned(),
            may: may.iter().map(|&op| op.to_owned()).collect(),
            packs: packs.iter().map(|&pack| pack.to_owned()).collect(),
            nonce: secret.map(|_| self.nonce),
            proof: secret.map(|secret| secret.prove(Side::Guest, self.host, self.nonce)),
        };
        (answer::ok(&ok), secret.is_none())
    }

    /// The host's proof came.
    pub fn handle_line(&self, line: &[u8]) -> Result<(), Refusal> {
        let Proved { proof } = serde_json::from_slice(line).map_err(|error| answer::bad_line(&error))?;
        let is_right =
            self.secret.as_ref().is_none_or(|it| it.is_proved(proof, Side::Host, self.host, self.nonce));
        if is_right { Ok(()) } else { Err(Refusal::new(Code::NOT_AUTHENTIC, "the host has another key")) }
    }
}

macro_rules! as_digits {
    ($type:ty) => {
        impl TryFrom<String> for $type {
            type Error = Refusal;

            fn try_from(text: String) -> Result<Self, Refusal> {
                bytes(&text).map(Self).ok_or_else(|| Refusal::new(Code::BAD_LINE, "no 64 hexadecimal digits"))
            }
        }

        impl From<$type> for String {
            fn from(it: $type) -> Self {
                hex(&it.0)
            }
        }
    };
}
as_digits!(Nonce);
as_digits!(Proof);

/// Bytes as digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from(DIGITS[usize::from(digit)]))
        .collect()
}

fn bytes(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |digit: u8| char::from(digit).to_digit(16);
        *byte = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
    }
    Some(bytes)
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(byte: u8) -> Option<Secret> {
        Secret::new(&[byte; KEY])
    }

    /// Plays a hello: what the host and what the guest came to.
    fn play(host: Option<Secret>, guest: Option<Secret>) -> (Result<Guest, Code>, Result<(), Code>) {
        let mut greeting = Greeting::new(host, [1; 32]);
        let Ok(Header::Hello(hello)) = Header::parse(&greeting.header("test 1")) else { panic!("no hello") };
        let welcome = Welcome::new(&hello, guest, [2; 32]).unwrap();
        let (line, is_all) = welcome.line("agent 1", &["exec"], &["lz4"]);
        let (who, next) = match greeting.handle_line(&line) {
            Ok(came) => came,
            Err(refusal) => return (Err(refusal.code), if is_all { Ok(()) } else { Err(Code::CUT) }),
        };
        let who = who.expect("who it is");
        let Next::Say(proof) = next else { return (Ok(who), Ok(())) };
        assert!(!is_all);
        let judged = welcome.handle_line(&proof).map_err(|refusal| refusal.code);
        let last = greeting.handle_line(&answer::ok(&Done {})).unwrap();
        assert_eq!(last, (None, Next::Over));
        (Ok(who), judged)
    }

    #[test]
    fn both_sides_prove_the_same_key_or_neither_has_one() {
        let who = Guest {
            agent: "agent 1".to_owned(),
            may: vec!["exec".to_owned()],
            packs: vec!["lz4".to_owned()],
        };
        assert_eq!(play(None, None), (Ok(who.clone()), Ok(())));
        assert_eq!(play(secret(1), secret(1)), (Ok(who), Ok(())));
        assert_eq!(play(secret(1), secret(2)).0, Err(Code::NOT_AUTHENTIC));
        assert_eq!(play(secret(1), None).0, Err(Code::NOT_AUTHENTIC));
        assert_eq!(play(None, secret(1)), (Err(Code::NOT_AUTHENTIC), Err(Code::CUT)));
    }

    #[test]
    fn a_proof_of_another_hello_another_key_or_the_other_side_is_none() {
        let right = secret(1).unwrap();
        let (host, guest) = (Nonce([1; 32]), Nonce([2; 32]));
        let hello = Hello { v: 1, host: String::new(), nonce: host };
        let welcome = Welcome::new(&hello, secret(1), guest.0).unwrap();
        let judge = |proof| welcome.handle_line(&line::write(&Proved { proof })).is_ok();
        assert!(judge(right.prove(Side::Host, host, guest)));
        assert!(!judge(right.prove(Side::Guest, host, guest)), "the guest's own came back");
        assert!(!judge(right.prove(Side::Host, Nonce([3; 32]), guest)));
        assert!(!judge(right.prove(Side::Host, host, Nonce([3; 32]))));
        assert!(!judge(secret(2).unwrap().prove(Side::Host, host, guest)));
        for line in ["{}", "{\"proof\":\"00\"}", "{\"proof\":null}", "x"] {
            assert!(welcome.handle_line(line.as_bytes()).is_err(), "{line}");
        }
    }

    #[test]
    fn short_keys_are_none_and_keys_do_not_show() {
        assert!(Secret::new(&[0; KEY - 1]).is_none());
        assert_eq!(format!("{:?}", secret(1).unwrap()), "Secret(…)");
    }

    #[test]
    fn a_proof_is_what_the_page_says() {
        // HMAC-SHA256 by another program, of what the page says.
        let proof = secret(b'k').unwrap().prove(Side::Guest, Nonce([0; 32]), Nonce([255; 32]));
        assert_eq!(String::from(proof), "a8d1a59b91ceed6077192421c86786429281fe4bef685187098003f628ca8598");
    }

    #[test]
    fn a_later_version_is_answered_with_this_one_and_an_earlier_one_refused() {
        let hello = |v| Hello { v, host: String::new(), nonce: Nonce([0; 32]) };
        assert!(Welcome::new(&hello(2), None, [0; 32]).is_ok());
        assert_eq!(Welcome::new(&hello(0), None, [0; 32]).unwrap_err().code, Code::VERSION);
    }
}
