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
        let query = self.text.split_once('?').map_or("", |(_, query)| query);
        query
            .split('&')
            .find_map(|pair| pair.strip_prefix("port="))
            .filter(|value| !value.is_empty())
            .unwrap_or(&self.text)
    }

    /// What multi-console servers append to UUID and name: `_` and the [`port_key`](Self::port_key).
    pub fn suffix(&self) -> String {
        format!("_{}", self.port_key())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
