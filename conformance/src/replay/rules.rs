//! The rules of docs/protocol as a table, one line each. Who keeps them is for `check` to find out.

use super::dialogue::By;

/// A rule that one side has to keep.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Rule {
    /// A short name, for machines.
    pub id: &'static str,
    /// Who has to keep it.
    pub of: By,
    /// Where it stands in docs/protocol.
    pub section: &'static str,
    /// What breaking it means.
    pub text: &'static str,
}

macro_rules! rules {
    ($($name:ident: $of:ident $section:literal $id:literal $text:literal;)*) => {
        $(
            #[doc = $text]
            pub(crate) const $name: Rule = Rule { id: $id, of: By::$of, section: $section, text: $text };
        )*
    };
}

rules! {
    // Telnet, either side.
    VM_MALFORMED: Vm "telnet.md §2" "malformed-telnet" "malformed telnet";
    PROXY_MALFORMED: Proxy "telnet.md §2" "malformed-telnet" "malformed telnet";
    VM_CUT: Vm "telnet.md §2" "ends-in-command" "the connection was closed inside a command";
    PROXY_CUT: Proxy "telnet.md §2" "ends-in-command" "the connection was closed inside a command";
    VM_REPEATS: Vm "telnet.md §3" "negotiation-repeated" "asks for or offers what it has already";
    PROXY_REPEATS: Proxy "telnet.md §3" "negotiation-repeated" "asks for or offers what it has already";
    VM_SILENT: Vm "telnet.md §3" "negotiation-unanswered" "a WILL or DO was never answered";
    PROXY_SILENT: Proxy "telnet.md §3" "negotiation-unanswered" "a WILL or DO was never answered";

    // The extension, either side.
    VM_EARLY: Vm "vmware.md §3" "extension-not-agreed" "a message of the extension before WILL 232";
    PROXY_EARLY: Proxy "vmware.md §3" "extension-not-agreed"
        "a message of the extension before the VM's WILL 232";
    VM_WRONG_ROLE: Vm "vmware.md §2" "wrong-role" "a message that only the proxy may send";
    PROXY_WRONG_ROLE: Proxy "vmware.md §2" "wrong-role" "a message that only the VM may send";
    PROXY_UNKNOWN_CODE: Proxy "vmware.md §2" "unknown-code" "a code that is in no document";
    VM_EMPTY: Vm "vmware.md §2" "no-code" "a message of the extension without a code";
    PROXY_EMPTY: Proxy "vmware.md §2" "no-code" "a message of the extension without a code";
    VM_DENIES: Vm "vmware.md §2" "denied-unasked"
        "UNKNOWN-SUBOPTION-RCVD-1 for a code that the proxy did not send";
    PROXY_DENIES: Proxy "vmware.md §2" "denied-unasked"
        "UNKNOWN-SUBOPTION-RCVD-2 for a code that the VM did not send";
    PROXY_DENIES_KNOWN: Proxy "vmware.md §2" "denied-known"
        "UNKNOWN-SUBOPTION-RCVD-2 for a code that it had listed as known";
    PROXY_IGNORES: Proxy "vmware.md §2" "unknown-unanswered"
        "a code it does not know was not answered with UNKNOWN-SUBOPTION-RCVD-2";
    VM_LIST_CHANGED: Vm "vmware.md §2" "list-changed" "KNOWN-SUBOPTIONS-1 differs from the one before";
    PROXY_NO_LIST: Proxy "vmware.md §3" "list-missing" "KNOWN-SUBOPTIONS-2 was not sent after WILL 232";
    PROXY_LATE_LIST: Proxy "vmware.md §3" "list-late" "another message was sent before KNOWN-SUBOPTIONS-2";

    // Service and identity.
    VM_BAD_SERVICE: Vm "vmware.md §2" "bad-do-proxy" "DO-PROXY without direction S or C";
    PROXY_ANSWERS_NOTHING: Proxy "vmware.md §2" "proxy-unasked" "WILL-PROXY or WONT-PROXY without DO-PROXY";
    PROXY_NO_ANSWER: Proxy "vmware.md §2" "do-proxy-unanswered" "DO-PROXY was not answered";
    VM_BAD_UUID: Vm "vmware.md §2" "bad-uuid" "a UUID that is not 16 pairs of hex digits";
    VM_NEW_UUID: Vm "vmware.md §2" "uuid-changed" "another UUID than before on the same connection";
    PROXY_CLOSES: Proxy "vmware.md §4" "closed-vm"
        "the connection of a VM that had said who it is was closed";

    // vMotion.
    VM_BEGIN_UNKNOWN: Vm "vmotion.md §5" "begin-before-identity" "VMOTION-BEGIN before the VM said who it is";
    VM_BEGIN_TARGET: Vm "vmotion.md §5" "begin-on-target"
        "VMOTION-BEGIN or ABORT on a target that has not completed";
    VM_ABORT: Vm "vmotion.md §5" "abort-without-begin"
        "VMOTION-ABORT on a connection without a move under way";
    VM_PEER: Vm "vmotion.md §5" "peer-unmatched" "VMOTION-PEER that fits no move under way";
    VM_PEER_SOURCE: Vm "vmotion.md §5" "peer-on-source"
        "VMOTION-PEER on a connection that sent VMOTION-BEGIN";
    VM_COMPLETE: Vm "vmotion.md §5" "complete-unmatched"
        "VMOTION-COMPLETE without an accepted VMOTION-PEER of this sequence";
    VM_LATE_DATA: Vm "vmotion.md §3" "data-after-complete" "serial data on the source after VMOTION-COMPLETE";
    PROXY_GOAHEAD: Proxy "vmware.md §2" "goahead-unasked" "VMOTION-GOAHEAD that answers no VMOTION-BEGIN";
    PROXY_NOTNOW: Proxy "vmware.md §2" "notnow-unasked" "VMOTION-NOTNOW that answers no VMOTION-BEGIN";
    PROXY_NO_SECRET: Proxy "vmware.md §2" "goahead-without-secret" "VMOTION-GOAHEAD without a secret";
    PROXY_BEGIN_SILENT: Proxy "vmotion.md §4" "begin-unanswered" "VMOTION-BEGIN was not answered within 5 s";
    PROXY_PEER_OK: Proxy "vmware.md §2" "peer-ok-unmatched"
        "VMOTION-PEER-OK without a VMOTION-PEER that fits";
    PROXY_PEER_OK_LONG: Proxy "vmotion.md §2" "peer-ok-long" "VMOTION-PEER-OK carries more than the sequence";
    PROXY_PEER_SILENT: Proxy "vmotion.md §4" "peer-unanswered"
        "a VMOTION-PEER that fits was not answered within 5 s";
    PROXY_DATA_SOURCE: Proxy "vmotion.md §3" "data-to-source" "data sent to the source after VMOTION-GOAHEAD";
    PROXY_DATA_TARGET: Proxy "vmotion.md §3" "data-to-target"
        "data sent to the target before VMOTION-COMPLETE";
}
