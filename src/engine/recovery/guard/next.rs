//! When the guard's work is done: decided from what was seen, and from nothing else. No clock, no libvirt.
//!
//! ```text
//! watching ─ ours: set free ─► freed ─ clear ─► done
//!    ├─ clear, in calls begun 30 s after the first that came back ─► done
//!    ├─ theirs, gone ─► done
//!    └─ no answer, unclear, clear too early: look again
//! ```
//!
//! A pause, a freeze or a job that was on its way when the program died takes effect late: libvirt lets a call wait for
//! another one for 30 s, and its queue is not first in, first out. As long as libvirt or QEMU hangs no call comes back,
//! so there is no other limit: it may take hours. Each of them is asked for once, so what was seen and is gone does not
//! come again.

use std::time::Duration;

/// How long libvirt lets a call wait for its turn.
///
/// Source: `VIR_DOMAIN_JOB_WAIT_TIME` in libvirt's `virdomainjob.c`.
const TURN_LIMIT: Duration = Duration::from_secs(30);

/// What a look at one thing came to: a guest that may be held, a job, a domain that was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// The calls failed, or did not come back in time.
    NoAnswer,
    /// They came back and do not tell: a job that is being set up, an agent that is silent.
    Unclear,
    /// It is there, and this run's: held, copying, started.
    Ours,
    /// It is not there.
    Clear,
    /// Somebody else has taken it over.
    Theirs,
    /// What it was about is over: the domain, or that run of it.
    Gone,
}

/// One look, with the times of its calls since the watch began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Look {
    /// When its first call began.
    pub(super) begun: Duration,
    /// When its last call came back.
    pub(super) ended: Duration,
    pub(super) seen: Seen,
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    LookAgain,
    /// Resume, thaw, end the job, shut the domain off.
    SetFree,
    Done,
}

/// What is known from earlier looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    /// When calls came back for the first time.
    first_answer: Option<Duration>,
    /// It was seen, and told to go.
    freed: bool,
}

/// The next step.
pub(super) fn next(state: State, look: Look) -> (State, Act) {
    let answered = look.seen != Seen::NoAnswer;
    let first_answer = state.first_answer.or(answered.then_some(look.ended));
    let freed = state.freed || look.seen == Seen::Ours;
    let act = match look.seen {
        Seen::NoAnswer | Seen::Unclear => Act::LookAgain,
        Seen::Ours => Act::SetFree,
        Seen::Theirs | Seen::Gone => Act::Done,
        Seen::Clear => {
            // Of this look itself the calls began before.
            let all_had_their_turn = state.first_answer.is_some_and(|at| look.begun > at + TURN_LIMIT);
            if freed || all_had_their_turn { Act::Done } else { Act::LookAgain }
        }
    };
    (State { first_answer, freed }, act)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Seen; 6] = [Seen::NoAnswer, Seen::Unclear, Seen::Ours, Seen::Clear, Seen::Theirs, Seen::Gone];

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn each_state_and_each_sight_has_its_act() {
        use Act::{Done, LookAgain, SetFree};
        let never = None;
        let (just_now, long_ago) = (Some(seconds(70)), Some(seconds(69)));
        // The look begins at 100 s; its calls come back at 105 s. In the order of `ALL`.
        let rows = [
            (never, false, [LookAgain, LookAgain, SetFree, LookAgain, Done, Done]),
            (just_now, false, [LookAgain, LookAgain, SetFree, LookAgain, Done, Done]),
            (long_ago, false, [LookAgain, LookAgain, SetFree, Done, Done, Done]),
            (never, true, [LookAgain, LookAgain, SetFree, Done, Done, Done]),
            (just_now, true, [LookAgain, LookAgain, SetFree, Done, Done, Done]),
            (long_ago, true, [LookAgain, LookAgain, SetFree, Done, Done, Done]),
        ];
        for (first_answer, freed, acts) in rows {
            for (seen, want) in ALL.into_iter().zip(acts) {
                let look = Look { begun: seconds(100), ended: seconds(105), seen };
                let (state, act) = next(State { first_answer, freed }, look);
                assert_eq!(act, want, "{first_answer:?} {freed} {seen:?}");
                let answered = (seen != Seen::NoAnswer).then_some(seconds(105));
                let want =
                    State { first_answer: first_answer.or(answered), freed: freed || seen == Seen::Ours };
                assert_eq!(state, want, "{first_answer:?} {freed} {seen:?}");
            }
        }
    }

    /// What is done when, for looks of a second each, one every ten seconds.
    fn acts(seen: impl IntoIterator<Item = Seen>) -> Vec<Act> {
        let mut state = State::default();
        let mut acts = Vec::new();
        for (number, seen) in seen.into_iter().enumerate() {
            let begun = seconds(10 * number as u64);
            let (after, act) = next(state, Look { begun, ended: begun + seconds(1), seen });
            state = after;
            acts.push(act);
        }
        acts
    }

    #[test]
    fn a_daemon_that_hangs_for_hours_is_waited_for() {
        let hours = [Seen::NoAnswer; 3600];
        assert!(acts(hours).iter().all(|act| *act == Act::LookAgain));
        // Then calls come back: 30 s count from there.
        let after = acts(hours.into_iter().chain([Seen::Clear; 5]));
        let last: Vec<_> = after[3600..].to_vec();
        assert_eq!(last, [Act::LookAgain, Act::LookAgain, Act::LookAgain, Act::LookAgain, Act::Done]);
    }

    #[test]
    fn what_comes_late_is_set_free_until_it_is_seen_to_be() {
        use Seen::{Clear, NoAnswer, Ours, Unclear};
        let seen = [Clear, Unclear, Ours, Ours, NoAnswer, Ours, Clear];
        use Act::{Done, LookAgain, SetFree};
        assert_eq!(acts(seen), [LookAgain, LookAgain, SetFree, SetFree, LookAgain, SetFree, Done]);
    }

    #[test]
    fn a_job_that_is_set_up_for_long_is_waited_for() {
        let seen = [Seen::Unclear; 100].into_iter().chain([Seen::Ours, Seen::Clear]);
        let acts = acts(seen);
        assert!(acts[..100].iter().all(|act| *act == Act::LookAgain));
        assert_eq!(acts[100..], [Act::SetFree, Act::Done]);
    }
}
