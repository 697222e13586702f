//! Values of options as people write them, and what is said of those that mean nothing.

use std::fs;
use std::net::IpAddr;

use crate::options::ClientLimit;

/// An address as people write it, IPv6 with or without the brackets it has beside a port. An IPv4 address
/// mapped into IPv6 (RFC 4291 §2.5.5.2) is that IPv4 address: an IPv6 socket of ours could not be bound to
/// it.
pub(crate) fn address(text: &str) -> Result<IpAddr, String> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address: Result<IpAddr, _> = bare.parse();
    let address = address.map_err(|_| "give an IP address, like 127.0.0.1, 0.0.0.0 or ::".to_owned())?;
    Ok(address.to_canonical())
}

/// A port, as people write it.
pub(crate) fn port(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| "give a number from 0 to 65535".to_owned())
}

/// Permissions, as chmod takes them.
pub(crate) fn mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777);
    mode.ok_or_else(|| "give three octal digits, like 660 for owner and group".to_owned())
}

/// A group's number, or a name that this machine's /etc/group has.
pub(crate) fn group(text: &str) -> Result<u32, String> {
    let found = number_in("/etc/group", text);
    found.ok_or_else(|| format!("/etc/group has no group {text}: give its number"))
}

/// A user's number, or a name that this machine's /etc/passwd has.
pub(crate) fn user(text: &str) -> Result<u32, String> {
    let found = number_in("/etc/passwd", text);
    found.ok_or_else(|| format!("/etc/passwd has no user {text}: give its number"))
}

/// A number as such, or that of a name in a file that has both in its first and its third field.
fn number_in(file: &str, text: &str) -> Option<u32> {
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    let entries = fs::read_to_string(file).unwrap_or_default();
    entries.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(text)).then(|| fields.nth(1)?.parse().ok()).flatten()
    })
}

/// A number of clients, or `none`.
pub(crate) fn client_limit(text: &str) -> Result<ClientLimit, String> {
    if text == "none" {
        return Ok(None);
    }
    let limit = text.parse().ok().filter(|limit| *limit <= MOST_CLIENTS);
    limit.map(Some).ok_or_else(|| format!("give a number up to {MOST_CLIENTS}, or none for any"))
}

/// A number of consoles.
pub(crate) fn max_consoles(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (1..=MOST_CONSOLES).contains(number));
    number.ok_or_else(|| format!("give a whole number from 1 to {MOST_CONSOLES}"))
}

/// Seconds for a VM to say which it is.
pub(crate) fn identify_timeout(text: &str) -> Result<u32, String> {
    seconds(text, MOST_IDENTIFY)
}

/// Seconds until a console is forgotten.
pub(crate) fn vm_expire_time(text: &str) -> Result<u32, String> {
    seconds(text, MOST_EXPIRE)
}

fn seconds(text: &str, most: u32) -> Result<u32, String> {
    let seconds = text.parse().ok().filter(|seconds| *seconds <= most);
    seconds.ok_or_else(|| format!("give a whole number of seconds, at most {most}"))
}

/// The most `--max-clients`: about as many descriptors as Linux gives a process (fs.nr_open).
const MOST_CLIENTS: usize = 1_000_000;

/// Most consoles without VM and client: some 40 GB.
const MOST_CONSOLES: usize = 10_000_000;

/// The most `--identify-timeout`: a day. Until then a silent connection holds a descriptor.
const MOST_IDENTIFY: u32 = 86_400;

/// The most `--vm-expire-time`: a hundred years, which is for ever.
const MOST_EXPIRE: u32 = 3_155_760_000;
