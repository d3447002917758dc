//! Everybody who could have an image open is looked for, and what that gives is one answer.

use super::answer::{Counts, InUse};
use super::{device, locks, opened};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::time::Duration;

/// A program that looks at a device when it appears or changes is done with it after this.
const GLANCE: Duration = Duration::from_millis(300);

/// Who may write to an image: its bytes may change while it is read.
///
/// Whoever only reads does not count, nor does this process. Looks at the descriptors of all processes: milliseconds.
pub fn writer_of(image: &Path) -> InUse {
    settled(is_device(image), || ask(image, Counts::Writers))
}

/// Who would be harmed if the image were replaced or overwritten: those who write, QEMUs that read it, and of a block
/// device all who have it open.
///
/// A plain reader of a file keeps the file that it has open, and does not count. What is not there is free.
pub fn user_of(image: &Path) -> InUse {
    settled(is_device(image), || ask(image, Counts::Everybody))
}

/// Asks again, of a device, after a glance: udev looks at one whenever it was written to, and what looks for LVM's or a
/// disk's own news may open it for writing.
fn settled(is_device: bool, ask: impl Fn() -> InUse) -> InUse {
    match ask() {
        InUse::By(_) if is_device => {
            std::thread::sleep(GLANCE);
            ask()
        }
        answer => answer,
    }
}

fn is_device(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|about| about.file_type().is_block_device())
}

fn ask(image: &Path, counts: Counts) -> InUse {
    let about = match fs::metadata(image) {
        Ok(about) => about,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return InUse::Free,
        Err(error) => return unreadable("it cannot be looked at", &error),
    };
    if about.file_type().is_block_device() {
        return of_device(&about, counts);
    }
    of_file(image, &about, counts)
}

fn of_file(image: &Path, about: &Metadata, counts: Counts) -> InUse {
    let locked = locks::held(image, counts);
    // Programs other than QEMU take no locks, and of QEMU's nobody learns whose they are.
    let seen = opened::by_others(&[opened::Wanted::file(about)], Counts::Writers);
    let unseen = match (locked, seen) {
        (_, Ok(Some(process))) => return InUse::By(process),
        (Ok(true), _) => return InUse::By("a QEMU that holds its lock".to_owned()),
        (Ok(false), _) => locks::unseen(about).map_or(InUse::Free, InUse::Unknown),
        (Err(error), _) => unreadable("its locks cannot be read", &error),
    };
    device::loop_over(image, counts).map_or(unseen, InUse::By)
}

/// What could not be asked: only where the user is not let, root would be.
fn unreadable(what: &str, error: &io::Error) -> InUse {
    let why = format!("{what}: {error}");
    if error.kind() == io::ErrorKind::PermissionDenied { InUse::Hidden(why) } else { InUse::Unknown(why) }
}

/// QEMU's locks on a device's node do not help: under libvirt each has a `/dev` of its own.
fn of_device(about: &Metadata, counts: Counts) -> InUse {
    let devices = device::related(about.rdev());
    if let Some(by) = device::mounted(&devices, counts) {
        return InUse::By(by);
    }
    let wanted: Vec<_> = devices.iter().map(|device| opened::Wanted::Device(*device)).collect();
    match opened::by_others(&wanted, counts) {
        Ok(Some(process)) => InUse::By(process),
        Ok(None) => device::unseen(about.rdev()).map_or(InUse::Free, InUse::Unknown),
        Err(opened::Hidden) => {
            InUse::Hidden("the open files of other users' processes cannot be seen".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn who_only_glances_at_a_device_does_not_use_it() {
        let by = || InUse::By("process 7 (smartd)".to_owned());
        let hidden = || InUse::Unknown("x".to_owned());
        // (device, answers, what counts, how often it was asked)
        let cases = [
            (true, [by(), InUse::Free], InUse::Free, 2),
            (true, [by(), by()], by(), 2),
            (true, [InUse::Free, by()], InUse::Free, 1),
            (true, [hidden(), by()], hidden(), 1),
            (false, [by(), InUse::Free], by(), 1),
        ];
        for (device, answers, want, times) in cases {
            let asked = Cell::new(0);
            let ask = || answers[asked.replace(asked.get() + 1)].clone();
            assert_eq!((settled(device, ask), asked.get()), (want, times), "{answers:?}");
        }
    }
}
