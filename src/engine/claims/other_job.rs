//! A job of somebody else that a backup cannot begin beside, and what helps: seen before the guest is touched.
//!
//! To end a job is advised only where its owner is dead. Must not live here: ending one.

use std::fs;
use std::path::{Path, PathBuf};

use roxmltree::Document;

use super::presence;
use vmhost::libvirt::{Domain, LibvirtError};

/// Names of sockets begin so: those of virtnbdbackup go on with its process number, ours with the id of a run.
const SOCKET_PREFIX: &str = "virtnbdbackup.";

/// Where Linux tells which sockets have a peer.
const UNIX_SOCKETS: &str = "/proc/net/unix";

/// A job that a backup cannot begin beside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OtherJob {
    /// A backup job.
    Backup {
        /// Its owner, as far as that can be known.
        owner: Owner,
    },
    /// A migration, a save, a dump: libvirt does not say whose.
    Other,
    /// A block job of one disk.
    Block {
        /// Disk target.
        target: String,
        /// What it does.
        kind: &'static str,
    },
}

/// Who began a backup job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// It lives.
    Lives(String),
    /// It has ended, and nobody reads from the job.
    Dead(String),
    /// Nobody here can tell.
    Unknown(PathBuf),
}

impl OtherJob {
    /// The job that a domain has, or one of these disks has.
    pub(in crate::engine) fn of<'a>(
        domain: &Domain,
        targets: impl IntoIterator<Item = &'a str>,
    ) -> Result<Option<Self>, LibvirtError> {
        if domain.has_job()? {
            let job = domain.backup_xml()?.and_then(|xml| socket_of(&xml)).map(|socket| {
                let runs = presence::runs_of(domain.uuid());
                let listed = fs::read_to_string(UNIX_SOCKETS).unwrap_or_default();
                Self::Backup { owner: owner_of(socket, &listed, &runs, &is_virtnbdbackup) }
            });
            return Ok(Some(job.unwrap_or(Self::Other)));
        }
        for target in targets {
            if let Some(kind) = domain.block_job(target)? {
                return Ok(Some(Self::Block { target: target.to_owned(), kind }));
            }
        }
        Ok(None)
    }

    /// Waiting does not help: nobody will end it.
    pub(in crate::engine) fn is_left_behind(&self) -> bool {
        matches!(self, Self::Backup { owner: Owner::Dead(_) })
    }

    /// What it is, and what helps.
    pub(in crate::engine) fn of_domain(&self, domain: &str) -> String {
        let again = "Try again when it has ended";
        match self {
            Self::Backup { owner: Owner::Lives(who) } => {
                format!("a backup by {who}, which is at work. {again}")
            }
            Self::Backup { owner: Owner::Dead(who) } => {
                format!(
                    "a backup whose owner, {who}, is dead. Nobody else will end it: virsh domjobabort '{domain}'"
                )
            }
            Self::Backup { owner: Owner::Unknown(socket) } => format!(
                "a backup through the socket {}, and nobody here can tell whose it is: see fuser -v '{}', and \
                 virsh domjobinfo '{domain}'. {again}",
                socket.display(),
                socket.display()
            ),
            Self::Other => {
                format!("a migration, a save or a dump. {again}; see: virsh domjobinfo '{domain}'")
            }
            Self::Block { target, kind } => format!(
                "{kind} of disk {target}, beside which libvirt begins no backup. {again}; see: virsh blockjob '{domain}' {target} \
                 --info. A copy, or a commit of the newest image, that is through (100 %) waits for somebody: virsh blockjob \
                 '{domain}' {target} --pivot goes on with the new image, --abort with the old one"
            ),
        }
    }
}

/// The socket of a pull job, from its description.
fn socket_of(xml: &str) -> Option<PathBuf> {
    let document = Document::parse(xml).ok()?;
    let server = document.root_element().children().find(|node| node.has_tag_name("server"))?;
    server.attribute("socket").map(PathBuf::from)
}

/// Who has the job with this socket. `listed` is Linux's list of sockets, `runs` the process numbers of runs of ours on that
/// domain, `is_virtnbdbackup` whether a process of that number is one.
fn owner_of(socket: PathBuf, listed: &str, runs: &[u32], is_virtnbdbackup: &dyn Fn(u32) -> bool) -> Owner {
    let name = socket.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let Some(id) = name.strip_prefix(SOCKET_PREFIX) else { return Owner::Unknown(socket) };
    let has_reader = has_peer(listed, &socket);
    match id.parse() {
        Ok(pid) => {
            let who = format!("virtnbdbackup (PID {pid})");
            // In a container its number is another one; who reads shows that it lives.
            if has_reader || is_virtnbdbackup(pid) { Owner::Lives(who) } else { Owner::Dead(who) }
        }
        Err(_) => match runs.first() {
            Some(pid) => Owner::Lives(format!("another vmbackup (PID {pid})")),
            None if has_reader => Owner::Unknown(socket),
            None => Owner::Dead("another run of vmbackup".to_owned()),
        },
    }
}

/// Whether somebody is connected to a socket: one with this path that does not listen, and has the state "connected".
///
/// Source: proc_net(5) and `unix_seq_show` of Linux: Num RefCount Protocol Flags Type St Inode Path.
fn has_peer(listed: &str, socket: &Path) -> bool {
    listed.lines().any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields.get(5) == Some(&"03") && fields.get(7).is_some_and(|path| Path::new(path) == socket)
    })
}

fn is_virtnbdbackup(pid: u32) -> bool {
    fs::read(format!("/proc/{pid}/cmdline"))
        .is_ok_and(|line| String::from_utf8_lossy(&line).contains("virtnbdbackup"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_dead_only_where_nobody_reads_and_its_process_is_gone() {
        const OLD: &str = "/var/tmp/virtnbdbackup.4711";
        const OURS: &str = "/var/tmp/virtnbdbackup.1a2b-3-4";
        let line =
            |state: &str, path: &str| format!("0: 00000002 00000000 00000000 0001 {state} 123 {path}\n");
        let head = "Num       RefCount Protocol Flags    Type St Inode Path\n";
        let listens = |path: &str| format!("{head}{}", line("01", path));
        let read = |path: &str| format!("{}{}", listens(path), line("03", path));
        let old = || "virtnbdbackup (PID 4711)".to_owned();
        type Case<'a> = (&'a str, String, &'a [u32], bool, Owner);
        let cases: [Case<'_>; 8] = [
            (OLD, listens(OLD), &[], true, Owner::Lives(old())),
            (OLD, listens(OLD), &[], false, Owner::Dead(old())),
            (OLD, read(OLD), &[], false, Owner::Lives(old())),
            (OLD, read("/var/tmp/virtnbdbackup.471"), &[], false, Owner::Dead(old())),
            (OURS, listens(OURS), &[7], false, Owner::Lives("another vmbackup (PID 7)".into())),
            (OURS, listens(OURS), &[], false, Owner::Dead("another run of vmbackup".into())),
            (OURS, read(OURS), &[], false, Owner::Unknown(OURS.into())),
            ("/x/other.sock", listens("/x/other.sock"), &[], false, Owner::Unknown("/x/other.sock".into())),
        ];
        for (socket, listed, runs, is_alive, want) in cases {
            let owner = owner_of(socket.into(), &listed, runs, &|pid| pid == 4711 && is_alive);
            assert_eq!(owner, want, "{socket}: {listed}");
        }
    }

    #[test]
    fn ending_a_job_is_advised_only_of_the_dead() {
        let jobs = [
            (OtherJob::Backup { owner: Owner::Lives("x".into()) }, false),
            (OtherJob::Backup { owner: Owner::Unknown("/x".into()) }, false),
            (OtherJob::Backup { owner: Owner::Dead("x".into()) }, true),
            (OtherJob::Other, false),
            (OtherJob::Block { target: "vda".into(), kind: "a block copy" }, false),
        ];
        for (job, want) in jobs {
            let said = job.of_domain("web");
            assert_eq!(said.contains("domjobabort"), want, "{said}");
            assert_eq!(job.is_left_behind(), want, "{said}");
        }
    }
}
