//! The task that serves a socket, as the socket's owner knows it.

use std::task::{Context, Waker};

/// A socket's task, once it has run. It is woken when its socket is dropped, too, so that it finds out.
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

    /// What wakes the task, for a reactor.
    pub(crate) fn context(&self) -> Option<Context<'_>> {
        self.0.as_ref().map(Context::from_waker)
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.wake();
    }
}
