//! The UUID of a line that has none of its own: always the same for the same place on the same machine.

use std::fs;
use std::path::Path;

use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use vspc_core::vmware::Uuid;

/// A name-based UUID (RFC 9562 §5.5), in the machine's name space (machine-id(5)). `None`: this machine has
/// no id.
pub(crate) fn uuid_of(place: &str) -> Option<Uuid> {
    let machine = fs::read(Path::new(MACHINE_ID)).ok()?;
    Some(name_based(&Uuid::parse(&machine).ok()?, place))
}

fn name_based(space: &Uuid, name: &str) -> Uuid {
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, &[space.as_bytes(), name.as_bytes()].concat());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.as_ref()[..16]);
    bytes[6] = bytes[6] & 0x0F | 0x50;
    bytes[8] = bytes[8] & 0x3F | 0x80;
    Uuid::from_bytes(bytes)
}

const MACHINE_ID: &str = "/etc/machine-id";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_uuid_of_the_rfcs_example() {
        // RFC 9562 §A.4: the name space of DNS, "www.example.com".
        let dns = Uuid::parse(b"6ba7b810-9dad-11d1-80b4-00c04fd430c8").unwrap();
        let uuid = name_based(&dns, "www.example.com");
        assert_eq!(uuid.to_string(), "2ed6657d-e927-568b-95e1-2665a8aea6a2");
    }
}
