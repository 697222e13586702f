//! What `load` starts for a run ends with it, in whatever way the run ends.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

#[test]
fn what_a_run_has_started_ends_when_the_run_is_killed() {
    let program = env!("CARGO_BIN_EXE_vspc-conformance");
    let script = format!("'{program}' load bound $$ -- sh -c 'echo up; exec sleep 600' & wait");
    let mut run = Command::new("sh").args(["-c", &script]).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(run.stdout.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    assert_eq!(line, "up\n");
    run.kill().unwrap();
    run.wait().unwrap();
    let (sender, is_over) = channel();
    // It has the other end of this as long as it lives.
    thread::spawn(move || sender.send(said.read_to_end(&mut Vec::new())));
    assert_eq!(is_over.recv_timeout(Duration::from_secs(60)).unwrap().unwrap(), 0);
}
