//! The libvirt daemon hangs, or stays away, while a guest is held and the program dies: the guest is helped when it is
//! back.

use std::time::Duration;

use lab::{Bed, Lab, Stopped, restart_daemon};
use random::Random;
use rustix::process::Signal;
use vmbackup::engine::fail_point::FailPoint;

#[test]
fn a_guest_is_helped_when_the_daemon_is_back() {
    let lab = Lab::alone("daemon_hangs");
    lab.configure(&[]);
    let mut bed = Bed::at_random(&lab, Random::from_environment("LAB_SEED"));
    bed.back_up("full");
    // Longer than a connection lasts (20 s) and than a new one is waited for (20 s).
    for (place, seconds) in [(FailPoint::Begun, 10), (FailPoint::Held, 45)] {
        bed.change();
        let run = bed.lab.run_held_at(&bed.vm, place);
        assert_eq!(bed.vm.state(), "paused");
        let daemon = Stopped::daemon();
        run.signal(Signal::KILL);
        std::thread::sleep(Duration::from_secs(seconds));
        drop(daemon);
        let took = bed.vm.wait_until_free(Duration::from_secs(40));
        println!("hung for {seconds} s at {place}: free {} ms after it went on", took.as_millis());
        drop(run);
        bed.back_up_next();
        bed.assert_tidy(place);
    }
    // The daemon dies while a guest is held, and comes back when the program is dead already.
    bed.change();
    let run = bed.lab.run_held_at(&bed.vm, FailPoint::Begun);
    let daemon = Stopped::daemon();
    daemon.kill();
    run.signal(Signal::KILL);
    std::thread::sleep(Duration::from_secs(35));
    restart_daemon();
    let took = bed.vm.wait_until_free(Duration::from_secs(40));
    println!("away for 35 s: free {} ms after it was back", took.as_millis());
    drop(run);
    bed.back_up_next();
    bed.points.assert_restorable(bed.lab, &bed.dir());
}
