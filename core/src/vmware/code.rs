//! The suboption codes of option 232, and their names for people.
//!
//! **Owns** the numbers: an unknown one is kept, compared and answered like any other. **Refuses to know**
//! what a code carries. **Implements** vmware.md §2.

use std::fmt;

use crate::telnet::Opt;

/// The telnet option under which all of this travels (vmware.md §2).
pub const VMWARE_TELNET_EXT: Opt = Opt(232);

/// What a subnegotiation of option 232 is about: its first byte.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code(pub u8);

impl Code {
    /// VM: the codes it can send or take.
    pub const KNOWN_SUBOPTIONS_1: Self = Self(0);
    /// Proxy: the codes it can send or take.
    pub const KNOWN_SUBOPTIONS_2: Self = Self(1);
    /// VM: a code it did not know.
    pub const UNKNOWN_SUBOPTION_RCVD_1: Self = Self(2);
    /// Proxy: a code it does not support.
    pub const UNKNOWN_SUBOPTION_RCVD_2: Self = Self(3);
    /// Source host: the VM is about to move.
    pub const VMOTION_BEGIN: Self = Self(40);
    /// Proxy: go ahead.
    pub const VMOTION_GOAHEAD: Self = Self(41);
    /// Proxy: not now.
    pub const VMOTION_NOTNOW: Self = Self(43);
    /// Target host: "I am that VM".
    pub const VMOTION_PEER: Self = Self(44);
    /// Proxy: it is.
    pub const VMOTION_PEER_OK: Self = Self(45);
    /// Target host: the VM now runs here.
    pub const VMOTION_COMPLETE: Self = Self(46);
    /// Source host: the move has failed.
    pub const VMOTION_ABORT: Self = Self(48);
    /// VM: how its clients reach it.
    pub const DO_PROXY: Self = Self(70);
    /// Proxy: agreed.
    pub const WILL_PROXY: Self = Self(71);
    /// Proxy: refused.
    pub const WONT_PROXY: Self = Self(73);
    /// VM: its UUID in vCenter.
    pub const VM_VC_UUID: Self = Self(80);
    /// Proxy: asks for it.
    pub const GET_VM_VC_UUID: Self = Self(81);
    /// VM: its display name.
    pub const VM_NAME: Self = Self(82);
    /// Proxy: asks for it.
    pub const GET_VM_NAME: Self = Self(83);
    /// VM: its SMBIOS UUID.
    pub const VM_BIOS_UUID: Self = Self(84);
    /// Proxy: asks for it.
    pub const GET_VM_BIOS_UUID: Self = Self(85);
    /// VM: its location UUID.
    pub const VM_LOCATION_UUID: Self = Self(86);
    /// Proxy: asks for it.
    pub const GET_VM_LOCATION_UUID: Self = Self(87);

    /// The code's name as in the vendor's document, or `None` for a code that is not in it.
    pub const fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::KNOWN_SUBOPTIONS_1 => "KNOWN-SUBOPTIONS-1",
            Self::KNOWN_SUBOPTIONS_2 => "KNOWN-SUBOPTIONS-2",
            Self::UNKNOWN_SUBOPTION_RCVD_1 => "UNKNOWN-SUBOPTION-RCVD-1",
            Self::UNKNOWN_SUBOPTION_RCVD_2 => "UNKNOWN-SUBOPTION-RCVD-2",
            Self::VMOTION_BEGIN => "VMOTION-BEGIN",
            Self::VMOTION_GOAHEAD => "VMOTION-GOAHEAD",
            Self::VMOTION_NOTNOW => "VMOTION-NOTNOW",
            Self::VMOTION_PEER => "VMOTION-PEER",
            Self::VMOTION_PEER_OK => "VMOTION-PEER-OK",
            Self::VMOTION_COMPLETE => "VMOTION-COMPLETE",
            Self::VMOTION_ABORT => "VMOTION-ABORT",
            Self::DO_PROXY => "DO-PROXY",
            Self::WILL_PROXY => "WILL-PROXY",
            Self::WONT_PROXY => "WONT-PROXY",
            Self::VM_VC_UUID => "VM-VC-UUID",
            Self::GET_VM_VC_UUID => "GET-VM-VC-UUID",
            Self::VM_NAME => "VM-NAME",
            Self::GET_VM_NAME => "GET-VM-NAME",
            Self::VM_BIOS_UUID => "VM-BIOS-UUID",
            Self::GET_VM_BIOS_UUID => "GET-VM-BIOS-UUID",
            Self::VM_LOCATION_UUID => "VM-LOCATION-UUID",
            Self::GET_VM_LOCATION_UUID => "GET-VM-LOCATION-UUID",
            _ => return None,
        })
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.pad(name),
            None => write!(f, "code {}", self.0),
        }
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_print_their_names_and_unknown_ones_their_numbers() {
        assert_eq!(format!("{:?}", Code::VMOTION_PEER_OK), "VMOTION-PEER-OK");
        assert_eq!(Code(99).to_string(), "code 99");
        assert_eq!((0..=255).filter(|&code| Code(code).name().is_some()).count(), 22);
    }
}
