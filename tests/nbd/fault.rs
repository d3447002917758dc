//! Servers that die or fall silent, and connections dropped in the middle.

use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use vmhost::nbd::{BASE_ALLOCATION, Connection, Export, NbdError, Waiting};

use super::LONG;
use super::server::{MIB, Server, pattern, resident_kib};

const SHORT: Duration = Duration::from_millis(200);

#[test]
fn a_server_that_never_speaks_is_given_up() {
    let dir = tempfile::TempDir::new().unwrap();
    let socket = dir.path().join("sock");
    let _listener = UnixListener::bind(&socket).unwrap();
    let export = Export { socket, name: "vda".to_owned() };
    let begun = Instant::now();
    let error = Connection::open_within(&export, &[], SHORT).unwrap_err();
    assert!(matches!(error, NbdError::Timeout { waiting: Waiting::Handshake, .. }), "{error:?}");
    assert!((SHORT..LONG).contains(&begun.elapsed()));
}

#[test]
fn a_server_that_hangs_up_in_the_handshake_is_an_error() {
    let dir = tempfile::TempDir::new().unwrap();
    let socket = dir.path().join("sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let accept = std::thread::spawn(move || drop(listener.accept().unwrap()));
    let error = Connection::open(&Export { socket, name: "vda".to_owned() }, &[]).unwrap_err();
    accept.join().unwrap();
    assert!(matches!(error, NbdError::Open { .. }), "{error:?}");
}

#[test]
fn reads_in_flight_fail_when_the_server_is_killed() {
    let server = Server::raw(&pattern(8 * MIB));
    let mut conn = Connection::open(&server.export, &[BASE_ALLOCATION]).unwrap();
    server.pause();
    for tag in 0..8 {
        conn.start_read(vec![0; MIB], tag * MIB as u64, tag).unwrap();
    }
    assert!(conn.wait(SHORT).unwrap_err().is_timeout());
    server.kill();
    let mut tags = Vec::new();
    while conn.in_flight() > 0 {
        for read in conn.wait(LONG).unwrap() {
            assert!(matches!(read.result, Err(NbdError::Read { .. })), "{:?}", read.result);
            tags.push(read.tag);
        }
    }
    tags.sort_unstable();
    assert_eq!(tags, (0..8).collect::<Vec<_>>());
    assert!(!conn.is_alive() && conn.fd().is_err());
    assert!(conn.start_read(vec![0; 512], 0, 9).is_err());
    assert!(conn.block_status(0, 512, LONG, &mut |_, _, _| ()).is_err());
    conn.shutdown(LONG).unwrap();
}

#[test]
fn block_status_fails_when_the_server_is_killed() {
    let server = Server::raw(&pattern(MIB));
    let mut conn = Connection::open(&server.export, &[BASE_ALLOCATION]).unwrap();
    server.pause();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(SHORT);
            server.kill();
        });
        let error = conn.block_status(0, 512, LONG, &mut |_, _, _| ()).unwrap_err();
        assert!(matches!(error, NbdError::BlockStatus { .. }), "{error:?}");
    });
    assert!(!conn.is_alive());
}

#[test]
fn a_silent_server_times_out_and_the_connection_goes_on_after() {
    let content = pattern(MIB);
    let server = Server::raw(&content);
    let mut conn = Connection::open(&server.export, &[BASE_ALLOCATION]).unwrap();
    conn.start_read(vec![0xEE; MIB], 0, 1).unwrap();
    assert!(conn.wait(LONG).unwrap()[0].buf == content);
    server.pause();
    conn.start_read(vec![0xEE; 4096], 4096, 2).unwrap();
    let error = conn.block_status(0, 512, SHORT, &mut |_, _, _| panic!("no answer yet")).unwrap_err();
    assert!(
        matches!(error, NbdError::Timeout { waiting: Waiting::BlockStatus { offset: 0 }, .. }),
        "{error:?}"
    );
    let error = conn.wait(SHORT).unwrap_err();
    assert!(matches!(error, NbdError::Timeout { waiting: Waiting::Reads { in_flight: 1 }, .. }), "{error:?}");
    server.resume();
    let mut heard = 0;
    conn.block_status(512, 512, LONG, &mut |_, offset, extents| {
        assert_eq!((offset, extents.len()), (512, 1));
        heard += 1;
    })
    .unwrap();
    assert_eq!(heard, 1, "only the second request is heard");
    let done = conn.wait(LONG).unwrap();
    assert!(done.len() == 1 && done[0].tag == 2 && done[0].buf == content[4096..8192]);
    conn.shutdown(LONG).unwrap();
}

#[test]
fn shutdown_does_not_wait_for_a_silent_server() {
    let server = Server::raw(&pattern(MIB));
    let mut conn = Connection::open(&server.export, &[]).unwrap();
    server.pause();
    conn.start_read(vec![0; MIB], 0, 0).unwrap();
    assert!(conn.shutdown(SHORT).unwrap_err().is_timeout());
}

#[test]
fn dropping_with_reads_in_flight_frees_and_harms_nothing() {
    let content = pattern(16 * MIB);
    let server = Server::raw(&content);
    let open = || Connection::open(&server.export, &[BASE_ALLOCATION]).unwrap();
    let before = resident_kib();
    for round in 0..300u64 {
        let mut conn = open();
        for tag in 0..16 {
            conn.start_read(vec![0xEE; MIB], tag * MIB as u64, tag).unwrap();
        }
        // Some are dropped before, some in, some after the first replies.
        let _ = conn.wait(Duration::from_micros(round * 20));
        if round % 2 == 0 {
            let _ = conn.block_status(0, 512, Duration::ZERO, &mut |_, _, _| ());
        }
        drop(conn);
        let canary = vec![0xAA_u8; MIB];
        std::hint::black_box(&canary);
        assert!(canary.iter().all(|byte| *byte == 0xAA), "somebody writes into freed memory");
    }
    // 300 rounds lend 4.7 GiB; the bound leaves room for tests beside this one.
    let grown = resident_kib().saturating_sub(before);
    assert!(grown < 1 << 20, "{grown} KiB are not freed");
    let mut conn = open();
    conn.start_read(vec![0xEE; MIB], 0, 0).unwrap();
    assert!(conn.wait(LONG).unwrap()[0].buf == content[..MIB]);
}
