//! The service URI of DO-PROXY: which of a VM's ports this is.
//!
//! **Owns** what of the bytes may be shown to people. **Refuses to know** which console it leads to.
//! **Implements** vmware.md §4.

use std::borrow::Cow;

/// The text a user typed into "Port URI".
///
/// Two serial ports of one VM send the same UUID and the same name; only this tells them apart
/// (vmware.md §4). It is shown to people, so it is UTF-8 (what is not becomes U+FFFD) without control
/// characters (likewise).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceUri<'a> {
    text: Cow<'a, str>,
}

impl<'a> ServiceUri<'a> {
    /// Takes the URI bytes of a DO-PROXY. Copies only if something had to be replaced.
    pub fn new(uri: &'a [u8]) -> Self {
        let mut text = String::from_utf8_lossy(uri);
        if text.contains(char::is_control) {
            text = Cow::Owned(text.replace(char::is_control, "\u{fffd}"));
        }
        Self { text }
    }

    /// All of it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The part before the query: the service the user meant, as in `vSPC.py`.
    pub fn base(&self) -> &str {
        self.text.split_once('?').map_or(&*self.text, |(base, _)| base)
    }

    /// What tells this port from the VM's others: the value of `port` in the query where there is
    /// one (`vSPC.py?port=console`, as VMware's kit takes it), else the whole URI (as vSPC.py does it).
    pub fn port_key(&self) -> &str {
        self.option("port").filter(|value| !value.is_empty()).unwrap_or(&self.text)
    }

    /// The value of this name in the query.
    pub fn option(&self, name: &str) -> Option<&str> {
        let query = self.text.split_once('?').map_or("", |(_, query)| query);
        query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    }

    /// What multi-console servers append to UUID and name: `_` and the [`port_key`](Self::port_key). Of a key
    /// beyond 128 bytes only the front stays, and a digest of it all, so that two keys still differ.
    pub fn suffix(&self) -> String {
        let key = self.port_key();
        if key.len() <= KEY_LIMIT {
            return format!("_{key}");
        }
        let end = (0..=KEY_LIMIT - DIGEST).rev().find(|&at| key.is_char_boundary(at)).unwrap_or(0);
        format!("_{}~{:016x}", &key[..end], digest(key.as_bytes()))
    }
}

/// FNV-1a: always the same number for the same bytes, also after a restart. Not a secret's keeper: who can
/// choose URIs can take another's as it is.
fn digest(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The longest key in bytes that is part of a suffix as it is. A console keeps it, a person reads it, and it
/// is part of file names, which end at 255.
const KEY_LIMIT: usize = 128;

/// How long a digest is in a suffix, with the `~` before it.
const DIGEST: usize = 17;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_keys_are_cut_and_yet_differ() {
        let of = |text: &str| ServiceUri::new(text.as_bytes()).suffix();
        assert_eq!(of(&"k".repeat(KEY_LIMIT)), format!("_{}", "k".repeat(KEY_LIMIT)));
        let (one, other) = (of(&format!("{}1", "k".repeat(60_000))), of(&format!("{}2", "k".repeat(60_000))));
        assert_ne!(one, other);
        assert_eq!((one.len(), &one[..9]), (KEY_LIMIT + 1, "_kkkkkkkk"));
        // The same for ever: it names a console that is kept over restarts.
        assert_eq!(
            of(&"k".repeat(KEY_LIMIT + 1)),
            format!("_{}~{:016x}", "k".repeat(111), 0xa821_bdd7_54ec_690a_u64)
        );
        // Never in the middle of a character.
        assert!(of(&"ü".repeat(30_000)).len() <= KEY_LIMIT + 1);
    }

    #[test]
    fn uris_have_a_base_and_a_suffix() {
        let rows: [(&[u8], &str, &str); 9] = [
            (b"vSPC.py", "vSPC.py", "_vSPC.py"),
            (b"vSPC.py?port=console", "vSPC.py", "_console"),
            (b"vSPC.py?x=1&port=com2&y", "vSPC.py", "_com2"),
            (b"vSPC.py?port=", "vSPC.py", "_vSPC.py?port="),
            (b"vSPC.py?export=2", "vSPC.py", "_vSPC.py?export=2"),
            (b"telnet://h:1?a?port=b", "telnet://h:1", "_telnet://h:1?a?port=b"),
            (b"", "", "_"),
            (b"a\x1b[2Jb\n", "a\u{fffd}[2Jb\u{fffd}", "_a\u{fffd}[2Jb\u{fffd}"),
            (b"caf\xe9?port=\xc3\xa9", "caf\u{fffd}", "_\u{e9}"),
        ];
        for (uri, base, suffix) in rows {
            let uri = ServiceUri::new(uri);
            assert_eq!(uri.base(), base);
            assert_eq!(uri.suffix(), suffix);
        }
    }
}
