//! One domain: state, definition, pause and resume, agent commands.

use virt::domain::Domain as VirtDomain;
use virt_sys as sys;

use super::{ErrorKind, Host, LibvirtError};

/// How often a process is asked to end in order: libvirt waits 10 s each time.
const GRACEFUL_TRIES: u32 = 6;

/// What a domain is doing, as far as a backup cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DomainState {
    /// CPUs run (or are blocked on I/O, or idle).
    Running,
    /// The process lives, CPUs stand still: paused by somebody, or suspended to RAM.
    Paused,
    /// No process.
    ShutOff,
    /// No process: it ended by a crash, a kill or a failed start, not by a shutdown.
    Crashed,
    /// The guest crashed, and its process is kept with the disks open (`on_crash=preserve`). It runs no more.
    Preserved,
    /// On its way to `ShutOff`.
    ShuttingDown,
    /// A state libvirt added later.
    Unknown(u32),
}

impl DomainState {
    /// True while a QEMU process has the disks open.
    pub fn is_active(self) -> bool {
        !matches!(self, Self::ShutOff | Self::Crashed)
    }

    /// Source: virDomainState and virDomainShutoffReason in `libvirt-domain.h`.
    ///
    /// libvirt says "crashed" with a process and without: `active` tells.
    fn from_raw(state: u32, reason: u32, active: bool) -> Self {
        match state {
            sys::VIR_DOMAIN_RUNNING | sys::VIR_DOMAIN_BLOCKED | sys::VIR_DOMAIN_NOSTATE => Self::Running,
            sys::VIR_DOMAIN_PAUSED | sys::VIR_DOMAIN_PMSUSPENDED => Self::Paused,
            sys::VIR_DOMAIN_SHUTDOWN => Self::ShuttingDown,
            sys::VIR_DOMAIN_CRASHED if active => Self::Preserved,
            sys::VIR_DOMAIN_CRASHED => Self::Crashed,
            sys::VIR_DOMAIN_SHUTOFF => match reason {
                sys::VIR_DOMAIN_SHUTOFF_CRASHED | sys::VIR_DOMAIN_SHUTOFF_FAILED => Self::Crashed,
                _ => Self::ShutOff,
            },
            other => Self::Unknown(other),
        }
    }
}

/// How a domain stands: two that are not the same tell that it was started, or ended, in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// What it is doing.
    pub state: DomainState,
    /// Why it does that (`virDomainShutoffReason` and the like).
    reason: u32,
    /// libvirt's number of its run.
    run: Option<u32>,
}

/// One domain, found again by its UUID at each call, so that it survives a restart of the daemon.
#[derive(Clone)]
pub struct Domain {
    host: Host,
    name: String,
    uuid: String,
}

impl Domain {
    pub(super) fn new(host: Host, name: String, uuid: String) -> Self {
        Self { host, name, uuid }
    }

    /// The name libvirt knows it by, as it is.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The UUID, with hyphens.
    pub fn uuid(&self) -> &str {
        &self.uuid
    }

    /// The daemon it lives on.
    pub fn host(&self) -> &Host {
        &self.host
    }

    pub(super) fn with<T>(
        &self,
        doing: &str,
        call: impl Fn(&VirtDomain) -> Result<T, virt::error::Error>,
    ) -> Result<T, LibvirtError> {
        self.host.with(&format!("{doing} of domain {}", self.name), |connection| {
            call(&connection.lookup_domain_by_uuid_string(&self.uuid)?)
        })
    }

    pub(super) fn with_once<T>(
        &self,
        doing: &str,
        call: impl Fn(&VirtDomain) -> Result<T, virt::error::Error>,
    ) -> Result<T, LibvirtError> {
        self.host.with_once(&format!("{doing} of domain {}", self.name), |connection| {
            call(&connection.lookup_domain_by_uuid_string(&self.uuid)?)
        })
    }

    /// What the domain is doing now.
    pub fn state(&self) -> Result<DomainState, LibvirtError> {
        let (state, reason) = self.raw_state()?;
        let active =
            state == sys::VIR_DOMAIN_CRASHED && self.with("tell the state", VirtDomain::is_active)?;
        Ok(DomainState::from_raw(state, reason, active))
    }

    /// How it stands now.
    pub fn standing(&self) -> Result<Standing, LibvirtError> {
        let (_, reason) = self.raw_state()?;
        Ok(Standing { state: self.state()?, reason, run: self.id()? })
    }

    /// True when it is paused because a person or a program asked for it, or has not run since it was started so; false
    /// for a guest that sleeps, or that an error stopped. A daemon that was away meanwhile does not know who asked.
    pub fn is_paused_on_request(&self) -> Result<bool, LibvirtError> {
        let (state, reason) = self.raw_state()?;
        let asked = matches!(
            reason,
            sys::VIR_DOMAIN_PAUSED_USER | sys::VIR_DOMAIN_PAUSED_STARTING_UP | sys::VIR_DOMAIN_PAUSED_UNKNOWN
        );
        Ok(state == sys::VIR_DOMAIN_PAUSED && asked)
    }

    /// True while its CPUs stand still because its memory came from a file or another host, or still comes. QEMU gives its
    /// images free only when it is resumed: until then no backup can read them, and no bitmap in them is seen.
    pub fn is_paused_by_migration(&self) -> Result<bool, LibvirtError> {
        Ok(self.raw_state()? == (sys::VIR_DOMAIN_PAUSED, sys::VIR_DOMAIN_PAUSED_MIGRATION))
    }

    fn raw_state(&self) -> Result<(u32, u32), LibvirtError> {
        self.with("tell the state", |domain| {
            let (mut state, mut reason) = (0, 0);
            // SAFETY: `domain` holds a reference for the whole call; both out-pointers are valid ints.
            let ret = unsafe { sys::virDomainGetState(domain.as_ptr(), &mut state, &mut reason, 0) };
            if ret < 0 {
                return Err(virt::error::Error::last_error());
            }
            // Both are enums starting at 0: a negative value is one libvirt does not have.
            let known = |value: i32| u32::try_from(value).unwrap_or(u32::MAX);
            Ok((known(state), known(reason)))
        })
    }

    /// The definition: of the running domain, or the persistent one (`inactive`).
    pub fn xml(&self, inactive: bool) -> Result<String, LibvirtError> {
        let flags = if inactive { sys::VIR_DOMAIN_XML_INACTIVE } else { 0 };
        self.with("read the definition", |domain| domain.xml_desc(flags))
    }

    /// The persistent definition with what libvirt shows only to those who may write: passwords of displays.
    pub fn xml_with_passwords(&self) -> Result<String, LibvirtError> {
        let flags = sys::VIR_DOMAIN_XML_INACTIVE | sys::VIR_DOMAIN_XML_SECURE;
        self.with("read the passwords in the definition", |domain| domain.xml_desc(flags))
    }

    /// Whether the host starts it at boot. A transient domain has no such flag.
    pub fn autostart(&self) -> Result<bool, LibvirtError> {
        self.with("read the autostart flag", VirtDomain::autostart)
    }

    /// Stops the CPUs.
    pub fn pause(&self) -> Result<(), LibvirtError> {
        self.with("pause the CPUs", VirtDomain::suspend)
    }

    /// Lets the CPUs run. A domain that already runs is no error.
    pub fn resume(&self) -> Result<(), LibvirtError> {
        match self.with("resume the CPUs", VirtDomain::resume) {
            Err(e) if e.kind == ErrorKind::InvalidState && self.state()? == DomainState::Running => Ok(()),
            other => other,
        }
    }

    /// Whether libvirt keeps its memory from a `virsh managedsave`. The next start continues from there and uses it up.
    pub fn has_managed_save(&self) -> Result<bool, LibvirtError> {
        self.with("look for the saved memory", |domain| domain.has_managed_save(0))
    }

    /// libvirt's number of this run of the domain; `None` while it is shut off.
    pub fn id(&self) -> Result<Option<u32>, LibvirtError> {
        self.with("read the number", |domain| Ok(domain.id()))
    }

    /// Starts it with its CPUs standing still, and returns its number. libvirt ends it when the connection to the
    /// daemon that this host has now is closed, also by our death.
    pub fn start_paused(&self) -> Result<u32, LibvirtError> {
        let flags = sys::VIR_DOMAIN_START_PAUSED | sys::VIR_DOMAIN_START_AUTODESTROY;
        let id = self.with_once("begin a paused run", |domain| {
            domain.create_with_flags(flags)?;
            Ok(domain.id())
        })?;
        id.ok_or_else(|| LibvirtError::still_there("begin a paused run", &self.name))
    }

    /// Ends its process as a power cut ends a machine, but lets QEMU close the images in order, with their bitmaps: killed
    /// before, it leaves bitmaps that nobody may use. So a process that does not end is killed only after a minute or
    /// more. One that is gone is no error.
    pub fn destroy(&self) -> Result<(), LibvirtError> {
        let end = |flags| self.with("end the run", |domain| domain.destroy_flags(flags));
        for _ in 0..GRACEFUL_TRIES {
            match end(sys::VIR_DOMAIN_DESTROY_GRACEFUL) {
                Ok(()) => return Ok(()),
                Err(e) if e.is_connection_lost() => return Err(e),
                Err(_) if !self.state()?.is_active() => return Ok(()),
                Err(_) => {}
            }
        }
        end(sys::VIR_DOMAIN_DESTROY_DEFAULT)
    }

    /// Sends one JSON command to the guest agent and returns its JSON answer.
    ///
    /// `limit_seconds` is how long libvirt waits for the answer. On time-out the command may still be
    /// carried out later in the guest.
    pub fn agent_command(&self, json: &str, limit_seconds: i32) -> Result<String, LibvirtError> {
        // Not repeated after a lost connection: the guest may have carried it out already.
        self.with_once("ask the guest agent", |domain| domain.qemu_agent_command(json, limit_seconds, 0))
    }

    /// Sends one JSON command to the QEMU monitor. libvirt marks the domain as tainted, so only repairs use it.
    pub fn monitor_command(&self, json: &str) -> Result<String, LibvirtError> {
        self.with_once("ask the QEMU monitor", |domain| domain.qemu_monitor_command(json, 0))
    }
}

impl Host {
    /// Every domain, running or not, sorted by name.
    pub fn domains(&self) -> Result<Vec<Domain>, LibvirtError> {
        let mut domains = self.with("list its domains", |connection| {
            let found = connection.list_all_domains(0)?;
            found.iter().map(|d| Ok((d.name()?, d.uuid_string()?))).collect::<Result<Vec<_>, _>>()
        })?;
        domains.sort();
        Ok(domains.into_iter().map(|(name, uuid)| Domain::new(self.clone(), name, uuid)).collect())
    }

    /// The domain with exactly this name.
    pub fn domain(&self, name: &str) -> Result<Domain, LibvirtError> {
        let uuid = self.with(&format!("find domain {name}"), |connection| {
            connection.lookup_domain_by_name(name)?.uuid_string()
        })?;
        Ok(Domain::new(self.clone(), name.to_owned(), uuid))
    }
}
