//! What happened in a vMotion run.

use std::collections::VecDeque;

use crate::load::stats::Samples;

/// Counts and latencies of all consoles.
#[derive(Debug, Default)]
pub(in crate::load) struct Tally {
    pub(in crate::load) begun: u64,
    pub(in crate::load) completed: u64,
    pub(in crate::load) aborted: u64,
    pub(in crate::load) refused: u64,
    pub(in crate::load) given_up: u64,
    pub(in crate::load) timed_out: u64,
    /// From VMOTION-BEGIN sent until VMOTION-GOAHEAD read.
    pub(in crate::load) goahead: Samples,
    /// From VMOTION-PEER sent until VMOTION-PEER-OK read.
    pub(in crate::load) peer_ok: Samples,
    /// From VMOTION-BEGIN until VMOTION-COMPLETE: how long the guest stood still.
    pub(in crate::load) downtime: Samples,
    /// Bytes that were sent to a connection that had no right to them.
    pub(in crate::load) misdirected: u64,
    /// What VMs are to do next, oldest first: done one at a time, so that an answer that lies in a socket is
    /// not made to look late by what another VM's host does.
    pub(in crate::load) due: VecDeque<Due>,
    problems: Vec<String>,
    more: u64,
}

/// A host's next step in a move of this VM.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::load) enum Due {
    /// GOAHEAD is in: the target connects.
    Dial(usize),
    /// PEER-OK is in: the source ends, the target completes.
    Arrive(usize),
}

impl Tally {
    /// Something is not as it must be; the first few are kept in words.
    pub(in crate::load) fn problem(&mut self, problem: String) {
        if self.problems.len() < KEPT {
            self.problems.push(problem);
        } else {
            self.more += 1;
        }
    }

    /// All of them.
    pub(in crate::load) fn problems(&self) -> Vec<String> {
        let mut all = self.problems.clone();
        if self.more > 0 {
            all.push(format!("and {} more of that kind", self.more));
        }
        all
    }

    pub(in crate::load) fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }
}

/// Problems told in words.
const KEPT: usize = 8;
