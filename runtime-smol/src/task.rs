//! A task that lasts, as those who wake it know it.

use std::task::{Context, Waker};

/// A task, once it has run.
#[derive(Debug, Default)]
pub(crate) struct Task(Option<Waker>);

impl Task {
    /// Remembers the task that runs now.
    pub(crate) fn set(&mut self, cx: &Context<'_>) {
        if self.0.is_none() {
            self.0 = Some(cx.waker().clone());
        }
    }

    /// Has the task run again. One that has not run yet is going to.
    pub(crate) fn wake(&self) {
        if let Some(waker) = &self.0 {
            waker.wake_by_ref();
        }
    }
}
