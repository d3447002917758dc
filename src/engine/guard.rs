//! The guard: a small process that outlives us for as long as it takes to set the guests free.
//!
//! When a backup program dies, however it dies, libvirt leaves things as they are: a frozen or paused guest, a job
//! that copies every block the guest overwrites into a scratch file until the host's disk is full. The next nightly
//! run comes too late. So before the first such step a guard is started and told, over a pipe, what we are about to
//! own. It acts when the pipe breaks.
//!
//! ```text
//! waiting ─ watch ─► watching ─ release ─► waiting
//!    └──────── pipe closed ───────┴─► nothing owned: ends · something owned: thaw, resume, end job; ends
//! ```
//!
//! A domain that is started for its backup is started by the guard: libvirt ends it with the guard's connection, so it
//! ends with us, with the guard, or in order; and one that somebody has resumed lives on, because the guard does.
//!
//! It deletes no file and no checkpoint: the next run does, with the journal. Killing it kills that promise, so it has
//! a name and a session of its own and ignores the signals that end us.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::journal::{Journal, Stage, Started, Stop};
use super::recover::{self, Ended};
use crate::libvirt::{Domain, DomainState, Host};
use crate::state::VmLock;

/// The first argument that makes the program a guard.
pub const GUARD_ARGUMENT: &str = "--internal-guard";

/// What the guard is called in process lists: not like us, or "kill everything called vmbackup" would kill it too.
const GUARD_NAME: &str = "kvm-guest-guard";

/// A backup-begin or a pause that was on its way when we died takes effect late: look that long.
const WATCH_AFTER_DEATH: Duration = Duration::from_secs(5);

/// How often to look.
const LOOK_EVERY: Duration = Duration::from_millis(150);

/// When a freeze that was asked for before we died has happened at the latest, if the agent is quick.
const LATE_FREEZE: Duration = Duration::from_secs(1);

/// How long a guest whose agent hangs is asked to thaw. A freeze that waits in the agent happens when it wakes up.
const LATE_THAW_LIMIT: Duration = Duration::from_secs(15 * 60);

/// How often such a guest is asked.
const LATE_THAW_EVERY: Duration = Duration::from_secs(1);

/// How often a domain is looked at that somebody has resumed.
const KEEP_EVERY: Duration = Duration::from_secs(1);

/// How long the lock of a journal may take before the guest is helped without it.
const LOCK_LIMIT: Duration = Duration::from_secs(1);

/// A line from us to the guard.
#[derive(Serialize, Deserialize)]
enum Order {
    /// From now on we may own this.
    Watch { journal: Box<Journal>, file: PathBuf, lock: PathBuf },
    /// Nothing of this run is owned any more.
    Release { id: String },
    /// Start the domain of this run, paused.
    Start { id: String },
    /// The domain of this run was started by the guard, and belongs to somebody else now: stay as long as it runs.
    Keep { journal: Box<Journal> },
    /// The guest of this run did not confirm that it is thawed: go on asking when we are gone.
    ThawLate { journal: Box<Journal> },
}

/// A line from the guard to us, for each order, and one when it is ready.
#[derive(Serialize, Deserialize)]
enum Answer {
    Ok,
    /// The domain was started, and has this number.
    Started(u32),
    /// It was not.
    NotStarted(String),
}

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

/// Our end of the guard.
pub struct Guard {
    pipes: Mutex<Pipes>,
    child: Mutex<Child>,
}

struct Pipes {
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// It has said that it is there.
    ready: bool,
    /// It has work to do when we are gone.
    stays: bool,
}

impl Pipes {
    fn await_answer(&mut self) -> io::Result<Answer> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        serde_json::from_str(&line).map_err(|_| io::Error::other("it ended"))
    }
}

impl Guard {
    /// Starts the guard of this process. It is waited for at the first order, so that it costs no time before.
    pub fn start(uri: &str) -> Result<Self, GuardError> {
        let failed = |source| GuardError { source };
        let mut child = Command::new("/proc/self/exe")
            .arg0(GUARD_NAME)
            .args([GUARD_ARGUMENT, uri])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Whoever reads our messages to their end must not wait for it too.
            .stderr(Stdio::null())
            .spawn()
            .map_err(failed)?;
        let (Some(orders), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(failed(io::Error::other("it has no pipes")));
        };
        let pipes = Pipes { orders, answers: BufReader::new(answers), ready: false, stays: false };
        Ok(Self { pipes: Mutex::new(pipes), child: Mutex::new(child) })
    }

    /// Tells the guard what we are about to own. Returns once it knows.
    pub fn watch(&self, journal: &Journal, file: PathBuf, lock: PathBuf) -> Result<(), GuardError> {
        self.order(&Order::Watch { journal: Box::new(journal.clone()), file, lock }).map(drop)
    }

    /// Tells the guard that nothing of this run is owned any more.
    pub fn release(&self, id: &str) -> Result<(), GuardError> {
        self.order(&Order::Release { id: id.to_owned() }).map(drop)
    }

    /// Has the guard start the domain of a journal that it watches. Returns libvirt's number of that run.
    pub fn start_domain(&self, journal: &Journal) -> Result<u32, StartError> {
        match self.order(&Order::Start { id: journal.id.clone() })? {
            Answer::Started(id) => Ok(id),
            Answer::NotStarted(reason) => Err(StartError::Refused(reason)),
            Answer::Ok => Err(StartError::Refused("the guard did not understand".to_owned())),
        }
    }

    /// Leaves a domain that was started for its backup to the person who has resumed it. Returns what to tell people.
    pub fn keep(&self, journal: &Journal) -> String {
        let resumed =
            "the VM was started paused for its backup, and somebody has resumed it, so it is left running";
        match self.order(&Order::Keep { journal: Box::new(journal.clone()) }) {
            Ok(_) => {
                self.pipes.lock().unwrap_or_else(PoisonError::into_inner).stays = true;
                format!(
                    "{resumed}. libvirt ends it when the process {GUARD_NAME} ends or the libvirt daemon is restarted: \
                     shut it down in order and start it again, when that suits"
                )
            }
            Err(error) => format!("{resumed}, but libvirt ends it with this run ({error}): start it again"),
        }
    }

    /// Takes over a guest that has not confirmed that it is thawed. Returns what to tell people.
    pub fn thaw_late(&self, journal: &Journal) -> String {
        match self.order(&Order::ThawLate { journal: Box::new(journal.clone()) }) {
            Ok(_) => {
                self.pipes.lock().unwrap_or_else(PoisonError::into_inner).stays = true;
                "the guest has not confirmed that it is thawed; it is asked on in the background".to_owned()
            }
            Err(error) => format!("the guest has not confirmed that it is thawed: look at it ({error})"),
        }
    }

    fn order(&self, order: &Order) -> Result<Answer, GuardError> {
        let send = || {
            let mut pipes = self.pipes.lock().unwrap_or_else(PoisonError::into_inner);
            if !pipes.ready {
                pipes.await_answer()?;
                pipes.ready = true;
            }
            let mut line = serde_json::to_vec(order)?;
            line.push(b'\n');
            pipes.orders.write_all(&line)?;
            pipes.await_answer()
        };
        send().map_err(|source| GuardError { source })
    }
}

impl Guard {
    /// Ends the guard and waits for it, unless it has a guest to thaw or to keep. Nothing else may be owned any more.
    pub fn end(self) {
        let stays = self.pipes.into_inner().unwrap_or_else(PoisonError::into_inner).stays;
        if stays {
            return;
        }
        let _ = self.child.into_inner().unwrap_or_else(PoisonError::into_inner).wait();
    }
}

/// The guard's own main function. Returns when its work is done.
pub fn run_guard(uri: &str) {
    outlive_the_parent();
    // Connected beforehand, so that no time is lost when it matters; beside the orders, so that nobody waits for it.
    let address = uri.to_owned();
    let mut connecting = Some(thread::spawn(move || Host::connect(&address).ok()));
    let mut connected = None;
    let mut host = || -> Option<Host> {
        if connected.is_none() {
            connected = connecting.take().and_then(|thread| thread.join().ok().flatten());
            connected = connected.take().or_else(|| Host::connect(uri).ok());
        }
        connected.clone()
    };
    let mut watched: BTreeMap<String, (Journal, PathBuf, PathBuf)> = BTreeMap::new();
    let (mut late, mut kept) = (Vec::new(), Vec::new());
    answer(&Answer::Ok);
    for line in io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        match serde_json::from_str(&line) {
            Ok(Order::Watch { journal, file, lock }) => {
                watched.insert(journal.id.clone(), (*journal, file, lock));
            }
            Ok(Order::Release { id }) => drop(watched.remove(&id)),
            Ok(Order::ThawLate { journal }) => late.push(*journal),
            Ok(Order::Keep { journal }) => kept.push(*journal),
            Ok(Order::Start { id }) => {
                answer(&match watched.get_mut(&id).map(|(journal, ..)| start(journal, host())) {
                    Some(Ok(number)) => Answer::Started(number),
                    Some(Err(reason)) => Answer::NotStarted(reason),
                    None => Answer::NotStarted("it is not watched".to_owned()),
                });
                continue;
            }
            Err(_) => break,
        }
        answer(&Answer::Ok);
    }
    if watched.is_empty() && late.is_empty() && kept.is_empty() {
        // In order, and waited for: closing the connection politely would only take time.
        std::process::exit(0);
    }
    let Some(host) = host() else { return };
    thread::scope(|scope| {
        for (journal, file, lock) in watched.values() {
            scope.spawn(|| set_free(journal, file, lock, &host));
        }
        for journal in &late {
            scope.spawn(|| recover::find(journal, &host).map(|domain| domain.as_ref().map(thaw_late)));
        }
        for journal in &kept {
            scope.spawn(|| {
                if let (Ok(Some(domain)), Some(started)) = (recover::find(journal, &host), &journal.started) {
                    keep(&domain, started);
                }
            });
        }
    });
}

fn answer(answer: &Answer) {
    let Ok(mut line) = serde_json::to_vec(answer) else { return };
    line.push(b'\n');
    let mut out = io::stdout().lock();
    let _ = out.write_all(&line).and_then(|()| out.flush());
}

/// Starts the domain of a journal over our connection, and remembers its number.
fn start(journal: &mut Journal, host: Option<Host>) -> Result<u32, String> {
    let host = host.ok_or("the guard has no connection to libvirt")?;
    let found = recover::find(journal, &host).map_err(|error| error.to_string())?;
    let domain = found.ok_or("it is not there any more")?;
    let number = domain.start_paused().map_err(|error| error.to_string())?;
    if let Some(started) = &mut journal.started {
        started.id = Some(number);
    }
    Ok(number)
}

/// Stays as long as a domain runs that ends with our connection.
fn keep(domain: &Domain, started: &Started) {
    while domain.id().is_ok_and(|id| id == started.id) {
        thread::sleep(KEEP_EVERY);
    }
}

/// A session of its own, and deaf to what ends a program in order.
fn outlive_the_parent() {
    let _ = rustix::process::setsid();
    let _ = rustix::thread::set_name(c"kvm-guest-guard");
    let ignored = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT, signal_hook::consts::SIGHUP] {
        let _ = signal_hook::flag::register(signal, Arc::clone(&ignored));
    }
}

/// Thaws, resumes, ends the job: each in its own thread, so that a silent agent delays nothing else.
fn set_free(journal: &Journal, file: &Path, lock: &Path, host: &Host) {
    if matches!(journal.stage, Stage::Publishing { .. }) {
        return; // The job was ended and the guest released before.
    }
    // A run that starts now undoes the same, and the journal is gone or another's when it is done. A journal that
    // cannot be read (its disk is what died) tells nothing against helping.
    let is_ours = || !Journal::read(file).is_ok_and(|now| now.is_none_or(|now| now.id != journal.id));
    let held = VmLock::hold(lock, LOCK_LIMIT);
    let until = Instant::now() + WATCH_AFTER_DEATH;
    let goes_on = || is_ours() && Instant::now() < until;
    let mut found = recover::find(journal, host);
    while found.is_err() && goes_on() {
        thread::sleep(LOOK_EVERY);
        found = recover::find(journal, host);
    }
    let Ok(Some(domain)) = found else { return };
    let mut resumed = None;
    if journal.stop != Stop::None {
        // It ran when the run held it still: somebody had resumed it.
        resumed = journal.started.as_ref();
    } else if let Some(started) = &journal.started {
        let mut ended = recover::end_started(&domain, started);
        while ended.is_err() && goes_on() {
            thread::sleep(LOOK_EVERY);
            ended = recover::end_started(&domain, started);
        }
        match ended {
            Ok(Ended::Resumed) => resumed = Some(started),
            _ => return,
        }
    }
    let free = thread::scope(|scope| {
        let free = scope.spawn(|| match journal.stop {
            Stop::None => true,
            Stop::Paused => {
                while goes_on() && !recover::release_guest(&domain, journal.stop).unwrap_or(false) {
                    thread::sleep(LOOK_EVERY);
                }
                true
            }
            Stop::Frozen if is_ours() => {
                // The freeze itself may have been on its way: look once more.
                recover::thaw(&domain, WATCH_AFTER_DEATH) && {
                    thread::sleep(LATE_FREEZE);
                    recover::thaw(&domain, WATCH_AFTER_DEATH)
                }
            }
            Stop::Frozen => true,
        });
        scope.spawn(|| {
            while goes_on() && !recover::end_job(&domain, journal).unwrap_or(false) {
                thread::sleep(LOOK_EVERY);
            }
        });
        free.join().unwrap_or(false)
    });
    if free && held.is_ok() && is_ours() {
        // Should somebody stop this guest later on, that is not for the next run to undo.
        let _ = Journal { stop: Stop::None, ..journal.clone() }.write(file);
    }
    // The next run need not wait for an agent that hangs.
    drop(held);
    if !free {
        thaw_late(&domain);
    }
    if let Some(started) = resumed {
        keep(&domain, started);
    }
}

/// Asks a guest to thaw until it confirms.
fn thaw_late(domain: &Domain) {
    let until = Instant::now() + LATE_THAW_LIMIT;
    let active = || domain.state().is_ok_and(DomainState::is_active);
    while !recover::thaw(domain, Duration::ZERO) && active() && Instant::now() < until {
        thread::sleep(LATE_THAW_EVERY);
    }
}
