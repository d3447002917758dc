//! The reader of sidecars. Checksums guard every part of one, so an input is sealed with right ones first: what a
//! mutation changes must reach the reader.

use std::collections::BTreeMap;

use vmstream::sidecar::{Ledger, RunKind, Sidecar, Tables, Value};

use crate::structured::Structured;

/// Offset of the first chunk, bytes of a chunk's head, bytes behind the sidecar's head, as the specification has them.
const START_LEN: usize = 12;
const CHUNK_HEAD: usize = 12;
const END_LEN: usize = 48;

/// Granules of a larger disk are not walked: their number is a claim.
const DISK_LEN: u64 = 64 << 20;

/// The parts of a sidecar without its checksums: the length of its head, the head, then chunks as they are.
pub(crate) fn unsealed(sidecar: &[u8]) -> Vec<u8> {
    let end = sidecar.len() - END_LEN;
    let head_len = u32::from_le_bytes(sidecar[end..end + 4].try_into().unwrap());
    let body_end = end - head_len as usize;
    let mut input = (head_len as u16).to_be_bytes().to_vec();
    input.extend_from_slice(&sidecar[body_end..end]);
    let mut at = START_LEN;
    while at < body_end {
        let len = u32::from_le_bytes(sidecar[at + 4..at + 8].try_into().unwrap()) as usize;
        input.extend_from_slice(&sidecar[at..at + 4]);
        input.extend_from_slice(&(len as u16).to_be_bytes());
        input.extend_from_slice(&sidecar[at + CHUNK_HEAD..][..len]);
        at += CHUNK_HEAD + len;
    }
    input
}

/// No writer cuts a disk into more granules, unless it has more than 2 PiB.
const MOST: u64 = 64 << 20;

fn short(input: &mut Structured<'_>) -> usize {
    input.bytes(2).iter().fold(0, |len, byte| len << 8 | usize::from(*byte))
}

/// The sidecar with those parts, and right checksums.
fn sealed(input: &[u8]) -> Vec<u8> {
    let mut input = Structured(input);
    let len = short(&mut input);
    let head = input.bytes(len);
    let mut sidecar = b"vmbkidx\n\x01\0\0\0".to_vec();
    while !input.is_empty() {
        let mut kind = [b' '; 4];
        let named = input.bytes(4);
        kind[..named.len()].copy_from_slice(named);
        let len = short(&mut input);
        let payload = input.bytes(len);
        sidecar.extend_from_slice(&kind);
        sidecar.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        sidecar.extend_from_slice(&crc32fast::hash(payload).to_le_bytes());
        sidecar.extend_from_slice(payload);
    }
    sidecar.extend_from_slice(head);
    sidecar.extend_from_slice(&(head.len() as u32).to_le_bytes());
    sidecar.extend_from_slice(&crc32fast::hash(head).to_le_bytes());
    let digest = blake3::hash(&sidecar);
    sidecar.extend_from_slice(digest.as_bytes());
    sidecar.extend_from_slice(b"vmbkend\n");
    sidecar
}

/// As it is, and sealed: blocks and runs are in order and inside the disk, and the table says what the runs say.
pub(crate) fn sidecar(input: &[u8]) {
    if let Ok(sidecar) = Sidecar::parse(input.to_vec()) {
        read(&sidecar);
    }
    match Sidecar::parse(sealed(input)) {
        Ok(sidecar) => {
            let good = read(&sidecar);
            assert_eq!(sidecar.check().is_ok(), good, "{:?}", sidecar.check());
            let granules = sidecar.head().granules;
            if granules.disk_size() <= DISK_LEN {
                table(sidecar);
            } else if granules.count() > MOST {
                let ledger = Ledger::of(Tables::new(vec![Some(sidecar)]), granules.disk_size());
                assert!(ledger.unwrap().is_none());
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Whether every record could be read.
fn read(sidecar: &Sidecar) -> bool {
    let head = sidecar.head();
    let granules = head.granules;
    let (mut good, mut disk_at, mut file_at) = (true, 0, 0);
    for block in sidecar.blocks() {
        let Ok(block) = block else {
            good = false;
            break;
        };
        assert!(block.disk().start >= disk_at && block.disk().start < block.disk().end);
        assert!(block.stored_at >= file_at);
        disk_at = block.disk().end;
        file_at = block.stored_at + u64::from(block.stored_len);
        assert!(disk_at <= granules.disk_size() && file_at <= head.stream.size);
    }
    let mut number = 0;
    for run in sidecar.runs() {
        let Ok(run) = run else {
            good = false;
            break;
        };
        assert!(run.first >= number && run.count() > 0);
        number = run.numbers().end;
        assert!(number <= granules.count());
        if let RunKind::Zero(_) = run.kind {
            assert_eq!(run.value(run.first, granules), Value::Known(granules.zero_sum(run.first)));
        }
    }
    good
}

fn table(sidecar: Sidecar) {
    let granules = sidecar.head().granules;
    let mut known = BTreeMap::new();
    let mut good = true;
    for run in sidecar.runs() {
        match run {
            Ok(run) => known.extend(run.numbers().map(|number| (number, run.value(number, granules)))),
            Err(_) => good = false,
        }
    }
    let digest = *sidecar.digest();
    let mut tables = Tables::new(vec![Some(sidecar)]);
    let (mut at, mut number) = (0, 0);
    while at < granules.disk_size() {
        let end = granules.disk_size().min(at + (32 << 20));
        let told = tables.window(&(at..end), |_, values| {
            let (_, values) = values.unwrap();
            for value in values {
                if good {
                    assert_eq!(
                        *value,
                        known.get(&number).copied().unwrap_or(Value::Unknown),
                        "granule {number}"
                    );
                }
                number += 1;
            }
        });
        if told.is_err() {
            assert!(!good, "{digest:?}");
            return;
        }
        at = end;
    }
    assert_eq!(number, granules.count());
    if let Ok(Some(ledger)) = Ledger::of(tables, granules.disk_size()) {
        // No content came: whatever is known of anything but zeros is wrong, and nothing is proven beyond the disk.
        let checked = ledger.finish();
        assert!(checked.proven_bytes + checked.unproven_bytes <= granules.disk_size());
    }
}
