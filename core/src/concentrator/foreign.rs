//! Who is no client at all: the first words of programs that are at the wrong port.
//!
//! **Owns** what a web browser, a TLS client, an ssh client and a proxy begin with, and what each is told.
//! **Refuses to know** connections and clocks. **Implements** telnet.md §8, "at the wrong port".

/// A program that speaks something else than a console's clients do, and says so in its first bytes.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Foreign {
    /// An HTTP request: a browser, a web page's script, a scanner.
    Http,
    /// A TLS hello, where nobody speaks TLS.
    Tls,
    /// An ssh client.
    Ssh,
    /// A proxy that announces whom it forwards.
    Proxy,
}

/// What some first bytes are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum FirstWords {
    /// Such a program's.
    Of(Foreign),
    /// They may yet become such.
    Begun,
    /// Anybody else's.
    Other,
}

impl Foreign {
    /// What such a program is told before it is closed.
    pub(super) fn farewell(self) -> &'static [u8] {
        match self {
            Self::Http => b"\r\nThis is a serial console (telnet or raw TCP), no web server.\r\n",
            // A fatal alert, handshake_failure (RFC 5246 §7.2, RFC 8446 §6.2).
            Self::Tls => &[0x15, 0x03, 0x01, 0, 2, 2, 40],
            Self::Ssh => b"\r\nThis is a serial console (telnet or raw TCP), no ssh server.\r\n",
            Self::Proxy => b"\r\nThis is a serial console; it takes no PROXY header.\r\n",
        }
    }
}

/// Looks at all that a client has sent so far. Costs a look at each byte, [`LONGEST`] of them at most.
pub(super) fn first_words(bytes: &[u8]) -> FirstWords {
    if bytes.len() > LONGEST && http(&bytes[..LONGEST]) == FirstWords::Begun {
        return FirstWords::Other;
    }
    let fixed = |words: &[u8], foreign| pattern(bytes, words.len(), foreign, |at, byte| words[at] == byte);
    let all = [
        http(&bytes[..bytes.len().min(LONGEST)]),
        // Content type, version, length, and the type of the first message (RFC 8446 §5.1, §4).
        pattern(bytes, 6, Foreign::Tls, |at, byte| match at {
            0 => byte == 0x16,
            1 => byte == 3,
            2 => byte < 0x10,
            5 => byte == 1,
            _ => true,
        }),
        fixed(b"SSH-2.0-", Foreign::Ssh),
        fixed(b"PROXY TCP", Foreign::Proxy),
        fixed(b"PROXY UNKNOWN", Foreign::Proxy),
    ];
    let whole = all.into_iter().find(|words| matches!(words, FirstWords::Of(_)));
    whole.unwrap_or(if all.contains(&FirstWords::Begun) { FirstWords::Begun } else { FirstWords::Other })
}

/// Whether `bytes` begin with `len` bytes that fit.
fn pattern(bytes: &[u8], len: usize, foreign: Foreign, fits: impl Fn(usize, u8) -> bool) -> FirstWords {
    let all_fit = bytes.iter().take(len).enumerate().all(|(at, &byte)| fits(at, byte));
    match (all_fit, bytes.len() >= len) {
        (false, _) => FirstWords::Other,
        (true, false) => FirstWords::Begun,
        (true, true) => FirstWords::Of(foreign),
    }
}

/// `METHOD SP target SP HTTP/1.` (RFC 9112 §3).
fn http(bytes: &[u8]) -> FirstWords {
    let mut words = bytes.splitn(3, |&byte| byte == b' ');
    let (method, target, version) = (words.next().unwrap_or_default(), words.next(), words.next());
    let Some(target) = target else {
        let is_begun = METHODS.iter().any(|name| name.starts_with(method));
        return if is_begun { FirstWords::Begun } else { FirstWords::Other };
    };
    let is_target = target.iter().all(u8::is_ascii_graphic);
    if !METHODS.contains(&method) || !is_target || (target.is_empty() && version.is_some()) {
        return FirstWords::Other;
    }
    let Some(version) = version else { return FirstWords::Begun };
    pattern(version, HTTP.len(), Foreign::Http, |at, byte| HTTP[at] == byte)
}

const HTTP: &[u8] = b"HTTP/1.";

/// Methods of RFC 9110 §9.1 and RFC 5789.
const METHODS: [&[u8]; 9] =
    [b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH"];

/// The longest request line that is waited for: what a program at the wrong port sends is short, and every
/// byte of it is kept.
const LONGEST: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_proper_prefix_is_begun_and_the_whole_is_known() {
        for (words, foreign) in [
            (&b"GET / HTTP/1."[..], Foreign::Http),
            (b"POST /api/v1/jobs?x=1 HTTP/1.", Foreign::Http),
            (b"OPTIONS * HTTP/1.", Foreign::Http),
            (b"CONNECT host:22 HTTP/1.", Foreign::Http),
            (b"\x16\x03\x01\x02\x00\x01", Foreign::Tls),
            (b"\x16\x03\x03\x00\xff\x01", Foreign::Tls),
            (b"SSH-2.0-", Foreign::Ssh),
            (b"PROXY TCP", Foreign::Proxy),
            (b"PROXY UNKNOWN", Foreign::Proxy),
        ] {
            for len in 0..words.len() {
                let prefix = words[..len].escape_ascii();
                assert_eq!(first_words(&words[..len]), FirstWords::Begun, "{prefix}");
            }
            assert_eq!(first_words(words), FirstWords::Of(foreign));
            assert_eq!(first_words(&[words, b"\x00\xffrest"].concat()), FirstWords::Of(foreign));
        }
    }

    #[test]
    fn what_people_and_scripts_type_is_theirs() {
        for words in [
            &b"GET key\n"[..],
            b"GET key value\n",
            b"GET  HTTP/1.1",
            b"get / HTTP/1.1",
            b"POS\r",
            b"P\n",
            b"PROXY off",
            b"SSH-1.5-",
            b"\x16\x04",
            b"\x16\x03\x01\x02\x00\x02",
            b"ls\n",
            b"\xff\xfd\x01",
        ] {
            assert_eq!(first_words(words), FirstWords::Other, "{}", words.escape_ascii());
        }
    }

    #[test]
    fn a_request_line_without_end_is_not_waited_for() {
        let mut line = b"GET /".to_vec();
        line.resize(LONGEST, b'x');
        assert_eq!(first_words(&line), FirstWords::Begun);
        line.push(b'x');
        assert_eq!(first_words(&line), FirstWords::Other);
    }
}
