//! Says again and again that the scratch directory of a job is watched here.
//!
//! Must not live here: the watch itself (`snapshot::scratch`), what the guard does without it (`recovery::guard`).

use std::cell::RefCell;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use super::guard::Guard;
use super::order::{Answer, Order, Scratch};

/// How often it is said: several times in what the guard waits for it.
const EVERY: Duration = Duration::from_millis(200);

/// The beats of one job's watch.
pub(crate) struct Beats<'a> {
    guard: &'a Guard,
    id: String,
    scratch: Scratch,
    last: RefCell<Option<(Instant, Receiver<Answer>)>>,
}

impl<'a> Beats<'a> {
    /// Nothing is said yet.
    pub(crate) fn new(guard: &'a Guard, id: String, scratch: Scratch) -> Self {
        Self { guard, id, scratch, last: RefCell::default() }
    }

    /// Says it, if it is time. Waits for no answer, and says nothing while one is still to come: a guard that hangs holds up
    /// no watch.
    pub(crate) fn beat(&self) {
        let mut last = self.last.borrow_mut();
        if last.as_ref().is_some_and(|(at, answer)| {
            at.elapsed() < EVERY || matches!(answer.try_recv(), Err(TryRecvError::Empty))
        }) {
            return;
        }
        let beat = Order::Beat { id: self.id.clone(), scratch: self.scratch.clone() };
        *last = self.guard.send(beat).ok().map(|answer| (Instant::now(), answer));
    }
}
