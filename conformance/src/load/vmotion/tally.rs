//! What happened in a vMotion run.

use std::collections::VecDeque;

use crate::load::stats::Samples;

/// Counts and latencies of all consoles.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) begun: u64,
    pub(super) completed: u64,
    pub(super) aborted: u64,
    pub(super) refused: u64,
    pub(super) given_up: u64,
    pub(super) timed_out: u64,
    /// From VMOTION-BEGIN sent until VMOTION-GOAHEAD read.
    pub(super) goahead: Samples,
    /// From VMOTION-PEER sent until VMOTION-PEER-OK read.
    pub(super) peer_ok: Samples,
    /// From VMOTION-BEGIN until VMOTION-COMPLETE: how long the guest stood still.
    pub(super) downtime: Samples,
    /// Bytes that were sent to a connection that had no right to them.
    pub(super) misdirected: u64,
    /// What VMs are to do next, oldest first: done one at a time, so that an answer that lies in a socket is
    /// not made to look late by what another VM's host does.
    pub(super) due: VecDeque<Due>,
    problems: Vec<String>,
    more: u64,
}

/// A host's next step in a move of this VM.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Due {
    /// GOAHEAD is in: the target connects.
    Dial(usize),
    /// PEER-OK is in: the source ends, the target completes.
    Arrive(usize),
}

impl Tally {
    /// Something is not as it must be; the first few are kept in words.
    pub(super) fn problem(&mut self, problem: String) {
        if self.problems.len() < KEPT {
            self.problems.push(problem);
        } else {
            self.more += 1;
        }
    }

    /// All of them.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut all = self.problems.clone();
        if self.more > 0 {
            all.push(format!("and {} more of that kind", self.more));
        }
        all
    }

    pub(super) fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }
}

/// Problems told in words.
const KEPT: usize = 8;
