//! What a concentrator's counts count, in words for who reads `/metrics`.

/// What the count of this name is of, without the full stop. Servers may have counts that are newer than
/// this.
pub(super) fn help(name: &str) -> Option<&'static str> {
    HELP.iter().find(|(of, _)| *of == name).map(|(_, help)| *help)
}

/// Bytes are a guest's, with no byte doubled for telnet, where it is not said otherwise.
const HELP: &[(&str, &str)] = &[
    ("bytes_from_vm", "Bytes that VMs have printed"),
    ("bytes_to_clients", "Bytes that sockets of clients have taken, each client counted, as they were sent"),
    ("bytes_from_clients", "Bytes that clients have typed"),
    ("bytes_to_vm", "Bytes that sockets of VMs have taken, as they were sent"),
    ("bytes_skipped", "Bytes of output that readers have missed because they did not keep up"),
    ("input_dropped", "Bytes typed that were dropped, for want of a VM or because of another client's lock"),
    (
        "input_lost",
        "Bytes typed that waited for a VM whose connection ended without a move, as they were to be sent",
    ),
    ("late_source_bytes", "Bytes dropped that a host has sent after its VM had moved away"),
    ("early_bytes_dropped", "Bytes dropped of VMs that said too much before they said who they are"),
    ("legs_beyond", "Connections put aside because their console had as many as it may have"),
    ("takeovers", "Times that a connection of a VM took the input from another"),
    ("malformed", "Breaches of a protocol by whoever connects"),
    ("replies_dropped", "Replies not sent because the other side does not read"),
    ("breaks", "Breaks passed on to VMs"),
    ("clients_too_slow", "Clients disconnected because they did not keep up"),
    ("vmotions_begun", "Moves of VMs that were taken up (VMOTION-BEGIN)"),
    ("vmotions_completed", "Moves of VMs that arrived (VMOTION-COMPLETE)"),
    ("vmotions_aborted", "Moves of VMs that their hosts ended, or replaced by another"),
    ("vmotions_refused", "Moves of VMs that were put off (NOTNOW)"),
    ("vmotions_timed_out", "Moves of VMs that ended because nothing more was heard of them"),
    ("vmotion_bad_peers", "Hosts that claimed a move of which nothing was known"),
    ("goaheads", "Times that a host was told to go ahead with a move (GOAHEAD)"),
    ("goahead_micros", "Microseconds from VMOTION-BEGIN until GOAHEAD was sent, of all moves together"),
];
