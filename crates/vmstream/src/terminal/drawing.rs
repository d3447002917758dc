//! Lines on a terminal, drawn by a thread of its own: a terminal that is held (Ctrl-S, an ssh that stalls) holds nobody else.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::Screen;

/// How often the lines are drawn, and how long something takes at least of which they tell.
const DRAW_EVERY: Duration = Duration::from_millis(100);

/// How long the terminal may take to be clean.
const CLEAR_LIMIT: Duration = Duration::from_millis(500);

/// The terminal and what is drawn on it. Cheap to clone.
#[derive(Clone)]
pub struct Drawing {
    screen: Screen,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Clone, Copy)]
struct State {
    is_on: bool,
    /// Nothing is drawn, and nothing is being drawn.
    is_clean: bool,
}

impl Drawing {
    /// Draws what `lines` says, in a thread that ends with the process; `None` when there can be none.
    pub fn start(screen: Screen, lines: impl FnMut() -> Vec<String> + Send + 'static) -> Option<Self> {
        let state = Mutex::new(State { is_on: false, is_clean: true });
        let shared = Arc::new(Shared { state, changed: Condvar::new() });
        let (sees, draws_on) = (Arc::clone(&shared), screen.clone());
        thread::Builder::new().name("bars".into()).spawn(move || sees.draw(&draws_on, lines)).ok()?;
        Some(Self { screen, shared })
    }

    /// What goes on beside it is printed there, so that it does not tear what is drawn. May block: not for a thread that copies.
    pub fn screen(&self) -> Screen {
        self.screen.clone()
    }

    /// Begins to draw.
    pub fn begin(&self) {
        self.shared.lock().is_on = true;
        self.shared.changed.notify_all();
    }

    /// Draws no more, and waits until the terminal is clean, but not for one that is held.
    pub fn clear(&self) {
        let Shared { changed, .. } = &*self.shared;
        let mut state = self.shared.lock();
        state.is_on = false;
        changed.notify_all();
        let is_dirty = |state: &mut State| !state.is_clean && !state.is_on;
        drop(changed.wait_timeout_while(state, CLEAR_LIMIT, is_dirty));
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Draws for ever. Holds no lock while it does.
    fn draw(&self, screen: &Screen, mut lines: impl FnMut() -> Vec<String>) {
        let mut state = self.lock();
        loop {
            let waited = match *state {
                State { is_on: false, is_clean: true } => {
                    self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
                }
                State { is_on: false, .. } => state,
                State { is_on: true, .. } => {
                    let waited = self.changed.wait_timeout_while(state, DRAW_EVERY, |state| state.is_on);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
            state = waited;
            let State { is_on, is_clean } = *state;
            if !is_on && is_clean {
                continue;
            }
            state.is_clean = false;
            drop(state);
            screen.draw(if is_on { lines() } else { vec![] });
            state = self.lock();
            if !is_on {
                state.is_clean = true;
                self.changed.notify_all();
            }
        }
    }
}
