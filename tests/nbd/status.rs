//! Block status of a real server: holes, zeros, dirty bitmaps.

use std::collections::HashMap;

use vmhost::nbd::{BASE_ALLOCATION, Connection, DIRTY, HOLE, StatusExtent, ZERO};

use super::LONG;
use super::server::{MIB, Server};

/// Joins touching extents of equal flags: (offset, len, flags).
type Extents = Vec<(u64, u64, u32)>;

/// Asks in windows until each context is known to the end, as a caller must: with a cursor for each.
fn walk(conn: &mut Connection, contexts: &[&str], window: u64) -> HashMap<String, Extents> {
    let size = conn.size();
    let mut known: HashMap<String, Extents> = HashMap::new();
    for wanted in contexts {
        let mut cursor = 0;
        while cursor < size {
            let before = cursor;
            let len = window.min(size - cursor);
            conn.block_status(cursor, len, LONG, &mut |context, offset, extents| {
                assert_eq!(offset, before);
                if context == *wanted {
                    cursor = add(known.entry(context.to_owned()).or_default(), offset, extents, size);
                }
            })
            .unwrap();
            assert!(cursor > before, "no progress");
        }
    }
    known
}

fn add(known: &mut Extents, mut at: u64, extents: &[StatusExtent], size: u64) -> u64 {
    for extent in extents {
        let len = u64::from(extent.len).min(size - at);
        match known.last_mut() {
            Some(last) if last.2 == extent.flags => last.1 += len,
            _ => known.push((at, len, extent.flags)),
        }
        at += len;
    }
    at
}

const M: u64 = MIB as u64;

#[test]
fn tells_data_holes_and_zeros() {
    let commands = ["write -P 0x55 1M 1M", "write -P 0x66 6M 64k", "write -z 7M 64k"];
    let server = Server::qcow2(8 * MIB, &commands, &[]);
    let mut conn = Connection::open(&server.export, &[BASE_ALLOCATION]).unwrap();
    let hole = HOLE | ZERO;
    for window in [8 * M, 1 << 32, 300 << 10] {
        let known = walk(&mut conn, &[BASE_ALLOCATION], window);
        let data: Vec<_> = known[BASE_ALLOCATION].iter().filter(|e| e.2 & ZERO == 0).copied().collect();
        assert_eq!(data, [(M, M, 0), (6 * M, 64 << 10, 0)], "window {window}");
        assert_eq!(known[BASE_ALLOCATION][0], (0, M, hole), "window {window}");
        assert_eq!(known[BASE_ALLOCATION].iter().map(|e| e.1).sum::<u64>(), 8 * M, "window {window}");
    }
}

#[test]
fn tells_what_a_bitmap_saw_beside_the_allocation() {
    let commands = ["write -P 0x55 1M 1M", "bitmap cp1", "write -P 0x66 4M 128k", "write -z 1M 64k"];
    let server = Server::qcow2(8 * MIB, &commands, &["--bitmap", "cp1"]);
    let dirty = "qemu:dirty-bitmap:cp1";
    // Both orders: the sink hears the contexts as they were asked for.
    for contexts in [[BASE_ALLOCATION, dirty], [dirty, BASE_ALLOCATION]] {
        let mut conn = Connection::open(&server.export, &contexts).unwrap();
        let mut heard = Vec::new();
        conn.block_status(0, 8 * M, LONG, &mut |context, _, _| heard.push(context.to_owned())).unwrap();
        assert_eq!(heard, contexts);
        let known = walk(&mut conn, &contexts, 8 * M);
        let changed: Vec<_> = known[dirty].iter().filter(|e| e.2 & DIRTY != 0).copied().collect();
        assert_eq!(changed, [(M, 64 << 10, DIRTY), (4 * M, 128 << 10, DIRTY)]);
        let zeroed = known[BASE_ALLOCATION].iter().find(|e| e.0 <= M && M < e.0 + e.1).unwrap();
        assert!(zeroed.2 & ZERO != 0, "{zeroed:?}");
    }
}

#[test]
fn works_while_reads_are_in_flight() {
    let server = Server::qcow2(8 * MIB, &["write -P 0x55 1M 1M"], &[]);
    let mut conn = Connection::open(&server.export, &[BASE_ALLOCATION]).unwrap();
    for tag in 0..16 {
        conn.start_read(vec![0; MIB], M, tag).unwrap();
    }
    let known = walk(&mut conn, &[BASE_ALLOCATION], 8 * M);
    assert_eq!(known[BASE_ALLOCATION][1], (M, M, 0));
    assert_eq!(conn.in_flight(), 16, "block status hands out no reads");
    let mut tags = Vec::new();
    while conn.in_flight() > 0 {
        for read in conn.wait(LONG).unwrap() {
            assert!(read.result.is_ok() && read.buf.iter().all(|byte| *byte == 0x55));
            tags.push(read.tag);
        }
    }
    tags.sort_unstable();
    assert_eq!(tags, (0..16).collect::<Vec<_>>());
}

#[test]
fn a_range_outside_the_export_is_refused() {
    let server = Server::qcow2(MIB, &[], &[]);
    let mut conn = Connection::open(&server.export, &[BASE_ALLOCATION]).unwrap();
    for (offset, len) in [(M, 1), (0, M + 1), (u64::MAX, 1), (0, 0)] {
        let error = conn.block_status(offset, len, LONG, &mut |_, _, _| panic!("heard something"));
        assert!(error.is_err(), "{offset} {len}");
    }
    assert!(conn.is_alive());
}
