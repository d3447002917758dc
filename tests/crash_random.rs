//! Kills and stops the program at moments that nobody chose. `CRASH_KILLS` says how often, `LAB_SEED` repeats a run.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use lab::{Bed, History, Lab, Version, sockets_of, wait_for_guard};
use random::Random;

/// Kills in `make test`.
const KILLS: usize = 50;

/// Kills for one chain: what a chain costs to prove grows faster than the chain.
const KILLS_OF_A_CHAIN: usize = 25;

#[test]
fn killed_or_stopped_at_random_moments() {
    let given = std::env::var("CRASH_KILLS").ok();
    let kills = given.map_or(KILLS, |given| given.parse().expect("CRASH_KILLS is not a number"));
    let lab = Lab::configured("random_moments");
    let mut random = Random::from_environment("LAB_SEED");
    let mut bed = Bed::at_random(&lab, Random::from_seed(random.next_u64()));
    let usual = usual_time(&mut bed);
    let mut number = 0;
    while number < kills {
        let of_chain = KILLS_OF_A_CHAIN.min(kills - number);
        for _ in 0..of_chain {
            number += 1;
            interrupt(&mut bed, &mut random, number, usual);
        }
        bed.points.assert_restorable(bed.lab, &bed.dir());
        bed.points.assert_virtnbdrestore(bed.lab, Version::Distribution, &bed.dir());
        bed.vm.delete_checkpoints();
        fs::remove_dir_all(bed.dir()).expect("the chain is ours");
        bed.change();
        bed.back_up("full");
    }
}

/// How long an increment takes here and now, twice as long as one that finds nothing new to wait for.
fn usual_time(bed: &mut Bed<'_>) -> u64 {
    bed.back_up("full");
    bed.change();
    let began = Instant::now();
    bed.back_up_next();
    began.elapsed().as_micros() as u64
}

/// Ends a run in the middle, and looks at what is left and at what the next run makes of it.
fn interrupt(bed: &mut Bed<'_>, random: &mut Random, number: usize, usual: u64) {
    bed.change();
    let at_snapshot = History::disks(bed.lab, &bed.vm);
    let moment = Duration::from_micros(random.below(usual));
    let signal = if random.below(2) == 0 { Signal::KILL } else { Signal::TERM };
    let when = format!("{number}: {signal:?} after {moment:?}");
    let run = bed.lab.begin_run(bed.lab.run_command(&[&bed.vm]));
    let pid = run.pid();
    std::thread::sleep(moment);
    run.signal(signal);
    // libvirt may hold the end of a job for up to 30 s; a run that was asked to stop ends within a minute.
    let ended = run.wait_for(Duration::from_secs(60));
    // The guard sets the guest free, ends the job, and then gives the lock back.
    wait_for_guard(bed.lab, &bed.vm);
    bed.vm.wait_until_free_for(FREE_FOR, FREE_LIMIT);
    let points = bed.vm.checkpoints().len();
    if signal == Signal::TERM && (ended.level() != "none" || bed.points.len() < points) {
        // Too late to stop it: the point was complete.
        assert_eq!(ended.level(), format!("incremental {}", bed.points.len()), "{when}: {ended:#?}");
    }
    bed.change();
    let next = bed.lab.run_well(&bed.vm);
    println!("{when}: {:?}, then {}", ended.status, next.level());
    if next.level() == format!("incremental {}", bed.points.len() + 1) {
        // The run had come to its end: its point is there.
        bed.points.push(at_snapshot);
    }
    let want = format!("incremental {}", bed.points.len());
    assert_eq!(next.level(), want, "{when}: {}\n{}\nbefore:\n{}", next.why(), next.log, ended.log);
    bed.points.note(bed.lab, &bed.vm);
    bed.points.assert_newest(bed.lab, &bed.dir(), 2);
    assert_eq!(bed.vm.checkpoints().len(), bed.points.len(), "{when}");
    bed.vm.wait_until_free_for(FREE_FOR, FREE_LIMIT);
    bed.assert_tidy(&when);
    assert_eq!(sockets_of(pid), Vec::<std::path::PathBuf>::new(), "{when}");
}

/// How long nothing must be left: libvirt may still be at a job that was asked for just before the program died.
const FREE_FOR: Duration = Duration::from_millis(300);

/// On a busy machine the guard may not even have begun, and libvirt ends the jobs of all VMs in one thread; how soon a
/// guest must be free is tested elsewhere.
const FREE_LIMIT: Duration = Duration::from_secs(100);
