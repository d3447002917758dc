//! The NBD client against a real `qemu-nbd`, and against a server that breaks the protocol.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod fault;
mod hostile;
mod read;
mod server;
mod status;

use std::time::Duration;

use vmhost::nbd::{BASE_ALLOCATION, Connection, Export, MAX_REQUEST, NbdError};

use server::{MIB, Server, pattern};

/// Far more than anything here needs; a test that reaches it has found a hang.
const LONG: Duration = Duration::from_secs(30);

#[test]
fn tells_size_and_abilities() {
    let server = Server::raw(&pattern(3 * MIB));
    let conn = Connection::open(&server.export, &[BASE_ALLOCATION]).unwrap();
    assert_eq!(conn.size(), 3 * MIB as u64);
    assert_eq!(conn.export(), &server.export);
    assert_eq!(conn.max_request(), MAX_REQUEST);
    assert!(conn.is_read_only() && conn.can_multi_conn() && conn.is_alive());
    conn.shutdown(LONG).unwrap();
}

#[test]
fn several_connections_serve_one_export() {
    let server = Server::raw(&pattern(MIB));
    let connections: Vec<_> = (0..8).map(|_| Connection::open(&server.export, &[]).unwrap()).collect();
    for mut conn in connections {
        conn.start_read(vec![0; 4096], 4096, 0).unwrap();
        let done = conn.wait(LONG).unwrap();
        assert!(done[0].buf == pattern(MIB)[4096..8192]);
    }
}

#[test]
fn names_an_unknown_export() {
    let server = Server::raw(&pattern(MIB));
    let export = Export { name: "vdz".to_owned(), ..server.export.clone() };
    let error = Connection::open(&export, &[BASE_ALLOCATION]).unwrap_err();
    assert!(matches!(error, NbdError::Open { .. }), "{error:?}");
    assert_eq!(error.errno(), Some(rustix::io::Errno::NOENT.raw_os_error()), "{error:?}");
    let socket = export.socket.display();
    assert_eq!(error.to_string(), format!("Cannot open NBD export \"vdz\" at {socket}"));
}

#[test]
fn names_an_unknown_context() {
    let server = Server::raw(&pattern(MIB));
    let contexts = [BASE_ALLOCATION, "qemu:dirty-bitmap:gone"];
    let error = Connection::open(&server.export, &contexts).unwrap_err();
    assert!(
        matches!(&error, NbdError::NoContext { context, .. } if context == "qemu:dirty-bitmap:gone"),
        "{error:?}"
    );
}

#[test]
fn refuses_names_that_cannot_be() {
    let export = Export { socket: "/nonexistent/sock".into(), name: "a\0b".to_owned() };
    let error = Connection::open(&export, &[]).unwrap_err();
    assert!(matches!(error, NbdError::Nul { what: "export name", .. }), "{error:?}");
    let long = Export { socket: format!("/tmp/{}", "x".repeat(200)).into(), name: "vda".to_owned() };
    let error = Connection::open(&long, &[]).unwrap_err();
    assert_eq!(error.errno(), Some(rustix::io::Errno::NAMETOOLONG.raw_os_error()), "{error:?}");
    let absent = Export { socket: "/nonexistent/sock".into(), name: "vda".to_owned() };
    let error = Connection::open(&absent, &[]).unwrap_err();
    assert_eq!(error.errno(), Some(rustix::io::Errno::NOENT.raw_os_error()), "{error:?}");
}
