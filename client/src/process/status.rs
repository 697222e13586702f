//! How a process in a guest has ended, as a shell sees it (vspc.md, "exec").
//!
//! Owns the codes: those of the process, and those that say that it has not run.

use signal_hook::consts::{SIGHUP, SIGQUIT, SIGTERM};
use vspc_guest::{Code as Word, Ending, Refusal};

use crate::failure::{Code, Failure};

/// The outcome of a command whose process has ended so.
pub(super) fn of(ending: &Ending) -> Result<(), Failure> {
    let status = match ending {
        Ending::Exit(0) => return Ok(()),
        Ending::Exit(status) => *status,
        Ending::Killed(signal) => {
            let numbered = signal.parse().ok();
            let named = || SIGNALS.iter().find(|(name, _)| name == signal).map(|(_, number)| *number);
            // One without a number here is told from an end by itself all the same.
            KILLED | numbered.or_else(named).unwrap_or(0) & 0x7f
        }
    };
    Err(Failure::new(Code::Status(status), ""))
}

/// The code of a process that the guest does not start.
pub(super) fn refused(refusal: &Refusal) -> Code {
    if refusal.code == Word::NO_SUCH_FILE {
        Code::NoSuchProgram
    } else if [Word::NOT_ALLOWED, Word::DENIED, Word::NOT_A_FILE].contains(&refusal.code) {
        Code::CannotRun
    } else {
        Code::NotRun
    }
}

/// A failure of this program: the process's own codes are told from it.
pub(super) fn not_run(mut failure: Failure) -> Failure {
    if !matches!(
        failure.code,
        Code::Usage | Code::Status(_) | Code::NotRun | Code::CannotRun | Code::NoSuchProgram
    ) {
        failure.code = Code::NotRun;
    }
    failure
}

/// The name of a signal that this program passes on.
pub(super) fn name(signal: i32) -> String {
    let name = match signal {
        SIGHUP => "HUP",
        SIGQUIT => "QUIT",
        SIGTERM => "TERM",
        _ => "INT",
    };
    name.to_owned()
}

/// The status of a process that nobody reads any more: as of one that SIGPIPE has ended.
pub(super) const UNREAD: u8 = KILLED | 13;
/// What a shell adds to a signal's number.
const KILLED: u8 = 128;
/// Numbers of Linux, which agents run on.
const SIGNALS: [(&str, u8); 19] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("WINCH", 28),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_the_processs_own_and_a_signal_is_added_to_128() {
        let number = |ending| of(&ending).map_err(|failure| failure.code.number());
        assert_eq!(number(Ending::Exit(0)), Ok(()));
        assert_eq!(number(Ending::Exit(7)), Err(7));
        assert_eq!(number(Ending::Killed("TERM".to_owned())), Err(143));
        assert_eq!(number(Ending::Killed("40".to_owned())), Err(168));
        assert_eq!(number(Ending::Killed("NEW".to_owned())), Err(128));
    }

    #[test]
    fn what_has_not_run_has_codes_as_of_env_and_wrong_use_its_own() {
        let code = |word| refused(&Refusal::new(word, "")).number();
        assert_eq!([Word::NO_SUCH_FILE, Word::DENIED, Word::TOO_MANY].map(code), [127, 126, 125]);
        assert_eq!(not_run(Failure::no_connection("")).code.number(), 125);
        assert_eq!(not_run(Failure::usage("")).code.number(), 2);
        assert_eq!(not_run(Failure::new(Code::Status(4), "")).code.number(), 4);
    }
}
