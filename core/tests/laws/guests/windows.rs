//! How large the terminals of announced shells are (operator.md §6).

use std::time::Duration;

use serde_json::{Value, json};
use vspc_core::mux::StreamId;
use vspc_guest::{Code, ControlLine, Header, Name, Refusal, answer};

use super::agent::{Agent, log, shell};
use super::{pass, with_right, world_with_agent};
use crate::operators::client::Operator;
use crate::world::World;

/// An operator's attach with a terminal of so many lines.
fn attach(operator: &mut Operator, world: &mut World, lock: &str, rows: u16) -> u64 {
    attach_to(operator, world, "vm01/shell", lock, rows)
}

fn attach_to(operator: &mut Operator, world: &mut World, console: &str, lock: &str, rows: u16) -> u64 {
    let stream = operator.session.open_announced().unwrap().0;
    let size = size(rows);
    let request = json!({ "op": "attach", "console": console, "stream": stream, "lock": lock, "size": size });
    operator.ok(world, request);
    stream
}

fn size(rows: u16) -> Value {
    json!({ "rows": rows, "cols": 80 })
}

/// The lines of sizes that an agent has heard on a stream, of 80 columns each.
fn sizes(agent: &mut Agent, id: StreamId) -> Vec<u16> {
    let mut rows = Vec::new();
    while let Some(line) = agent.line(id) {
        match ControlLine::parse(&line).unwrap() {
            ControlLine::Size { rows: of, cols: 80 } => rows.push(of),
            other => panic!("{other:?}"),
        }
    }
    rows
}

/// Whether the host has opened a stream of which nothing was heard yet.
fn is_asked(agent: &Agent) -> bool {
    agent.came.iter().any(|(id, came)| !id.is_guests() && !came.is_empty())
}

/// Gives the pause between two sizes.
fn wait(operator: &mut Operator, agent: &mut Agent, world: &mut World) {
    pass(operator, agent, world);
    world.pass(Duration::from_millis(150));
    pass(operator, agent, world);
}

/// A shell is announced; with an operator on `lines` lines, and the stream on which the agent is told.
fn shell_with_window(mux: &str, lines: u16) -> (World, Agent, Operator, u64, StreamId) {
    let (mut world, mut agent) = world_with_agent(mux);
    agent.announce(&shell("shell"));
    agent.pass(&mut world);
    let mut operator = Operator::known(&mut world);
    let stream = attach(&mut operator, &mut world, "free-for-all", lines);
    pass(&mut operator, &mut agent, &mut world);
    let (id, header) = agent.opened();
    assert_eq!(header, Header::Window { name: Name::new("shell").unwrap() });
    agent.say(id, &answer::ok(&answer::Done {}));
    assert_eq!(sizes(&mut agent, id), [lines]);
    (world, agent, operator, stream, id)
}

#[test]
fn a_shell_hears_how_large_the_terminal_is_of_who_is_at_it_and_of_each_change_once() {
    for mux in ["s2", "s2+sl"] {
        let (mut world, mut agent, mut operator, stream, id) = shell_with_window(mux, 50);
        for rows in [50, 60, 60] {
            operator.ok(&mut world, json!({ "op": "resize", "stream": stream, "size": size(rows) }));
            wait(&mut operator, &mut agent, &mut world);
        }
        assert_eq!(sizes(&mut agent, id), [60], "{mux}");
        // A window that is drawn larger has many sizes: the last of them counts.
        for rows in 100..200 {
            operator.ok(&mut world, json!({ "op": "resize", "stream": stream, "size": size(rows) }));
        }
        wait(&mut operator, &mut agent, &mut world);
        let told = sizes(&mut agent, id);
        assert!(told.len() < 10 && told.last() == Some(&199), "{mux}: {told:?}");
        let elsewhere = json!({ "op": "resize", "stream": stream + 40, "size": size(9) });
        assert_eq!(operator.code(&mut world, elsewhere), "no-such-stream");
    }
}

#[test]
fn of_several_who_typed_last_has_the_size_then_who_came_last_and_a_lock_goes_before() {
    let (mut world, mut agent, mut one, first, id) = shell_with_window("s2", 10);
    let mut two = Operator::known(&mut world);
    let second = attach(&mut two, &mut world, "free-for-all", 20);
    wait(&mut two, &mut agent, &mut world);
    assert_eq!(sizes(&mut agent, id), [20], "nobody has typed: the newest");
    one.session.write(StreamId(first), b"ls").unwrap();
    wait(&mut one, &mut agent, &mut world);
    assert_eq!(sizes(&mut agent, id), [10], "the one who types");
    let third = attach(&mut two, &mut world, "free-for-all", 30);
    wait(&mut two, &mut agent, &mut world);
    assert_eq!(sizes(&mut agent, id), [0; 0], "who comes does not disturb who types");
    two.session.write(StreamId(second), b"w").unwrap();
    wait(&mut two, &mut agent, &mut world);
    assert_eq!(sizes(&mut agent, id), [20]);
    for stream in [second, third] {
        two.ok(&mut world, json!({ "op": "lock", "stream": stream, "mode": "read-only" }));
    }
    one.ok(&mut world, json!({ "op": "lock", "stream": first, "mode": "write" }));
    wait(&mut one, &mut agent, &mut world);
    assert_eq!(sizes(&mut agent, id), [10], "who holds the lock");
    two.ok(&mut world, json!({ "op": "resize", "stream": second, "size": size(25) }));
    wait(&mut two, &mut agent, &mut world);
    assert_eq!(sizes(&mut agent, id), [0; 0], "who may only watch has no say");
    let connection = one.id;
    world.reset(connection);
    two.ok(&mut world, json!({ "op": "lock", "stream": second, "mode": "free-for-all" }));
    wait(&mut two, &mut agent, &mut world);
    assert_eq!(sizes(&mut agent, id), [25], "who is left");
}

#[test]
fn a_terminal_that_answers_a_program_does_not_seem_to_type() {
    let (mut world, mut agent, mut one, first, id) = shell_with_window("s2", 10);
    let mut two = Operator::known(&mut world);
    let second = attach(&mut two, &mut world, "free-for-all", 20);
    wait(&mut two, &mut agent, &mut world);
    one.session.write(StreamId(first), b"vi\r").unwrap();
    wait(&mut one, &mut agent, &mut world);
    assert_eq!(sizes(&mut agent, id), [20, 10]);
    for answer in [&b"\x1b[?62;1c"[..], b"\x1b[5;1R\x1b[0n", b"\x1b]11;rgb:00/00/00\x07", b"\x1bP1$r0m\x1b\\"]
    {
        one.session.write(StreamId(first), answer).unwrap();
        two.session.write(StreamId(second), answer).unwrap();
        wait(&mut one, &mut agent, &mut world);
        wait(&mut two, &mut agent, &mut world);
        assert_eq!(sizes(&mut agent, id), [0; 0], "{answer:?}");
    }
    two.session.write(StreamId(second), b"\x1b[A").unwrap();
    wait(&mut two, &mut agent, &mut world);
    assert_eq!(sizes(&mut agent, id), [20], "a key is no answer");
}

#[test]
fn who_may_only_watch_never_sizes_a_shell() {
    let mut world = World::new(with_right("spectator"));
    let vm = world.vm(super::agent::vm_with_streams(1, "s2"));
    let mut agent = Agent::new(&world, vm, 9);
    agent.pass(&mut world);
    agent.announce(&shell("shell"));
    agent.pass(&mut world);
    let mut operator = Operator::known(&mut world);
    let stream = attach(&mut operator, &mut world, "read-only", 50);
    operator.ok(&mut world, json!({ "op": "resize", "stream": stream, "size": size(60) }));
    wait(&mut operator, &mut agent, &mut world);
    assert!(!is_asked(&agent), "{:?}", agent.came);
    world.change(&with_right("writer"));
    operator.ok(&mut world, json!({ "op": "lock", "stream": stream, "mode": "free-for-all" }));
    wait(&mut operator, &mut agent, &mut world);
    let (id, _) = agent.opened();
    assert_eq!(sizes(&mut agent, id), [60]);
}

#[test]
fn the_next_shell_of_a_name_and_that_of_a_guest_that_comes_back_are_as_large() {
    let (mut world, mut agent, mut operator, _, id) = shell_with_window("s2", 50);
    let first = agent.came.keys().copied().find(|id| id.is_guests()).unwrap();
    agent.session.finish(first).unwrap();
    pass(&mut operator, &mut agent, &mut world);
    assert!(agent.reset.contains(&id), "the stream of sizes outlives its shell");
    agent.announce(&shell("shell"));
    wait(&mut operator, &mut agent, &mut world);
    let (next, header) = agent.opened();
    assert_eq!(header.op(), "window");
    assert_eq!(sizes(&mut agent, next), [50]);
    let vm = agent.vm;
    world.reset(vm);
    let vm = world.vm(super::agent::vm_with_streams(1, "s2"));
    let mut agent = Agent::new(&world, vm, 12);
    agent.pass(&mut world);
    agent.announce(&shell("shell"));
    wait(&mut operator, &mut agent, &mut world);
    let (again, _) = agent.opened();
    assert_eq!(sizes(&mut agent, again), [50]);
}

#[test]
fn a_shell_that_is_sent_away_takes_its_stream_of_sizes_with_it() {
    let (mut world, mut agent, mut operator, _, id) = shell_with_window("s2", 50);
    let main = agent.came.keys().copied().find(|id| id.is_guests()).unwrap();
    world.change(&with_right("operator"));
    let who = operator.ok(&mut world, json!({ "op": "who", "console": "vm01/shell" }));
    operator.ok(&mut world, json!({ "op": "kick", "client": who["legs"][0]["id"] }));
    pass(&mut operator, &mut agent, &mut world);
    assert!(agent.reset.contains(&main), "the shell goes on");
    assert!(agent.reset.contains(&id), "the stream of sizes outlives its shell");
    agent.announce(&shell("shell"));
    wait(&mut operator, &mut agent, &mut world);
    let (next, header) = agent.opened();
    assert_eq!(header.op(), "window");
    assert_eq!(sizes(&mut agent, next), [50]);
}

#[test]
fn a_shell_that_nobody_looks_at_has_no_stream_of_sizes_and_who_comes_next_has_another() {
    for mux in ["s2", "s2+sl"] {
        let (mut world, mut agent, mut operator, stream, id) = shell_with_window(mux, 50);
        let mut other = Operator::known(&mut world);
        attach(&mut other, &mut world, "free-for-all", 20);
        wait(&mut other, &mut agent, &mut world);
        assert_eq!(sizes(&mut agent, id), [20], "{mux}");
        let connection = other.id;
        world.reset(connection);
        wait(&mut operator, &mut agent, &mut world);
        assert_eq!(sizes(&mut agent, id), [50], "{mux}: somebody is there");
        assert!(!agent.reset.contains(&id), "{mux}: somebody is there");
        operator.session.reset(StreamId(stream)).unwrap();
        wait(&mut operator, &mut agent, &mut world);
        assert!(agent.reset.contains(&id), "{mux}: nobody is there");
        agent.heard(id);
        attach(&mut operator, &mut world, "free-for-all", 50);
        wait(&mut operator, &mut agent, &mut world);
        let (next, header) = agent.opened();
        assert_eq!(header.op(), "window");
        assert_eq!(sizes(&mut agent, next), [50], "{mux}: whatever the one before was told");
    }
}

#[test]
fn whoever_leaves_before_a_shell_has_answered_how_it_takes_sizes_the_answer_counts() {
    let answers = [answer::ok(&answer::Done {}), Refusal::new(Code::UNSUPPORTED, "a window?").line()];
    for (is_refused, line) in [false, true].into_iter().zip(answers) {
        let (mut world, mut agent) = world_with_agent("s2");
        agent.announce(&shell("shell"));
        agent.pass(&mut world);
        let mut operator = Operator::known(&mut world);
        let stream = attach(&mut operator, &mut world, "free-for-all", 50);
        pass(&mut operator, &mut agent, &mut world);
        let (id, _) = agent.opened();
        operator.session.reset(StreamId(stream)).unwrap();
        wait(&mut operator, &mut agent, &mut world);
        assert!(!agent.reset.contains(&id), "it was not answered");
        agent.say(id, &line);
        if is_refused {
            agent.session.finish(id).unwrap();
        }
        wait(&mut operator, &mut agent, &mut world);
        assert_eq!((agent.reset.contains(&id), agent.ended.contains(&id)), (!is_refused, is_refused));
        agent.heard(id);
        attach(&mut operator, &mut world, "free-for-all", 40);
        wait(&mut operator, &mut agent, &mut world);
        assert_eq!(is_asked(&agent), !is_refused, "{:?}", agent.came);
    }
}

#[test]
fn an_agent_that_knows_no_sizes_is_asked_once_for_each_shell_and_all_else_goes_on() {
    let (mut world, mut agent) = world_with_agent("s2");
    let main = agent.announce(&shell("shell"));
    agent.pass(&mut world);
    let mut operator = Operator::known(&mut world);
    let stream = attach(&mut operator, &mut world, "free-for-all", 50);
    pass(&mut operator, &mut agent, &mut world);
    let (id, _) = agent.opened();
    agent.say(id, &Refusal::new(Code::UNSUPPORTED, "what is a window?").line());
    agent.session.finish(id).unwrap();
    pass(&mut operator, &mut agent, &mut world);
    assert!(agent.ended.contains(&id));
    for rows in 60..70 {
        operator.ok(&mut world, json!({ "op": "resize", "stream": stream, "size": size(rows) }));
        wait(&mut operator, &mut agent, &mut world);
    }
    agent.heard(id);
    assert!(!is_asked(&agent), "it is asked again: {:?}", agent.came);
    agent.heard(main);
    operator.session.write(StreamId(stream), b"ls\r").unwrap();
    pass(&mut operator, &mut agent, &mut world);
    assert_eq!(agent.heard(main), "ls\r");
    // Nor by who comes when nobody is there any more.
    let connection = operator.id;
    world.reset(connection);
    wait(&mut operator, &mut agent, &mut world);
    let mut operator = Operator::known(&mut world);
    attach(&mut operator, &mut world, "free-for-all", 40);
    wait(&mut operator, &mut agent, &mut world);
    assert!(!is_asked(&agent), "it is asked again: {:?}", agent.came);
}

#[test]
fn a_guest_that_takes_no_sizes_has_no_more_than_one_kept_for_it_and_then_the_newest() {
    let (mut world, mut agent, mut operator, stream, id) = shell_with_window("s2", 50);
    agent.stalled.push(id);
    for rows in 100..3000 {
        operator.ok(&mut world, json!({ "op": "resize", "stream": stream, "size": size(rows) }));
        world.pass(Duration::from_millis(110));
        pass(&mut operator, &mut agent, &mut world);
    }
    agent.stalled.clear();
    agent.take(id);
    wait(&mut operator, &mut agent, &mut world);
    wait(&mut operator, &mut agent, &mut world);
    let told = sizes(&mut agent, id);
    // The agent's window holds 16 KiB, which are some 700 lines.
    assert!(told.len() < 800, "{} lines were kept", told.len());
    assert_eq!(told.last(), Some(&2999));
}

#[test]
fn sizes_told_at_a_log_or_at_a_console_of_no_guest_do_nothing() {
    let (mut world, mut agent) = world_with_agent("s2");
    agent.announce(&log("log/messages"));
    agent.pass(&mut world);
    let mut operator = Operator::known(&mut world);
    attach_to(&mut operator, &mut world, "vm01/log/messages", "free-for-all", 50);
    attach_to(&mut operator, &mut world, "vm01", "free-for-all", 50);
    wait(&mut operator, &mut agent, &mut world);
    assert!(!is_asked(&agent), "{:?}", agent.came);
}
