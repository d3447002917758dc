//! Block devices: every byte goes there, and the rest of them stays.

use super::set_up::{Loop, recorded, sha256};
use crate::golden::Golden;
use crate::program::{text, vmstream};
use std::os::unix::fs::FileExt;

#[test]
fn a_block_device_gets_every_byte_and_keeps_its_rest() {
    let golden = Golden::extract();
    let (size, more) = (100_663_296usize, 1 << 20);
    let file = golden.root().join("device");
    std::fs::write(&file, vec![0xa5; size + more]).unwrap();
    let device = Loop::over(&file);
    let name = device.0.to_str().unwrap();
    let args = ["extract", ".", "--disk", "vda", "-o", name];
    let refused = vmstream(&golden.lz4(), &args);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("is a block device"), "{}", text(&refused.stderr));
    assert!(std::fs::read(&file).unwrap().iter().all(|byte| *byte == 0xa5));
    let qcow2 = vmstream(&golden.lz4(), &[&args[..], &["--force", "--format", "qcow2"]].concat());
    assert!(text(&qcow2.stderr).contains("takes the raw format only"), "{}", text(&qcow2.stderr));

    let done = vmstream(&golden.lz4(), &[&args[..], &["--force"]].concat());
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    // The rest of the device is no difference, and is not passed over in silence.
    let same = vmstream(&golden.lz4(), &["compare", ".", name, "--disk", "vda"]);
    let want = format!(
        "Disk vda at virtnbdbackup.3 and {name}: the same (96.0 MiB)\n\
         {name} is longer by 1.00 MiB: what is there was not looked at\n"
    );
    assert_eq!((text(&same.stdout), same.status.code()), (&want[..], Some(0)));
    let same = vmstream(&golden.lz4(), &["compare", ".", name, "--disk", "vda", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&same.stdout).unwrap();
    let numbers = ["different_bytes", "image_bytes", "rest_bytes"].map(|key| json[key].as_u64().unwrap());
    assert_eq!((numbers, &json["same"]), ([0, (size + more) as u64, more as u64], &true.into()));
    let written = std::fs::OpenOptions::new().write(true).open(&device.0).unwrap();
    written.write_all_at(b"other", 5_000_000).unwrap();
    let other = vmstream(&golden.lz4(), &["compare", ".", name, "--disk", "vda"]);
    assert_eq!(other.status.code(), Some(1), "{}", text(&other.stdout));
    drop(written);
    let again = vmstream(&golden.lz4(), &[&args[..], &["--force"]].concat());
    assert_eq!(again.status.code(), Some(0), "{}", text(&again.stderr));
    drop(device);
    let bytes = std::fs::read(&file).unwrap();
    assert!(bytes[size..].iter().all(|byte| *byte == 0xa5), "behind the disk");
    let image = std::fs::OpenOptions::new().write(true).open(&file).unwrap();
    image.set_len(size as u64).unwrap();
    let want = recorded(&golden).into_iter().find(|(point, disk, _)| point.ends_with('3') && disk == "vda");
    assert_eq!(sha256(&file), want.unwrap().2);
}

#[test]
fn a_device_that_is_too_small_is_not_touched() {
    let golden = Golden::extract();
    let file = golden.root().join("device");
    std::fs::write(&file, vec![0xa5; 1 << 20]).unwrap();
    let device = Loop::over(&file);
    let args = ["extract", ".", "--disk", "vda", "--force", "-o", device.0.to_str().unwrap()];
    let done = vmstream(&golden.lz4(), &args);
    assert_eq!(done.status.code(), Some(2));
    assert!(text(&done.stderr).contains("has 1048576 bytes, the disk has 100663296"));
    assert!(std::fs::read(&file).unwrap().iter().all(|byte| *byte == 0xa5));
}

#[test]
fn a_device_that_an_error_left_half_written_is_said_to_be() {
    let golden = Golden::extract();
    let file = golden.root().join("device");
    std::fs::write(&file, vec![0xa5; 100_663_296]).unwrap();
    let device = Loop::over(&file);
    let args = ["extract", ".", "--disk", "vda", "--force", "-o", device.0.to_str().unwrap()];
    let stream = golden.lz4().join("vda.full.data");
    let good = std::fs::read(&stream).unwrap();
    let said_of = |at: usize| {
        let mut bad = good.clone();
        bad[at] ^= 1;
        std::fs::write(&stream, bad).unwrap();
        let done = vmstream(&golden.lz4(), &args);
        assert_eq!(done.status.code(), Some(1), "{at}: {}", text(&done.stderr));
        text(&done.stderr).to_owned()
    };
    let late = said_of(good.len() - 5000);
    assert!(late.contains("was overwritten, in part at least") && late.contains("vda.full.data"), "{late}");
    // The meta frame: nothing was written.
    let early = said_of(20);
    assert!(!early.contains("overwritten"), "{early}");
}
