//! Shells that the guest announces (APPLICATION §3).

use vspc_guest::answer::Done;
use vspc_guest::{Announcement, Code, ControlLine, Header, Name};

use crate::machine::Machine;

const SHELL: &str = "[shell]\ncommand = [\"/bin/sh\"]\nannounce = [\"shell\"]\n";

#[test]
fn an_announced_shell_stays_while_the_line_is_away() {
    let machine = Machine::start(SHELL, &[]);
    let mut host = machine.host();
    let (id, announcement) = host.announced_as("shell");
    let Announcement::Shell { key, .. } = announcement else { panic!("{announcement:?}") };
    host.accept(id);
    host.write(id, b"word=kept; echo ready-$((1 + 1))\n");
    host.until_text(id, "ready-2");
    let control = host.open(&Header::Control { key: key.clone() }.line());
    host.answer::<Done>(control).unwrap();
    host.write(control, &ControlLine::Size { rows: 11, cols: 22 }.line());
    host.write(id, b"stty size\n");
    host.until_text(id, "11 22");
    drop(host);

    let mut host = machine.host();
    let (id, announcement) = host.announced_as("shell");
    assert_eq!(announcement, Announcement::Shell { name: announcement.name().clone(), key });
    host.accept(id);
    host.write(id, b"echo it-is-$word\n");
    host.until_text(id, "it-is-kept");

    // One that has ended is followed by the next.
    host.write(id, b"exit\n");
    host.rest(id);
    host.finish(id);
    let (id, _) = host.announced_as("shell");
    host.accept(id);
    host.write(id, b"echo new-$word-$((1 + 1))\n");
    host.until_text(id, "new--2");
}

#[test]
fn a_shell_has_the_size_that_it_is_told_by_the_name_it_was_announced_as_whatever_comes_first() {
    let machine = Machine::start(SHELL, &[]);
    let mut host = machine.host();
    let (id, announcement) = host.announced_as("shell");
    let window = Header::Window { name: announcement.name().clone() };
    // It waits for the shell, which begins once that is taken.
    let early = host.open(&window.line());
    host.write(early, &ControlLine::Size { rows: 11, cols: 22 }.line());
    let nobody = Header::Window { name: Name::new("log/x").unwrap() };
    assert_eq!(host.refusal(&nobody).code, Code::NO_SUCH_KEY);
    host.accept(id);
    host.answer::<Done>(early).unwrap();
    host.write(id, SIZED.as_bytes());
    host.until_text(id, "sized-2");
    assert_eq!(host.refusal(&window).code, Code::IN_USE);
    drop(host);

    // The shell is there, and another session's host tells it another size.
    let mut host = machine.host();
    let (id, _) = host.announced_as("shell");
    host.accept(id);
    let control = host.open(&window.line());
    host.answer::<Done>(control).unwrap();
    host.write(control, &ControlLine::Size { rows: 33, cols: 44 }.line());
    host.write(id, SIZED.replace("11 22", "33 44").replace("1 + 1", "1 + 2").as_bytes());
    host.until_text(id, "sized-3");
}

/// Waits until the terminal has this size: what is typed may come before that.
const SIZED: &str = "until [ \"$(stty size)\" = '11 22' ]; do sleep 0.05; done; echo sized-$((1 + 1))\n";

#[test]
fn a_shell_that_the_host_gives_up_is_hung_up() {
    let machine = Machine::start(SHELL, &[]);
    let mut host = machine.host();
    let (id, _) = host.announced_as("shell");
    host.accept(id);
    host.write(id, b"echo pid-$$-\n");
    let text = host.until_text(id, "-\r\n");
    let pid = text.rsplit("pid-").next().unwrap().split('-').next().unwrap().to_owned();
    host.session.reset(id).unwrap();
    let place = format!("/proc/{pid}");
    host.until("the end of the shell", |_| (!std::path::Path::new(&place).exists()).then_some(()));
}

#[test]
fn a_shell_that_was_given_up_is_announced_again_once_it_is_over() {
    let machine = Machine::start(SHELL, &[]);
    let mut host = machine.host();
    let (id, _) = host.announced_as("shell");
    host.accept(id);
    host.write(id, b"trap '' HUP; echo deaf-$((1 + 1)); exec sleep 1000\n");
    host.until_text(id, "deaf-2");
    host.session.reset(id).unwrap();
    host.until("the reset to leave", |host| (!host.session.has_output()).then_some(()));
    drop(host);

    let mut host = machine.host();
    let (id, _) = host.announced_as("shell");
    host.accept(id);
    host.write(id, b"echo new-$((1 + 1))\n");
    host.until_text(id, "new-2");
}
