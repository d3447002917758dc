//! The guard's own process: takes orders, and acts on what it was told when the run dies, holds a guest for too long, or
//! leaves a job unwatched.
//!
//! Must not live here: the ends of the pipes in the run (`claims::guard`), how one thing is set free (`work`, `next`).
//!
//! The thread that takes orders never waits for anything else, and everything that it acts on is in memory. Calls to
//! libvirt and writes to the journal have threads of their own.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::life::{is_dying, outlive_the_run};
use super::next::Seen;
use super::scope;
use super::stand_in::JobWatch;
use super::ward::{Freeing, Ward};
use super::work::{Task, Work};
use crate::engine::claims::journal::{Journal, Quiesce, Stage};
use crate::engine::claims::order::{Answer, Numbered, Order, Watched};
use crate::engine::claims::presence;
use crate::engine::recovery::domain::{end_started, find};
use vmhost::libvirt::Host;
use vmstore::VmLock;

/// How often the run is looked at while it owns something.
const LOOK_EVERY: Duration = Duration::from_millis(150);

/// How long to wait for orders when nothing is claimed.
const IDLE: Duration = Duration::from_secs(3600);

/// How often a domain is looked at that somebody has resumed.
const KEEP_EVERY: Duration = Duration::from_secs(1);

/// How long the lock of a journal may be somebody else's. Then they have the journal too.
const LOCK_LIMIT: Duration = Duration::from_secs(1);

/// What the guard shares with its threads.
struct Shared {
    host: Host,
    /// The process that gives orders.
    run: u32,
    /// It is gone, or cannot do anything any more.
    is_dead: AtomicBool,
    wards: Mutex<BTreeMap<String, Ward>>,
}

/// The guard's own main function. Returns when its work is done.
pub fn run_guard(uri: &str) {
    outlive_the_run();
    scope::move_to_own();
    let host = Host::unconnected(uri);
    let run = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get().unsigned_abs());
    let shared =
        Arc::new(Shared { host, run, is_dead: AtomicBool::new(false), wards: Mutex::new(BTreeMap::new()) });
    // Connected beforehand, so that no time is lost when it matters; beside the orders, so that nobody waits for it.
    let connecting = Arc::clone(&shared);
    thread::spawn(move || connecting.host.reconnect());
    let (orders, incoming) = mpsc::channel();
    thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            let Ok(order) = serde_json::from_str::<Numbered<Order>>(&line) else { break };
            if orders.send(order).is_err() {
                break;
            }
        }
    });
    let mut kept = Vec::new();
    loop {
        let patience = if shared.wards().is_empty() { IDLE } else { LOOK_EVERY };
        match incoming.recv_timeout(patience) {
            Ok(Numbered { number, line }) => shared.obey(number, line, &mut kept),
            Err(RecvTimeoutError::Disconnected) => break,
            // Its thread that waits for a disk keeps the pipe open.
            Err(RecvTimeoutError::Timeout) if is_dying(shared.run) => break,
            Err(RecvTimeoutError::Timeout) => {}
        }
        let mut wards = shared.wards();
        for ward in wards.values_mut().filter(|ward| ward.free_at.is_some_and(|at| Instant::now() >= at)) {
            shared.free(ward);
        }
        wards.values_mut().for_each(|ward| shared.stand_in(ward));
        wards.retain(|_, ward| !ward.is_over());
    }
    shared.is_dead.store(true, Ordering::Release);
    let wards = std::mem::take(&mut *shared.wards());
    if wards.is_empty() && kept.is_empty() {
        // In order, and waited for: closing the connection politely would only take time.
        std::process::exit(0);
    }
    thread::scope(|scope| {
        for ward in wards.into_values() {
            let shared = &shared;
            scope.spawn(move || shared.set_free(ward));
        }
        for journal in &kept {
            scope.spawn(|| shared.keep(journal));
        }
    });
}

impl Shared {
    fn wards(&self) -> MutexGuard<'_, BTreeMap<String, Ward>> {
        self.wards.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn obey(self: &Arc<Self>, number: u64, order: Order, kept: &mut Vec<Journal>) {
        let mut wards = self.wards();
        let said = match order {
            Order::Watch { watched, held_for } => {
                if watched.journal.quiesce != Quiesce::None && held_for.is_some() {
                    // Another try of the same VM: what the one before may have left is looked after with it.
                    let is_same = |ward: &&mut Ward| {
                        let before = &ward.watched.journal;
                        before.uuid == watched.journal.uuid && before.id != watched.journal.id
                    };
                    wards.values_mut().filter(is_same).for_each(Ward::is_free);
                }
                let ward = wards.entry(watched.journal.id.clone());
                ward.or_insert_with(|| Ward::new(watched.clone())).watch(watched, held_for);
                Answer::Ok
            }
            Order::Release { id, is_free } => {
                if let Some(ward) = wards.get_mut(&id) {
                    ward.is_owned = false;
                    ward.job = None;
                    if is_free || ward.watched.journal.quiesce == Quiesce::None {
                        ward.is_free();
                    } else {
                        self.free(ward);
                    }
                }
                Answer::Ok
            }
            Order::Beat { id, scratch } => {
                let job =
                    wards.get_mut(&id).map(|ward| ward.job.get_or_insert_with(|| JobWatch::new(scratch)));
                job.and_then(JobWatch::beat).map_or(Answer::Ok, Answer::EndedJob)
            }
            Order::JobOver { id } => {
                wards.get_mut(&id).map(|ward| ward.job.take());
                Answer::Ok
            }
            Order::Keep { journal } => {
                kept.push(*journal);
                Answer::Ok
            }
            Order::Start { id } => match wards.get(&id) {
                // Answered when it is done: in a thread of its own, for a start can hang.
                Some(ward) => return self.start(number, id, ward),
                None => Answer::NotStarted("it is not watched".to_owned()),
            },
            // What is claimed still could not be undone: there is work for us, perhaps for hours.
            Order::End if kept.is_empty() && wards.values().all(Ward::is_over) => {
                answer(number, Answer::Ok);
                // Not when the pipe is closed: the run closes its end after it has waited for us.
                std::process::exit(0);
            }
            Order::End => Answer::Stays,
        };
        answer(number, said);
    }

    /// Starts the domain of a ward over our connection, and remembers its number.
    fn start(self: &Arc<Self>, number: u64, id: String, ward: &Ward) {
        let (shared, journal) = (Arc::clone(self), ward.watched.journal.clone());
        let is_starting = Arc::clone(&ward.is_starting);
        is_starting.store(true, Ordering::Release);
        thread::spawn(move || {
            let started = match find(&journal, &shared.host) {
                Ok(Some(domain)) => domain.start_paused().map(|number| (domain, number)),
                Ok(None) => {
                    is_starting.store(false, Ordering::Release);
                    return answer(number, Answer::NotStarted("it is not there any more".to_owned()));
                }
                Err(error) => Err(error),
            };
            let said = match started {
                Ok((domain, run)) => {
                    let mut journal = journal;
                    if let Some(started) = &mut journal.started {
                        started.id = Some(run);
                    }
                    // Given up meanwhile, or the run has died: whoever looks for it then has no number yet.
                    if !shared.note_started(&id, &journal) {
                        drop(journal.started.as_ref().map(|it| end_started(&domain, it)));
                    }
                    Answer::Started(run)
                }
                Err(error) => Answer::NotStarted(error.to_string()),
            };
            is_starting.store(false, Ordering::Release);
            answer(number, said);
        });
    }

    /// Notes which run of the domain is the ward's. False when it is not watched any more. Only memory: nobody may wait
    /// for libvirt with the wards locked, or orders have no answer.
    fn note_started(&self, id: &str, journal: &Journal) -> bool {
        let mut wards = self.wards();
        let ward = wards.get_mut(id);
        ward.map(|ward| ward.watched.journal.started.clone_from(&journal.started)).is_some()
    }

    /// Frees the guest of a ward, in a thread of its own. Once is enough.
    fn free(self: &Arc<Self>, ward: &mut Ward) {
        ward.free_at = None;
        let task = match ward.watched.journal.quiesce {
            Quiesce::None => return,
            Quiesce::Paused => Task::Resume,
            Quiesce::Frozen => Task::Thaw,
        };
        if ward.freeing.is_some() {
            return;
        }
        let is_free = Arc::new(AtomicBool::new(false));
        let (shared, watched, told) = (Arc::clone(self), ward.watched.clone(), Arc::clone(&is_free));
        let thread = thread::spawn(move || {
            let is_theirs = || told.load(Ordering::Acquire) || shared.has_another(&watched);
            shared.work(task, &watched.journal, &is_theirs, &|| false)
        });
        ward.freeing = Some(Freeing { is_free, thread });
    }

    /// Watches the scratch directory of a ward's job if nobody does, and ends the job when it must.
    fn stand_in(self: &Arc<Self>, ward: &mut Ward) {
        let Some(job) = ward.job.as_mut().filter(|job| job.is_unwatched()) else { return };
        let (shared, journal) = (Arc::clone(self), ward.watched.journal.clone());
        job.stand_in(move || {
            shared.work(Task::EndJob, &journal, &|| false, &|| false);
        });
    }

    /// Sets everything free that a dead run may have left: each in its own thread, so that a silent agent delays
    /// nothing else.
    fn set_free(self: &Arc<Self>, mut ward: Ward) {
        // It is ended now, whatever room it has.
        ward.job = None;
        // The job was ended and the guest released before.
        let is_published = matches!(ward.watched.journal.stage, Stage::Publishing { .. });
        if !is_published {
            self.free(&mut ward);
        }
        let watched = &ward.watched;
        let journal = &watched.journal;
        let has_run = ward.is_owned && journal.started.is_some();
        let is_owned = ward.is_owned && !is_published;
        let is_starting = || ward.is_starting.load(Ordering::Acquire);
        let freeing = ward.freeing;
        let guest_is_theirs = thread::scope(|scope| {
            if is_owned {
                scope.spawn(|| self.work(Task::EndJob, journal, &|| false, &|| false));
            }
            // It ran when the run held it still: then somebody had resumed it.
            let shut_off = (has_run && journal.quiesce == Quiesce::None)
                .then(|| scope.spawn(|| self.work(Task::ShutOff, journal, &|| false, &is_starting)));
            let freed = freeing.and_then(|freeing| freeing.thread.join().ok());
            if freed == Some(Seen::Clear) && is_owned {
                note_free(watched);
            }
            shut_off.map_or(freed.is_some(), |run| run.join().is_ok_and(|seen| seen == Seen::Theirs))
        });
        if has_run && guest_is_theirs {
            self.keep(journal);
        }
    }

    fn work(
        &self,
        task: Task,
        journal: &Journal,
        is_theirs: &dyn Fn() -> bool,
        is_starting: &dyn Fn() -> bool,
    ) -> Seen {
        Work { task, journal, host: &self.host, is_theirs, is_starting }.carry_out()
    }

    /// Whether another run works on the VM. As long as ours lives there is none.
    fn has_another(&self, watched: &Watched) -> bool {
        self.is_dead.load(Ordering::Acquire)
            && presence::is_of_another(&watched.presence, &[self.run, watched.journal.pid])
    }

    /// Stays as long as a domain runs that ends with our connection.
    fn keep(&self, journal: &Journal) {
        let (Ok(Some(domain)), Some(started)) = (find(journal, &self.host), &journal.started) else {
            return;
        };
        while domain.id().is_ok_and(|id| id == started.id) {
            thread::sleep(KEEP_EVERY);
        }
    }
}

/// Writes down that the guest was seen to be free: should somebody stop it later on, that is not for the next run to
/// undo. Not while a later run has the journal.
fn note_free(watched: &Watched) {
    let Ok(_held) = VmLock::hold(&watched.lock, LOCK_LIMIT) else { return };
    match Journal::read(&watched.file) {
        Ok(Some(now)) if now.id == watched.journal.id => {
            let _ = Journal { quiesce: Quiesce::None, ..now }.write(&watched.file);
        }
        _ => {}
    }
}

fn answer(number: u64, line: Answer) {
    let Ok(mut text) = serde_json::to_vec(&Numbered { number, line }) else { return };
    text.push(b'\n');
    let mut out = io::stdout().lock();
    let _ = out.write_all(&text).and_then(|()| out.flush());
}
