//! The daemon of one URI, and the connection to it.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use roxmltree::{Document, Node};
use virt::connect::Connect;

use super::{ErrorKind, LibvirtError, event_loop};

/// A daemon that does not answer for `KEEPALIVE_SECONDS` × `KEEPALIVE_COUNT` counts as gone.
const KEEPALIVE_SECONDS: i32 = 5;
const KEEPALIVE_COUNT: u32 = 4;

/// How long opening a connection may take.
const OPEN_LIMIT: Duration = Duration::from_secs(20);

/// How long a restarted daemon is waited for before a call gives up.
const RECONNECT_LIMIT: Duration = Duration::from_secs(30);
const RECONNECT_PAUSE: Duration = Duration::from_millis(200);

/// One libvirt daemon. Cheap to clone; all clones share one connection, renewed when it broke.
#[derive(Clone)]
pub struct Host {
    shared: Arc<Shared>,
}

struct Shared {
    uri: String,
    access: Access,
    /// `None` until the first call.
    connection: Mutex<Option<Arc<Connect>>>,
    /// A connection that a daemon has not answered yet: the next try goes on waiting for it, so that one that hangs for
    /// hours does not get more and more of them.
    opening: Mutex<Option<Receiver<Opened>>>,
}

/// What may be asked for over a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Full,
    /// Nothing can be changed. The daemon lets every user of the host have it.
    ReadOnly,
}

type Opened = Result<Connect, virt::error::Error>;

impl Host {
    /// Connects to the daemon behind `uri`, for example `qemu:///system`.
    pub fn connect(uri: &str) -> Result<Self, LibvirtError> {
        Self::connect_for(uri, Access::Full)
    }

    /// The same, and nothing can be changed over it.
    pub fn connect_read_only(uri: &str) -> Result<Self, LibvirtError> {
        Self::connect_for(uri, Access::ReadOnly)
    }

    fn connect_for(uri: &str, access: Access) -> Result<Self, LibvirtError> {
        let host = Self::not_yet_connected(uri, access);
        let connection = host.open()?;
        *host.lock() = Some(Arc::new(connection));
        Ok(host)
    }

    /// The daemon behind `uri`, to be connected to when it is first needed.
    pub fn unconnected(uri: &str) -> Self {
        Self::not_yet_connected(uri, Access::Full)
    }

    fn not_yet_connected(uri: &str, access: Access) -> Self {
        event_loop::start();
        let (connection, opening) = (Mutex::default(), Mutex::default());
        Self { shared: Arc::new(Shared { uri: uri.to_owned(), access, connection, opening }) }
    }

    /// The URI this host was connected with.
    pub fn uri(&self) -> &str {
        &self.shared.uri
    }

    /// The path of a storage volume, as `<source pool='…' volume='…'/>` names it.
    pub fn volume_path(&self, pool: &str, volume: &str) -> Result<String, LibvirtError> {
        self.with(&format!("find volume {volume} in pool {pool}"), |connection| {
            connection.lookup_storage_pool_by_name(pool)?.lookup_storage_vol_by_name(volume)?.path()
        })
    }

    /// Whether a storage pool is active: volumes of one that is not have no path.
    pub fn is_pool_active(&self, pool: &str) -> Result<bool, LibvirtError> {
        self.with(&format!("look at pool {pool}"), |on| on.lookup_storage_pool_by_name(pool)?.is_active())
    }

    /// User and group of the QEMU processes that the daemon starts; `None` where it gives them none of their own.
    pub fn qemu_user(&self) -> Result<Option<(u32, u32)>, LibvirtError> {
        let xml = self.with("tell what it can do", Connect::capabilities)?;
        Ok(qemu_user_of(&xml))
    }

    /// The version of the *daemon* (not of the client library) as `major * 1_000_000 + minor * 1000 + micro`.
    pub fn daemon_version(&self) -> Result<u32, LibvirtError> {
        // virConnectGetLibVersion answers with the version of the library on the daemon's side.
        self.with("tell its version", |connection| connection.lib_version())
    }

    /// Runs one call on the current connection. After a lost connection it reconnects and asks once more,
    /// so `call` must be safe to repeat.
    pub(super) fn with<T>(
        &self,
        doing: &str,
        call: impl Fn(&Connect) -> Result<T, virt::error::Error>,
    ) -> Result<T, LibvirtError> {
        match self.with_once(doing, &call) {
            Err(e) if e.is_connection_lost() => {
                self.reconnect()?;
                self.with_once(doing, &call)
            }
            other => other,
        }
    }

    /// Runs one call that must not be repeated blindly. A lost connection is an error of its own kind:
    /// the daemon may or may not have done what was asked.
    pub(super) fn with_once<T>(
        &self,
        doing: &str,
        call: impl Fn(&Connect) -> Result<T, virt::error::Error>,
    ) -> Result<T, LibvirtError> {
        let connection = self.lock().clone();
        let not_yet = || LibvirtError {
            doing: doing.to_owned(),
            kind: ErrorKind::ConnectionLost,
            message: format!("there is no connection to {}", self.shared.uri),
        };
        let connection = connection.ok_or_else(not_yet)?;
        call(&connection).map_err(|e| {
            let mut error = LibvirtError::new(doing, &e);
            // A broken socket shows as several error numbers; the connection itself knows best.
            if !connection.is_alive().unwrap_or(false) {
                error.kind = ErrorKind::ConnectionLost;
            }
            error
        })
    }

    /// Opens a new connection if the old one is dead, waiting up to 30 s for a daemon that is being restarted.
    pub fn reconnect(&self) -> Result<(), LibvirtError> {
        let mut connection = self.lock();
        if connection.as_ref().is_some_and(|connection| connection.is_alive().unwrap_or(false)) {
            return Ok(());
        }
        let deadline = Instant::now() + RECONNECT_LIMIT;
        loop {
            match self.open() {
                Ok(new) => {
                    *connection = Some(Arc::new(new));
                    return Ok(());
                }
                Err(e) if Instant::now() >= deadline => return Err(e),
                Err(_) => std::thread::sleep(RECONNECT_PAUSE),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<Connect>>> {
        self.shared.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> Result<Connect, LibvirtError> {
        let uri = &self.shared.uri;
        let doing = || format!("connect to {uri}");
        let mut opening = self.shared.opening.lock().unwrap_or_else(PoisonError::into_inner);
        let opened = opening.take().unwrap_or_else(|| begin_to_open(uri.clone(), self.shared.access));
        match opened.recv_timeout(OPEN_LIMIT) {
            Ok(opened) => {
                let connection = opened.map_err(|e| LibvirtError::new(doing(), &e))?;
                // A driver without keepalive (test:///) says so here; calls then have no limit of their own.
                let _ = connection.set_keep_alive(KEEPALIVE_SECONDS, KEEPALIVE_COUNT);
                Ok(connection)
            }
            Err(error) => {
                *opening = (error == RecvTimeoutError::Timeout).then_some(opened);
                Err(LibvirtError {
                    doing: doing(),
                    kind: ErrorKind::ConnectionLost,
                    message: format!("the daemon does not answer within {} s", OPEN_LIMIT.as_secs()),
                })
            }
        }
    }
}

/// Source: `<secmodel>` of "Driver capabilities XML format" in libvirt's documentation. A label is `+UID:+GID`.
fn qemu_user_of(capabilities: &str) -> Option<(u32, u32)> {
    let document = Document::parse(capabilities).ok()?;
    let text_is = |node: &Node<'_, '_>, tag: &str, text: &str| {
        node.children().any(|child| child.has_tag_name(tag) && child.text() == Some(text))
    };
    let model =
        document.descendants().find(|node| node.has_tag_name("secmodel") && text_is(node, "model", "dac"))?;
    let label = model.children().find(|node| node.has_tag_name("baselabel"))?.text()?;
    let (user, group) = label.split_once(':')?;
    let id = |text: &str| text.trim_start_matches('+').parse().ok();
    Some((id(user)?, id(group)?))
}

/// A daemon that hangs accepts the connection and never answers, and nothing limits virConnectOpen.
fn begin_to_open(uri: String, access: Access) -> Receiver<Opened> {
    let (tell, told) = mpsc::channel();
    let open = match access {
        Access::Full => Connect::open,
        Access::ReadOnly => Connect::open_read_only,
    };
    std::thread::spawn(move || tell.send(open(Some(&uri))));
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn qemus_user_is_told_by_the_model_that_has_users() {
        let none = "<secmodel><model>none</model><doi>0</doi></secmodel>";
        let dac = "<secmodel><model>dac</model><doi>0</doi><baselabel type='kvm'>+64055:+108</baselabel></secmodel>";
        for (models, want) in [(format!("{none}{dac}"), Some((64055, 108))), (none.to_owned(), None)] {
            let xml = format!("<capabilities><host>{models}</host></capabilities>");
            assert_eq!(qemu_user_of(&xml), want, "{xml}");
        }
        assert_eq!(qemu_user_of("no XML"), None);
    }
}
