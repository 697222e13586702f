//! The report as one JSON object.

use serde_json::{Value, json};

use super::identity;
use super::moves::Tally;
use super::report::{Line, Report, Verdict, Vm};

/// The whole report.
#[must_use]
pub(super) fn of(report: &Report) -> Value {
    let notes = |list: &[(u64, String)]| -> Vec<Value> {
        list.iter().map(|(frame, what)| json!({ "frame": frame, "what": what })).collect()
    };
    let apart = report.apart.iter().map(|apart| {
        json!({
            "peer": apart.vm,
            "first_frame": apart.frames.0,
            "last_frame": apart.frames.1,
            "bytes": apart.bytes,
            "violations": lines(&apart.violations),
        })
    });
    json!({
        "capture": report.capture,
        "frames": report.frames,
        "cut_short": report.broken,
        "notes": report.remarks,
        "vms": report.vms.iter().map(vm).collect::<Vec<_>>(),
        "unidentified": apart.collect::<Vec<_>>(),
        "differences": notes(&report.differences),
        "failures": notes(&report.failures),
        "ok": report.is_good(),
    })
}

fn vm(vm: &Vm) -> Value {
    let conns = vm
        .conns
        .iter()
        .map(|(peer, first, last)| json!({ "peer": peer, "first_frame": first, "last_frame": last }));
    json!({
        "uuid": identity::dashed(&vm.uuid),
        "uri": if vm.uri.is_empty() { Value::Null } else { json!(vm.uri) },
        "name": vm.name,
        "connections": conns.collect::<Vec<_>>(),
        "vmotions": { "captured": tally(vm.captured), "replayed": tally(vm.replayed) },
        "bytes_from_vm": vm.bytes,
        "late_source_bytes": vm.late,
        "client": client(vm.client),
        "bytes_typed": vm.typed.0,
        "bytes_typed_received": vm.typed.1,
        "malformed": vm.malformed,
        "violations": lines(&vm.violations),
    })
}

fn tally(tally: Tally) -> Value {
    json!({
        "begun": tally.begun,
        "completed": tally.completed,
        "aborted": tally.aborted,
        "refused": tally.refused,
        "unfinished": tally.unfinished,
    })
}

fn client(verdict: Verdict) -> Value {
    match verdict {
        Verdict::Exact { from } => json!({ "exact": true, "from": from }),
        Verdict::Differs { saw, at, frame } => {
            json!({ "exact": false, "saw": saw, "first_difference": at, "frame": frame })
        }
        Verdict::NoClient => json!({ "exact": false, "saw": 0 }),
    }
}

fn lines(lines: &[Line]) -> Vec<Value> {
    let line = |line: &Line| {
        json!({
            "by": line.by.to_string(),
            "frame": line.frame,
            "rule": line.rule.0,
            "section": line.rule.1,
            "text": line.rule.2,
            "detail": line.detail,
        })
    };
    lines.iter().map(line).collect()
}
