//! What libvirt, QEMU and a guest's agent say.

use vmbackup::engine::copy::extent::{Context, SpanMerger};
use vmbackup::engine::domain::facts::parse_domain;
use vmbackup::engine::domain::xml::{self, JobDisk};
use vmhost::guest;
use vmhost::libvirt::changed_bytes;

use crate::structured::Structured;

/// Every disk is named once, as readable or with a reason; a path to boot from is absolute.
pub(crate) fn domain_xml(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    xml::uuid(text);
    match parse_domain(text) {
        Ok(facts) => {
            assert!(facts.boot_files.iter().all(|file| file.path.is_absolute()));
            assert!(facts.disks.skipped.iter().all(|skipped| !skipped.reason.to_string().is_empty()));
            let mut left_out = facts.disks.clone();
            left_out.select(
                &[],
                &left_out.readable.iter().map(|d| d.target.clone()).collect::<Vec<_>>(),
                &[],
            );
            assert!(left_out.readable.is_empty());
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// A checkpoint's XML, and the estimate of changes, which has the same form.
pub(crate) fn checkpoint_xml(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let disks = xml::disks_with_bitmap(text);
    assert!(disks.is_sorted_by(|one, next| one < next));
    xml::creation_time(text);
    changed_bytes(text);
}

/// A checkpoint that is asked for is one whose disks are read back.
pub(crate) fn checkpoint_round_trip(input: &[u8]) {
    let mut input = Structured(input);
    // A blank of another kind comes back as a blank, other control characters are no XML, and libvirt has neither.
    let plain =
        |text: String| text.replace(|c: char| c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}'), "_");
    let name = plain(input.text());
    let id = format!("{}-{}", input.byte(), input.byte());
    let chain = (input.byte() % 2 == 0).then(|| format!("{}-0", input.byte()));
    let owner = xml::Owner { run: id, chain };
    let (mut disks, mut want) = (Vec::new(), std::collections::BTreeSet::new());
    while !input.is_empty() && disks.len() < 32 {
        let target = plain(input.text());
        if input.byte() % 4 == 0 {
            disks.push(JobDisk::Skip { target });
            continue;
        }
        let checkpoint = input.byte() % 2 == 0;
        let since = (input.byte() % 2 == 0).then(|| plain(input.text()));
        if checkpoint {
            want.insert(target.clone());
        }
        let scratch = plain(input.text()).into();
        disks.push(JobDisk::Backup { target, scratch, secret: None, since, checkpoint });
    }
    let text = xml::checkpoint(&name, &owner, &disks);
    assert_eq!(xml::disks_with_bitmap(&text), want.into_iter().collect::<Vec<_>>(), "{text}");
    assert_eq!(xml::Owner::of(&text), Some(owner));
    assert_eq!(xml::creation_time(&text), None);
    // The job's XML for the same disks is read by nobody here but libvirt; it must be XML.
    let job = xml::backup("/var/tmp/s".as_ref(), Some(&name), &disks);
    assert_eq!(xml::disks_with_bitmap(&job), Vec::<String>::new());
    assert!(parse_domain(&job).is_ok(), "{job}");
}

/// The agent is inside the guest: it may say anything.
pub(crate) fn agent_reply(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let command = "guest-ping";
    match guest::read_reply(command, text) {
        Ok(answer) => {
            let again = serde_json::json!({ "return": answer }).to_string();
            assert_eq!(guest::read_reply(command, &again).unwrap(), answer);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Whatever a server answers, the spans cover the disk once, in order, up to where every context has answered.
pub(crate) fn block_status(input: &[u8]) {
    let mut input = Structured(input);
    let size = input.number(1 << 34);
    let incremental = input.byte() % 2 == 0;
    let mut merger = SpanMerger::new(size, incremental);
    let (mut at, mut last) = (0, None);
    while !input.is_empty() {
        let asked = merger.next_question();
        assert!(asked.is_none_or(|asked| asked < size));
        let context = if input.byte() % 2 == 0 { Context::Allocation } else { Context::DirtyBitmap };
        let offset = if input.byte() % 8 == 0 { input.number(size) } else { asked.unwrap_or(0) };
        let count = input.byte() % 8;
        let extents: Vec<(u32, u32)> = (0..count)
            .map(|_| (input.number(u64::from(u32::MAX)) as u32, u32::from(input.byte() % 4)))
            .collect();
        if let Err(error) = merger.reply(context, offset, &extents) {
            assert!(!error.to_string().is_empty());
            return;
        }
        for span in merger.spans() {
            assert_eq!(span.start, at);
            assert!(span.len > 0);
            at += span.len;
            last = Some(span.kind);
        }
        assert!(at <= size);
        assert_eq!(merger.next_question().is_none(), at == size, "{last:?}");
    }
}
