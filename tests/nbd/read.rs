//! Reads: right bytes, several in flight, edges of the export.

use std::time::Duration;

use random::Random;
use rustix::event::{PollFd, PollFlags, poll};
use vmhost::nbd::{Connection, NbdError};

use super::LONG;
use super::server::{MIB, Server, pattern};

/// Keeps eight reads in flight until `count` are done, each compared with the file.
fn read_randomly(conn: &mut Connection, content: &[u8], count: u64) {
    let mut numbers = Random::from_seed(0x5EED);
    let mut ranges = Vec::new();
    let mut done = 0;
    while done < count {
        while conn.in_flight() < 8 && (ranges.len() as u64) < count {
            let len = 1 + numbers.below(300_000);
            let offset = numbers.below(content.len() as u64 - len);
            // Not zeros: a buffer that came back untouched must differ.
            conn.start_read(vec![0xEE; len as usize], offset, ranges.len() as u64).unwrap();
            ranges.push(offset as usize..(offset + len) as usize);
        }
        for read in conn.wait(LONG).unwrap() {
            read.result.unwrap();
            let range = ranges[read.tag as usize].clone();
            assert_eq!(read.offset, range.start as u64);
            assert!(read.buf == content[range.clone()], "wrong bytes in {range:?}");
            done += 1;
        }
    }
    assert_eq!((done, conn.in_flight()), (count, 0));
}

#[test]
fn random_ranges_with_eight_in_flight_equal_the_file() {
    let content = pattern(5 * MIB);
    let server = Server::raw(&content);
    read_randomly(&mut Connection::open(&server.export, &[]).unwrap(), &content, 400);
}

#[test]
fn a_connection_may_change_threads_with_reads_in_flight() {
    let content = pattern(MIB);
    let server = Server::raw(&content);
    let mut conn = Connection::open(&server.export, &[]).unwrap();
    conn.start_read(vec![0xEE; MIB], 0, 7).unwrap();
    let done = std::thread::spawn(move || conn.wait(LONG).unwrap()).join().unwrap();
    assert!(done[0].tag == 7 && done[0].buf == content);
}

#[test]
fn odd_sized_image_ends_in_zeros_up_to_the_sector() {
    let content = pattern(MIB + 517);
    let server = Server::raw(&content);
    let mut conn = Connection::open(&server.export, &[]).unwrap();
    assert_eq!(conn.size(), MIB as u64 + 1024);
    let mut want = content[MIB..].to_vec();
    want.resize(1024, 0);
    conn.start_read(vec![0xEE; 1024], MIB as u64, 0).unwrap();
    conn.start_read(vec![0xEE; 1], MIB as u64 + 516, 1).unwrap();
    let mut got = Vec::new();
    while conn.in_flight() > 0 {
        got.extend(conn.wait(LONG).unwrap());
    }
    got.sort_by_key(|read| read.tag);
    assert!(got.iter().all(|read| read.result.is_ok()));
    assert!(got[0].buf == want && got[1].buf == content[MIB + 516..]);
}

#[test]
fn reads_outside_the_export_or_of_a_wrong_size_are_refused() {
    let server = Server::raw(&pattern(MIB));
    let mut conn = Connection::open(&server.export, &[]).unwrap();
    let size = conn.size();
    for (offset, len) in [(size, 1), (size - 10, 11), (u64::MAX, 1), (u64::MAX - 5, 4096)] {
        let error = conn.start_read(vec![0; len], offset, 0).unwrap_err();
        assert!(matches!(error, NbdError::Read { offset: at, .. } if at == offset), "{error:?}");
    }
    for len in [0, conn.max_request() as usize + 1] {
        let error = conn.start_read(vec![0; len], 0, 0).unwrap_err();
        assert!(matches!(error, NbdError::ReadSize { .. }), "{error:?}");
    }
    assert_eq!(conn.in_flight(), 0);
    assert!(conn.wait(LONG).unwrap().is_empty(), "nothing in flight, nothing to wait for");
    read_randomly(&mut conn, &pattern(MIB), 20);
}

#[test]
fn one_read_of_the_largest_size() {
    let content = pattern(33 * MIB);
    let server = Server::raw(&content);
    let mut conn = Connection::open(&server.export, &[]).unwrap();
    conn.start_read(vec![0xEE; conn.max_request() as usize], MIB as u64, 0).unwrap();
    assert!(conn.wait(LONG).unwrap()[0].buf == content[MIB..]);
}

#[test]
fn two_connections_wait_in_one_poll() {
    let content = pattern(4 * MIB);
    let server = Server::raw(&content);
    let mut connections = [0, 1].map(|_| Connection::open(&server.export, &[]).unwrap());
    for (i, conn) in connections.iter_mut().enumerate() {
        conn.start_read(vec![0xEE; 2 * MIB], (i * 2 * MIB) as u64, i as u64).unwrap();
    }
    let mut got = [Vec::new(), Vec::new()];
    while got.iter().any(Vec::is_empty) {
        let ready = {
            let mut fds: Vec<_> = connections.iter().map(poll_fd).collect();
            poll(&mut fds, Some(&rustix::time::Timespec { tv_sec: 30, tv_nsec: 0 })).unwrap();
            fds.iter().map(|fd| !fd.revents().is_empty()).collect::<Vec<_>>()
        };
        assert!(ready.contains(&true), "neither answered");
        for (conn, _) in connections.iter_mut().zip(ready).filter(|(_, ready)| *ready) {
            match conn.wait(Duration::ZERO) {
                Ok(done) => done.into_iter().for_each(|read| got[read.tag as usize] = read.buf),
                Err(error) => assert!(error.is_timeout(), "{error:?}"),
            }
        }
    }
    assert!(got.concat() == content);
}

fn poll_fd(conn: &Connection) -> PollFd<'_> {
    let (write, read) = conn.wants();
    let mut flags = PollFlags::empty();
    flags.set(PollFlags::OUT, write);
    flags.set(PollFlags::IN, read);
    PollFd::from_borrowed_fd(conn.fd().unwrap(), flags)
}
