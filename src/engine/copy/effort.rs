//! `auto`: how hard to compress the next frame.
//!
//! Time in which compressors waited is saved up, and spent on denser frames: that costs nothing but what nobody used.
//! A compressor that waits is not proof of that. Where QEMU and the compressors share the same cores it waits because
//! QEMU has them, and harder work would slow QEMU, and all guests. So only so much is saved as the host's processors
//! were idle meanwhile.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::engine::method::QUICK;

/// Levels that are worth their time, each slower and denser than the one before it.
const HARDER: [u32; 3] = [2, 4, 9];

/// What a byte costs more at each of them than at the quick one, before anything was measured. In nanoseconds.
const EXTRA_COST: [f64; HARDER.len()] = [3.0, 12.0, 40.0];

/// What a byte costs at the quick level, before anything was measured.
const QUICK_COST: f64 = 1.5;

/// The most that is saved up: enough for a frame at the hardest level. What is saved while reads are slow must not make
/// the frames slow that come when they are quick.
const MOST_SAVED: Duration = Duration::from_millis(200);

/// How often the host is asked: its clock ticks every 10 ms.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// Shared by all compressors of a run.
#[derive(Debug)]
pub(super) struct Effort(Mutex<State>);

#[derive(Debug)]
struct State {
    /// Idle time that can be spent.
    saved: Duration,
    /// Time that compressors waited since the host was asked.
    waited: Duration,
    asked: Instant,
    host_idle: Option<Duration>,
    /// Nanoseconds for a byte, as measured: the quick level, then the others.
    quick_cost: f64,
    harder_cost: [f64; HARDER.len()],
}

impl Effort {
    pub(super) fn new() -> Self {
        Self(Mutex::new(State {
            saved: Duration::ZERO,
            waited: Duration::ZERO,
            asked: Instant::now(),
            host_idle: host_idle(),
            quick_cost: QUICK_COST,
            harder_cost: EXTRA_COST.map(|extra| QUICK_COST + extra),
        }))
    }

    /// The level for the next frame of `len` bytes, before which a compressor waited so long.
    pub(super) fn level(&self, waited: Duration, len: usize) -> u32 {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.waited += waited;
        if state.asked.elapsed() >= ASK_EVERY {
            let (before, now) = (state.host_idle, host_idle());
            let idle = now.zip(before).map(|(now, before)| now.saturating_sub(before));
            state.save(idle.unwrap_or_default());
            (state.asked, state.host_idle) = (Instant::now(), now);
        }
        state.spend(len)
    }

    /// What a frame cost, for the next choice.
    pub(super) fn spent(&self, level: u32, len: u64, took: Duration) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let cost = match HARDER.iter().position(|harder| *harder == level) {
            Some(place) => &mut state.harder_cost[place],
            None => &mut state.quick_cost,
        };
        *cost += (took.as_nanos() as f64 / len.max(1) as f64 - *cost) / 8.0;
    }
}

impl State {
    /// Saves what the compressors waited, but no more than the host's processors were idle.
    fn save(&mut self, host_idle: Duration) {
        let idle = std::mem::take(&mut self.waited).min(host_idle);
        self.saved = (self.saved + idle).min(MOST_SAVED);
    }

    /// The hardest level that what was saved pays for.
    fn spend(&mut self, len: usize) -> u32 {
        for (place, level) in HARDER.iter().enumerate().rev() {
            let extra = (self.harder_cost[place] - self.quick_cost).max(0.0) * len as f64;
            let extra = Duration::from_nanos(extra as u64);
            if extra <= self.saved && !self.saved.is_zero() {
                self.saved -= extra;
                return *level;
            }
        }
        QUICK
    }
}

/// How long the host's processors have been idle since it started, all together. Waiting for a disk is idle too. `None` where
/// it does not tell.
fn host_idle() -> Option<Duration> {
    /// `USER_HZ`, 100 on every Linux that this runs on (proc(5)).
    const TICK: Duration = Duration::from_millis(10);
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    let mut numbers = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace();
    let idle: u32 = numbers.nth(3)?.parse().ok()?;
    let waiting: u32 = numbers.next()?.parse().ok()?;
    Some(TICK * idle.saturating_add(waiting))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: usize = 2 << 20;

    fn state() -> State {
        Effort::new().0.into_inner().expect("nobody has panicked")
    }

    #[test]
    fn nothing_saved_is_nothing_spent() {
        let mut state = state();
        assert_eq!(state.spend(FRAME), QUICK);
        // The host was idle, the compressors were not.
        state.save(Duration::from_secs(1));
        assert_eq!(state.spend(FRAME), QUICK);
    }

    #[test]
    fn waiting_while_others_have_the_processors_is_not_idle() {
        let mut state = state();
        state.waited = Duration::from_secs(1);
        state.save(Duration::ZERO);
        assert_eq!(state.spend(FRAME), QUICK);
        // And it does not count later.
        state.save(Duration::from_secs(1));
        assert_eq!(state.spend(FRAME), QUICK);
    }

    #[test]
    fn idle_time_is_spent_once_and_no_more_than_a_little_is_kept() {
        let mut state = state();
        state.waited = Duration::from_secs(10);
        state.save(Duration::from_secs(10));
        assert_eq!(state.saved, MOST_SAVED);
        let levels: Vec<u32> = (0..60).map(|_| state.spend(FRAME)).collect();
        assert_eq!(levels[0], 9, "{levels:?}");
        assert!(levels.is_sorted_by(|one, next| one >= next), "{levels:?}");
        assert_eq!(levels.last(), Some(&QUICK), "{levels:?}");
    }

    #[test]
    fn what_a_level_costs_is_learned() {
        let effort = Effort::new();
        for _ in 0..100 {
            effort.spent(9, FRAME as u64, Duration::from_secs(1));
        }
        let mut state = effort.0.into_inner().expect("nobody has panicked");
        state.saved = MOST_SAVED;
        assert_ne!(state.spend(FRAME), 9, "one frame would cost a second");
    }

    #[test]
    fn the_host_tells_how_idle_it_was() {
        assert!(host_idle().expect("/proc/stat is there") > Duration::ZERO);
    }
}
