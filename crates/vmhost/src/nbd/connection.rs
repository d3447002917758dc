//! One connection to an export: opening, what was negotiated, ending.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use super::deadline::Deadline;
use super::error::{Cause, NbdError, Waiting};
use super::handle::{Cookie, Handle};
use super::{Export, MAX_REQUEST};

/// How long [`Connection::open`] waits for a server, all in all.
pub const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// What a caller wants to be told of a read once it is done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticket {
    pub(super) tag: u64,
    pub(super) offset: u64,
}

/// One connection to one export, with its reads in flight.
///
/// Dropping it closes the socket at once and frees the buffers of reads in flight.
#[derive(Debug)]
pub struct Connection {
    pub(super) handle: Handle,
    pub(super) export: Export,
    /// As asked and negotiated.
    pub(super) contexts: Vec<String>,
    pub(super) tickets: HashMap<Cookie, Ticket>,
    size: u64,
    max_request: u32,
    read_only: bool,
    multi_conn: bool,
    /// Reads can be had in one piece. QEMU ends the connection when it cannot read what it sends in several; of one
    /// piece it says that it cannot (`nbd_do_cmd_read`, `nbd_co_send_sparse_read`).
    pub(super) whole_reads: bool,
}

impl Connection {
    /// Connects and negotiates the export and every one of the meta contexts, within [`HANDSHAKE_LIMIT`].
    ///
    /// # Errors
    /// [`NbdError::NoContext`] names the first context the server does not have.
    pub fn open(export: &Export, contexts: &[&str]) -> Result<Self, NbdError> {
        Self::open_within(export, contexts, HANDSHAKE_LIMIT)
    }

    /// The same with another time limit.
    ///
    /// # Errors
    /// As [`Connection::open`].
    pub fn open_within(export: &Export, contexts: &[&str], limit: Duration) -> Result<Self, NbdError> {
        let nul = |what| {
            let export = export.clone();
            move |_| NbdError::Nul { export, what }
        };
        let socket = CString::new(export.socket.as_os_str().as_bytes()).map_err(nul("socket path"))?;
        let name = CString::new(export.name.as_str()).map_err(nul("export name"))?;
        let contexts = contexts
            .iter()
            .map(|context| CString::new(*context).map_err(nul("meta context")))
            .collect::<Result<Vec<_>, _>>()?;

        let mut handle = start(&socket, &name, &contexts).map_err(|source| open_failed(export, source))?;
        finish_handshake(&mut handle, export, Deadline::after(limit))?;
        check_contexts(&handle, export, &contexts)?;
        Self::negotiated(handle, export, &contexts).map_err(|source| open_failed(export, source))
    }

    fn negotiated(mut handle: Handle, export: &Export, contexts: &[CString]) -> Result<Self, Cause> {
        let whole_reads = handle.can_df()?;
        if whole_reads {
            handle.allow_whole_reads()?;
        }
        let max_request = match u32::try_from(handle.max_block_size()?) {
            Ok(0) | Err(_) => MAX_REQUEST,
            Ok(max) => max.min(MAX_REQUEST),
        };
        Ok(Self {
            size: handle.size()?,
            max_request,
            read_only: handle.is_read_only()?,
            multi_conn: handle.can_multi_conn()?,
            whole_reads,
            export: export.clone(),
            contexts: contexts.iter().map(|context| context.to_string_lossy().into_owned()).collect(),
            tickets: HashMap::new(),
            handle,
        })
    }

    /// What it is connected to.
    pub fn export(&self) -> &Export {
        &self.export
    }

    /// Bytes of the export. QEMU rounds an odd-sized image up to whole sectors of 512 bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether the server refuses writes.
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Whether further connections see the same data, so that reads may be spread over them.
    pub fn can_multi_conn(&self) -> bool {
        self.multi_conn
    }

    /// The most bytes of one read: the server's limit, at most [`MAX_REQUEST`].
    pub fn max_request(&self) -> u32 {
        self.max_request
    }

    /// Whether commands can still be sent. False once the server went away.
    pub fn is_alive(&self) -> bool {
        !self.handle.has_ended()
    }

    /// The socket, to wait for several connections at once; see [`Connection::wants`].
    ///
    /// # Errors
    /// [`NbdError::Lost`] when the connection has ended.
    pub fn fd(&self) -> Result<BorrowedFd<'_>, NbdError> {
        self.handle.fd().map_err(|source| NbdError::Lost { export: self.export.clone(), source })
    }

    /// Whether to wait until the socket can be written, and whether until it can be read. Ask anew before
    /// each wait, and afterwards call [`Connection::wait`] with no time.
    pub fn wants(&self) -> (bool, bool) {
        self.handle.wants()
    }

    /// Says goodbye and waits until the server has closed, which it does after answering what is in flight.
    ///
    /// # Errors
    /// [`NbdError::Timeout`] or [`NbdError::Lost`]; the socket is closed and the buffers are free all the same.
    pub fn shutdown(mut self, limit: Duration) -> Result<(), NbdError> {
        // Not `nbd_shutdown`: it waits for the server without a limit.
        let deadline = Deadline::after(limit);
        let lost = |source| NbdError::Lost { export: self.export.clone(), source };
        if self.handle.has_ended() {
            return Ok(());
        }
        self.handle.disconnect().map_err(lost)?;
        while !self.handle.has_ended() {
            let event = self.handle.poll(deadline.left()).map_err(lost)?;
            if !event && deadline.left().is_zero() {
                let waiting = Waiting::Reads { in_flight: self.tickets.len() };
                return Err(timeout(&self.export, waiting, &deadline));
            }
        }
        Ok(())
    }
}

pub(super) fn timeout(export: &Export, waiting: Waiting, deadline: &Deadline) -> NbdError {
    NbdError::Timeout { export: export.clone(), waiting, limit: deadline.limit() }
}

fn open_failed(export: &Export, source: Cause) -> NbdError {
    NbdError::Open { export: export.clone(), source }
}

fn start(socket: &CStr, name: &CStr, contexts: &[CString]) -> Result<Handle, Cause> {
    let mut handle = Handle::create()?;
    handle.set_export_name(name)?;
    for context in contexts {
        handle.add_meta_context(context)?;
    }
    handle.connect_unix(socket)?;
    Ok(handle)
}

fn finish_handshake(handle: &mut Handle, export: &Export, deadline: Deadline) -> Result<(), NbdError> {
    let failed = |source| open_failed(export, source);
    while handle.is_connecting().map_err(failed)? {
        let left = deadline.left();
        if left.is_zero() {
            return Err(timeout(export, Waiting::Handshake, &deadline));
        }
        handle.poll(left).map_err(failed)?;
    }
    if handle.has_ended() {
        let message = "The server closed the connection during the handshake".to_owned();
        return Err(failed(Cause { errno: 0, message }));
    }
    Ok(())
}

fn check_contexts(handle: &Handle, export: &Export, contexts: &[CString]) -> Result<(), NbdError> {
    let failed = |source| open_failed(export, source);
    if !contexts.is_empty() && !handle.has_structured_replies().map_err(failed)? {
        return Err(NbdError::NoStructuredReplies { export: export.clone() });
    }
    for context in contexts {
        if !handle.has_meta_context(context).map_err(failed)? {
            let context = context.to_string_lossy().into_owned();
            return Err(NbdError::NoContext { export: export.clone(), context });
        }
    }
    Ok(())
}
