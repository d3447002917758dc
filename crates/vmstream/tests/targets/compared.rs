//! How a disk compares with an image.

use crate::golden::Golden;
use crate::program::{text, vmstream};
use std::os::unix::fs::FileExt;

#[test]
fn differences_are_told_with_their_ranges() {
    let golden = Golden::extract();
    let args = ["extract", ".", "--disk", "vda", "-o", "../vda.raw"];
    assert_eq!(vmstream(&golden.lz4(), &args).status.code(), Some(0));
    let image = golden.lz4().join("../vda.raw");
    let compare = || vmstream(&golden.lz4(), &["compare", ".", "../vda.raw", "--disk", "vda"]);
    let same = compare();
    let want = "Disk vda at virtnbdbackup.3 and ../vda.raw: the same (96.0 MiB)\n";
    assert_eq!((text(&same.stdout), same.status.code()), (want, Some(0)));

    let file = std::fs::OpenOptions::new().write(true).read(true).open(&image).unwrap();
    // In data, in a hole, and across the border of two windows.
    let mut byte = [0];
    file.read_exact_at(&mut byte, 1_000_000).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 1_000_000).unwrap();
    file.write_all_at(b"new", 90_000_000).unwrap();
    let border = 32 << 20;
    let mut around = [0; 1024];
    file.read_exact_at(&mut around, border - 512).unwrap();
    file.write_all_at(&around.map(|byte| !byte), border - 512).unwrap();
    let different = compare();
    let want = "\
different: disk bytes 999936..1000448 (512 B)
different: disk bytes 33553920..33554944 (1.00 KiB)
different: disk bytes 89999872..90000384 (512 B)
Disk vda at virtnbdbackup.3 and ../vda.raw: DIFFERENT in 2.00 KiB (96.0 MiB)
";
    assert_eq!((text(&different.stdout), different.status.code()), (want, Some(1)));

    // An image file that is longer is another, whatever the rest holds: other than a device, it need not be.
    let longer = golden.lz4().join("../longer.raw");
    let extract = ["extract", ".", "--disk", "vda", "-o", "../longer.raw"];
    assert_eq!(vmstream(&golden.lz4(), &extract).status.code(), Some(0));
    let long = std::fs::OpenOptions::new().write(true).open(&longer).unwrap();
    let of_longer = |len: u64, more: &[u8]| {
        long.set_len(100_663_296 + len).unwrap();
        long.write_all_at(more, 100_663_296 + len - more.len() as u64).unwrap();
        let done = vmstream(&golden.lz4(), &["compare", ".", "../longer.raw", "--disk", "vda"]);
        (done.status.code(), text(&done.stdout).to_owned())
    };
    let (exit, said) = of_longer(1 << 20, b"");
    assert_eq!(exit, Some(1), "{said}");
    assert!(said.contains("DIFFERENT in size (100663296 bytes against 101711872 in the image)"), "{said}");
    let (exit, said) = of_longer(1 << 20, b"more");
    assert!(exit == Some(1) && said.contains("different: disk bytes 101711360..101711872 (512 B)"), "{said}");

    file.set_len(100_663_296 - 512).unwrap();
    let shorter = compare();
    assert_eq!(shorter.status.code(), Some(1));
    assert!(text(&shorter.stdout).contains("100663296 bytes against 100662784 in the image"));
    let missing = vmstream(&golden.lz4(), &["compare", ".", "../nothing", "--disk", "vda"]);
    assert_eq!(missing.status.code(), Some(2));
}
