//! The guard: a small process that outlives us for as long as it takes to set the guests free.
//!
//! When a backup program dies, however it dies, libvirt leaves things as they are: a frozen or paused guest, a job
//! that copies every block the guest overwrites into a scratch file until the host's disk is full. The next nightly
//! run comes too late. So before the first such step a guard is started and told, over a pipe, what we are about to
//! own. It acts when the pipe breaks, and when a guest is held for longer than it may be, because we were stopped. While a
//! job runs we tell it again and again that we watch the scratch directory (`beats`); when we do not, it does.
//!
//! ```text
//! waiting ─ watch ─► watching ─ release ─► waiting
//!    │                  └─ held too long: thaw, resume ─► watching
//!    └──────── pipe closed ───────┴─► nothing claimed: ends · something claimed: thaw, resume, end job; ends
//! ```
//!
//! Its work is done when it has seen that it is (`recovery::guard`), and until then it stays: for hours if libvirt hangs so long.
//! What it needs is in its memory, for the target may be what hangs.
//!
//! A domain that is started for its backup is started by the guard: libvirt ends it with the guard's connection, so it
//! ends with us, with the guard, or in order; and one that somebody has resumed lives on, because the guard does.
//!
//! It deletes no file and no checkpoint: the next run does, with the journal. Killing it kills that promise, so it has
//! a name, a session and under systemd a scope of its own, and ignores the signals that end us.
//!
//! Lives here: our end of the pipes. Must not live here: its own process (`recovery::guard`).

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::journal::Journal;
use super::order::{Answer, Numbered, Order, Scratch, Watched};

/// The first argument that makes the program a guard.
pub const GUARD_ARGUMENT: &str = "--internal-guard";

/// What the guard is called in process lists: not like us, or "kill everything called vmbackup" would kill it too.
const GUARD_NAME: &str = "kvm-guest-guard";

/// It answers at once, unless the host has no time for it.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// The same once it has not answered in time.
const LATE_ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// How long a domain may take to start. libvirt has limits of its own for most of it.
const START_LIMIT: Duration = Duration::from_secs(180);

/// The guard could not be started or does not answer.
#[derive(Debug, thiserror::Error)]
#[error("Cannot keep the guard process that sets guests free if this program dies: {source}")]
pub struct GuardError {
    source: io::Error,
}

/// A domain was not started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The guard does not answer.
    #[error("{0}")]
    Guard(#[from] GuardError),
    /// libvirt says why.
    #[error("{0}")]
    Refused(String),
}

/// Where the guard of a run finds what concerns one VM.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    /// The journal's file.
    pub(crate) journal: PathBuf,
    /// The lock under which it is written.
    pub(crate) lock: PathBuf,
    /// Where runs tell that they are there.
    pub(crate) presence: PathBuf,
}

/// Our end of the guard.
pub struct Guard {
    orders: Mutex<Orders>,
    answers: Arc<Mutex<Waiting>>,
    child: Mutex<Child>,
    /// It has not answered an order in time, and none since: something keeps it from it.
    is_late: AtomicBool,
}

struct Orders {
    pipe: ChildStdin,
    count: u64,
}

/// Who waits for an answer, by the number of the order. `None` once the guard is gone.
type Waiting = Option<BTreeMap<u64, Sender<Answer>>>;

impl Guard {
    /// Starts the guard of this process. It is waited for at the first order, so that it costs no time before.
    pub fn start(uri: &str) -> Result<Self, GuardError> {
        let mut command = Command::new("/proc/self/exe");
        command.arg0(GUARD_NAME).args([GUARD_ARGUMENT, uri]).stdin(Stdio::piped()).stdout(Stdio::piped());
        // Whoever reads our messages to their end must not wait for it too.
        command.stderr(Stdio::null());
        let mut child = vmprogram::start(command).map_err(failed)?;
        let (Some(pipe), Some(out)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(failed(io::Error::other("it has no pipes")));
        };
        let answers = Arc::new(Mutex::new(Some(BTreeMap::new())));
        let waiting = Arc::clone(&answers);
        let listen = move || pass_on(out, &waiting);
        thread::Builder::new().name("guard-answers".into()).spawn(listen).map_err(failed)?;
        Ok(Self {
            orders: Mutex::new(Orders { pipe, count: 0 }),
            answers,
            child: Mutex::new(child),
            is_late: AtomicBool::new(false),
        })
    }

    /// Tells the guard what we are about to own. Returns once it knows. A guest that is not told to be free after
    /// `held_for` is set free.
    pub(crate) fn watch(
        &self,
        journal: &Journal,
        places: &Places,
        held_for: Option<Duration>,
    ) -> Result<(), GuardError> {
        let Places { journal: file, lock, presence } = places.clone();
        let watched = Watched { journal: Box::new(journal.clone()), file, lock, presence };
        self.order_quickly(Order::Watch { watched, held_for }).map(drop)
    }

    /// Tells the guard that nothing of this run is claimed any more. A guest that was not seen to be free is looked after
    /// until it is.
    pub(crate) fn release(&self, id: &str, is_free: bool) -> Result<(), GuardError> {
        self.order_quickly(Order::Release { id: id.to_owned(), is_free }).map(drop)
    }

    /// Tells the guard that the scratch directory of a job is watched. Returns why the guard has ended the job meanwhile, if
    /// it has.
    pub(crate) fn beat(&self, id: &str, scratch: &Scratch) -> Result<Option<String>, GuardError> {
        let beat = Order::Beat { id: id.to_owned(), scratch: scratch.clone() };
        Ok(match self.order_quickly(beat)? {
            Answer::EndedJob(why) => Some(why),
            _ => None,
        })
    }

    /// Tells the guard that the job is over, so that nobody need watch its scratch directory.
    pub(crate) fn job_is_over(&self, id: &str) -> Result<(), GuardError> {
        self.order_quickly(Order::JobOver { id: id.to_owned() }).map(drop)
    }

    /// Has the guard start the domain of a journal that it watches. Returns libvirt's number of that run.
    pub(crate) fn start_domain(&self, journal: &Journal) -> Result<u32, StartError> {
        match self.order(Order::Start { id: journal.id.clone() }, START_LIMIT)? {
            Answer::Started(id) => Ok(id),
            Answer::NotStarted(reason) => Err(StartError::Refused(reason)),
            Answer::Ok | Answer::Stays | Answer::EndedJob(_) => {
                Err(StartError::Refused("the guard did not understand".to_owned()))
            }
        }
    }

    /// Leaves a domain that was started for its backup to the person who has resumed it. Returns what to tell people.
    pub(crate) fn keep(&self, journal: &Journal) -> String {
        let resumed =
            "the VM was started paused for its backup, and somebody has resumed it, so it is left running";
        match self.order_quickly(Order::Keep { journal: Box::new(journal.clone()) }) {
            Ok(_) => {
                format!(
                    "{resumed}. libvirt ends it when the process {GUARD_NAME} ends or the libvirt daemon is restarted: \
                     shut it down in order and start it again, when that suits"
                )
            }
            Err(error) => format!("{resumed}, but libvirt ends it with this run ({error}): start it again"),
        }
    }

    /// Takes over a guest that was not seen to be free, beside whatever we do. Returns what to tell people.
    pub(crate) fn free_late(&self, journal: &Journal, places: &Places) -> String {
        match self.watch(journal, places, Some(Duration::ZERO)) {
            Ok(()) => {
                "the guest has not confirmed that it is thawed; it is asked on in the background".to_owned()
            }
            Err(error) => format!("the guest has not confirmed that it is thawed: look at it ({error})"),
        }
    }

    /// For what the guard answers at once, unless something keeps it from it.
    fn order_quickly(&self, order: Order) -> Result<Answer, GuardError> {
        let is_late = self.is_late.load(Ordering::Acquire);
        let answer = self.order(order, if is_late { LATE_ANSWER_LIMIT } else { ANSWER_LIMIT });
        let is_late = answer.as_ref().is_err_and(|error| error.source.kind() == io::ErrorKind::TimedOut);
        self.is_late.store(is_late, Ordering::Release);
        answer
    }

    fn order(&self, order: Order, limit: Duration) -> Result<Answer, GuardError> {
        self.send(order)?.recv_timeout(limit).map_err(|error| match error {
            RecvTimeoutError::Disconnected => ended(),
            RecvTimeoutError::Timeout => failed(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("it does not answer within {} s", limit.as_secs()),
            )),
        })
    }

    /// Sends an order. Its answer comes when it comes.
    pub(super) fn send(&self, order: Order) -> Result<Receiver<Answer>, GuardError> {
        let (tell, told) = mpsc::channel();
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        orders.count += 1;
        let number = orders.count;
        waiting(&self.answers).as_mut().ok_or_else(ended)?.insert(number, tell);
        let mut line =
            serde_json::to_vec(&Numbered { number, line: order }).map_err(|error| failed(error.into()))?;
        line.push(b'\n');
        orders.pipe.write_all(&line).map_err(failed)?;
        Ok(told)
    }

    /// Ends the guard and waits for it, unless it has something to do. Nothing else may be claimed any more.
    pub fn end(self) {
        if let Ok(Answer::Ok) = self.order_quickly(Order::End) {
            // It ends by itself, now.
            let _ = self.child.into_inner().unwrap_or_else(PoisonError::into_inner).wait();
        }
    }
}

fn failed(source: io::Error) -> GuardError {
    GuardError { source }
}

fn ended() -> GuardError {
    failed(io::Error::other("it ended"))
}

/// Passes each answer to whoever waits for it, until the guard is gone.
fn pass_on(out: ChildStdout, answers: &Mutex<Waiting>) {
    for line in BufReader::new(out).lines().map_while(Result::ok) {
        let Ok(Numbered { number, line }) = serde_json::from_str::<Numbered<Answer>>(&line) else { break };
        let waits = waiting(answers).as_mut().and_then(|waiting| waiting.remove(&number));
        // Nobody, when it came too late.
        let _ = waits.map(|waits| waits.send(line));
    }
    *waiting(answers) = None;
}

fn waiting(answers: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    answers.lock().unwrap_or_else(PoisonError::into_inner)
}
