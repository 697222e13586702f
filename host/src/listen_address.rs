//! Where a listener goes, as `--vm-listen`, `--admin-listen` and `--interface` take it.
//!
//! ```text
//! tcp://ADDRESS:PORT     ADDRESS:PORT             an IPv6 address in brackets
//! unix:/PATH             /PATH                    then ,mode=0660 ,owner=USER ,group=GROUP
//! vsock:PORT             vsock:CID:PORT           without CID any of this machine's own
//! fd:NAME                                         a socket that the service manager hands over
//! ```
//!
//! **Owns** that syntax. **Refuses to know** who listens there, and whether that can be.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use vspc_core::concentrator::{ANY_CID, Address, ClientPlace, SocketFile};

use crate::option_values::{address, group, mode, user};

/// Reads one address. What is wrong with it is said in one line.
pub(crate) fn listen_address(text: &str) -> Result<Address, String> {
    if let Some(path) = text.strip_prefix("unix:") {
        return unix(path);
    }
    if text.starts_with('/') {
        return unix(text);
    }
    if let Some(place) = text.strip_prefix("vsock:") {
        return vsock(place);
    }
    if let Some(name) = text.strip_prefix("fd:") {
        return inherited(name);
    }
    let place = text.strip_prefix("tcp://").unwrap_or(text);
    let address: SocketAddr = place.parse().map_err(|_| FORMS.to_owned())?;
    // An IPv6 socket of ours could not be bound to an IPv4 address mapped into IPv6.
    Ok(Address::Ip(SocketAddr::new(address.ip().to_canonical(), address.port())))
}

/// Reads where client ports are: an address, `unix:/FOLDER` or `vsock:`, of which each port is one.
pub(crate) fn client_place(text: &str) -> Result<ClientPlace, String> {
    if text.starts_with("unix:") || text.starts_with('/') {
        return match unix(text.strip_prefix("unix:").unwrap_or(text))? {
            Address::Unix(file) => Ok(ClientPlace::Folder(file)),
            _ => Err(PLACES.to_owned()),
        };
    }
    match text.strip_prefix("vsock:") {
        Some("") => Ok(ClientPlace::Vsock(ANY_CID)),
        Some(cid) => cid.parse().map(ClientPlace::Vsock).map_err(|_| PLACES.to_owned()),
        None => address(text).map(ClientPlace::Ip).map_err(|_| PLACES.to_owned()),
    }
}

const PLACES: &str = "give an IPv4 or IPv6 address, unix:/FOLDER, or vsock: (vsock:CID)";

fn unix(text: &str) -> Result<Address, String> {
    let (path, settings) = text.split_once(',').unwrap_or((text, ""));
    if !path.starts_with('/') {
        return Err("give the whole path of a unix socket, as unix:/run/vspc/vm.sock".to_owned());
    }
    let mut file = SocketFile { path: PathBuf::from(path), mode: 0o660, owner: None, group: None };
    for setting in settings.split(',').filter(|setting| !setting.is_empty()) {
        match setting.split_once('=') {
            Some(("mode", value)) => file.mode = mode(value)?,
            Some(("owner", value)) => file.owner = Some(user(value)?),
            Some(("group", value)) => file.group = Some(group(value)?),
            _ => {
                return Err(format!("{setting:?} is none of mode=, owner= and group=, nor part of the path"));
            }
        }
    }
    Ok(Address::Unix(Arc::new(file)))
}

fn vsock(text: &str) -> Result<Address, String> {
    let (cid, port) = match text.split_once(':') {
        Some((cid, port)) => (cid.parse().ok(), port),
        None => (Some(ANY_CID), text),
    };
    match (cid, port.parse()) {
        (Some(cid), Ok(port)) => Ok(Address::Vsock { cid, port }),
        _ => Err("give two numbers at most, as vsock:13370 or vsock:2:13370".to_owned()),
    }
}

fn inherited(name: &str) -> Result<Address, String> {
    // What systemd takes for a FileDescriptorName= (systemd.socket(5)).
    let is_name = !name.is_empty()
        && name.len() <= LONGEST_NAME
        && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':');
    match is_name {
        true => Ok(Address::Inherited(name.into())),
        false => Err("give the name that FileDescriptorName= gives the socket, as fd:vm".to_owned()),
    }
}

const FORMS: &str =
    "give tcp://ADDRESS:PORT (an IPv6 address in brackets), unix:/PATH, vsock:PORT or fd:NAME";

/// systemd.socket(5).
const LONGEST_NAME: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, mode: u32, owner: Option<u32>, group: Option<u32>) -> Address {
        Address::Unix(Arc::new(SocketFile { path: path.into(), mode, owner, group }))
    }

    #[test]
    fn each_form_of_an_address_is_read() {
        let ip = |text: &str| Address::Ip(text.parse().unwrap());
        for (text, address) in [
            ("tcp://0.0.0.0:13370", ip("0.0.0.0:13370")),
            ("10.0.0.5:1", ip("10.0.0.5:1")),
            ("tcp://[::]:0", ip("[::]:0")),
            ("[::ffff:10.0.0.5]:1", ip("10.0.0.5:1")),
            ("unix:/run/vspc/vm.sock", file("/run/vspc/vm.sock", 0o660, None, None)),
            ("/run/vspc/vm.sock", file("/run/vspc/vm.sock", 0o660, None, None)),
            ("unix:/a,mode=600,owner=7,group=root", file("/a", 0o600, Some(7), Some(0))),
            ("/a,group=8,owner=root", file("/a", 0o660, Some(0), Some(8))),
            ("vsock:13370", Address::Vsock { cid: ANY_CID, port: 13370 }),
            ("vsock:2:4294967295", Address::Vsock { cid: 2, port: u32::MAX }),
            ("fd:vspc.socket", Address::Inherited("vspc.socket".into())),
        ] {
            assert_eq!(listen_address(text), Ok(address), "{text}");
        }
    }

    #[test]
    fn client_ports_are_at_an_address_in_a_folder_or_on_vsock() {
        let folder = SocketFile { path: "/run/consoles".into(), mode: 0o600, owner: None, group: None };
        for (text, place) in [
            ("::1", ClientPlace::Ip("::1".parse().unwrap())),
            ("unix:/run/consoles,mode=0600", ClientPlace::Folder(Arc::new(folder))),
            ("vsock:", ClientPlace::Vsock(ANY_CID)),
            ("vsock:2", ClientPlace::Vsock(2)),
        ] {
            assert_eq!(client_place(text), Ok(place), "{text}");
        }
        for text in ["", "localhost", "unix:run", "vsock:host", "127.0.0.1:50000"] {
            assert!(client_place(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_what_would_be() {
        for (text, words) in [
            ("", "tcp://ADDRESS:PORT"),
            ("10.0.0.5", "tcp://ADDRESS:PORT"),
            ("tcp://localhost:1", "tcp://ADDRESS:PORT"),
            ("tcp://:::1", "in brackets"),
            ("13370", "tcp://ADDRESS:PORT"),
            ("10.0.0.5:65536", "tcp://ADDRESS:PORT"),
            ("udp://10.0.0.5:1", "tcp://ADDRESS:PORT"),
            ("unix:", "whole path"),
            ("unix:vm.sock", "whole path"),
            ("unix:@vm", "whole path"),
            ("/a,mode=rw", "octal"),
            ("/a,owner=no:such", "no user"),
            ("/a,group=no:such", "no group"),
            ("/a,b", "nor part of the path"),
            ("/a,user=root", "\"user=root\""),
            ("vsock:", "vsock:13370"),
            ("vsock:host:1", "vsock:13370"),
            ("vsock:2:3:4", "vsock:13370"),
            ("vsock:4294967296", "vsock:13370"),
            ("fd:", "FileDescriptorName="),
            ("fd:a:b", "FileDescriptorName="),
            ("fd:a b", "FileDescriptorName="),
        ] {
            let why = listen_address(text).unwrap_err();
            assert!(why.contains(words) && !why.contains('\n'), "{text}: {why}");
        }
    }
}
