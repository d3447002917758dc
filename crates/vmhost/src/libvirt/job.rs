//! Backup jobs of a domain.

use virt_sys as sys;

use super::checkpoint::{c_string, take_string};
use super::{Domain, ErrorKind, LibvirtError};

/// `VIR_DOMAIN_BACKUP_BEGIN_PRESERVE_SHUTDOWN_DOMAIN` is understood by daemons from this version on.
const PRESERVE_SHUTDOWN_SINCE: u32 = 11_010_000;

/// What a call that waits for its turn says of the jobs of a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobSeen {
    None,
    Active,
    /// There may be one, and libvirt cannot describe it yet.
    BeingSetUp,
}

impl Domain {
    /// Begins a pull-mode backup job and creates its checkpoint, if it has one, atomically for all disks.
    ///
    /// Where the daemon can, the job keeps the domain's process when the guest shuts down meanwhile.
    /// `has_files`: the scratch files are there already, all of them.
    ///
    /// # Errors
    /// On [`ErrorKind::ConnectionLost`] the job may have begun. When the NBD export fails after the
    /// transaction, libvirt keeps the checkpoint (its own comment in `qemu_backup.c`): delete it.
    pub fn backup_begin(
        &self,
        backup_xml: &str,
        checkpoint_xml: Option<&str>,
        has_files: bool,
    ) -> Result<(), LibvirtError> {
        let preserve = self.host().daemon_version()? >= PRESERVE_SHUTDOWN_SINCE;
        let preserve = if preserve { sys::VIR_DOMAIN_BACKUP_BEGIN_PRESERVE_SHUTDOWN_DOMAIN } else { 0 };
        let reuse = if has_files { sys::VIR_DOMAIN_BACKUP_BEGIN_REUSE_EXTERNAL } else { 0 };
        let flags = preserve | reuse;
        let (backup, checkpoint) = (c_string(backup_xml), checkpoint_xml.map(c_string));
        let checkpoint = checkpoint.as_ref().map_or(std::ptr::null(), |xml| xml.as_ptr());
        self.with_once("begin a backup job", |domain| {
            // SAFETY: the domain reference and both strings outlive the call; libvirt takes a null pointer for no checkpoint.
            let ret =
                unsafe { sys::virDomainBackupBegin(domain.as_ptr(), backup.as_ptr(), checkpoint, flags) };
            if ret < 0 { Err(virt::error::Error::last_error()) } else { Ok(()) }
        })
    }

    /// The XML of the running backup job, or `None` when there is none.
    pub fn backup_xml(&self) -> Result<Option<String>, LibvirtError> {
        let found = self.with("describe the backup job", |domain| {
            // SAFETY: the domain reference is live; the string that comes back is ours to free.
            unsafe { take_string(sys::virDomainBackupGetXMLDesc(domain.as_ptr(), 0)) }
        });
        match found {
            Ok(xml) => Ok(Some(xml)),
            // An inactive domain has no job either.
            Err(e) if matches!(e.kind, ErrorKind::NoBackup | ErrorKind::InvalidState) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Ends the running backup job. For pull mode this is the normal end, which libvirt reports as completed.
    pub fn abort_job(&self) -> Result<(), LibvirtError> {
        self.with("end the backup job", |domain| {
            // SAFETY: the domain reference is live.
            let ret = unsafe { sys::virDomainAbortJob(domain.as_ptr()) };
            if ret < 0 { Err(virt::error::Error::last_error()) } else { Ok(()) }
        })
    }

    /// True while a job of any kind holds the domain: a backup, a migration, a dump.
    pub fn has_job(&self) -> Result<bool, LibvirtError> {
        let none = i32::try_from(sys::VIR_DOMAIN_JOB_NONE).unwrap_or(0);
        self.with("look for a job", |domain| Ok(domain.job_info()?.r#type != none))
    }

    /// What a block job does that a disk has (a copy, a commit, a pull): libvirt begins no backup of it meanwhile, and such a job
    /// is none of [`Self::has_job`].
    pub fn block_job(&self, target: &str) -> Result<Option<&'static str>, LibvirtError> {
        let disk = c_string(target);
        self.with(&format!("look for a block job of disk {target}"), |domain| {
            let mut info = sys::virDomainBlockJobInfo { type_: 0, bandwidth: 0, cur: 0, end: 0 };
            // SAFETY: the domain reference, the name and the struct outlive the call.
            let ret = unsafe { sys::virDomainGetBlockJobInfo(domain.as_ptr(), disk.as_ptr(), &mut info, 0) };
            match ret {
                0 => Ok(None),
                1.. => Ok(Some(block_job_kind(info.type_))),
                _ => Err(virt::error::Error::last_error()),
            }
        })
    }

    /// Looks for a job in a call that waits for its turn among others that are under way, 30 s at most. A domain that is
    /// shut off has none.
    pub fn job_seen(&self) -> Result<JobSeen, LibvirtError> {
        let none = i32::try_from(sys::VIR_DOMAIN_JOB_NONE).unwrap_or(0);
        let seen = self.with("look at the job", Parameters::of_job);
        seen_of(seen.map(|parameters| parameters.kind != none))
    }
}

/// What libvirt tells of a job, as a list of its own: null where there is no job.
///
/// `virt::domain::Domain::job_stats` makes a vector of that list, also of a null pointer, which is undefined behaviour.
struct Parameters {
    kind: i32,
    list: sys::virTypedParameterPtr,
    count: i32,
}

impl Parameters {
    fn of_job(domain: &virt::domain::Domain) -> Result<Self, virt::error::Error> {
        let mut told = Self { kind: 0, list: std::ptr::null_mut(), count: 0 };
        // SAFETY: the domain reference is live, and the out-pointers are valid for the call.
        let ret = unsafe {
            sys::virDomainGetJobStats(domain.as_ptr(), &mut told.kind, &mut told.list, &mut told.count, 0)
        };
        if ret < 0 { Err(virt::error::Error::last_error()) } else { Ok(told) }
    }
}

impl Drop for Parameters {
    fn drop(&mut self) {
        // SAFETY: libvirt allocated the list for us, and frees it with all in it; it takes a null pointer too.
        unsafe { sys::virTypedParamsFree(self.list, self.count) };
    }
}

/// Source: virDomainBlockJobType in `libvirt-domain.h`.
fn block_job_kind(kind: i32) -> &'static str {
    match u32::try_from(kind) {
        Ok(sys::VIR_DOMAIN_BLOCK_JOB_TYPE_PULL) => "a block pull",
        Ok(sys::VIR_DOMAIN_BLOCK_JOB_TYPE_COPY) => "a block copy",
        Ok(sys::VIR_DOMAIN_BLOCK_JOB_TYPE_COMMIT | sys::VIR_DOMAIN_BLOCK_JOB_TYPE_ACTIVE_COMMIT) => {
            "a block commit"
        }
        Ok(sys::VIR_DOMAIN_BLOCK_JOB_TYPE_BACKUP) => "a backup",
        _ => "a block job",
    }
}

/// What the answer says of the job: whether libvirt tells of one, or why it does not.
fn seen_of(answer: Result<bool, LibvirtError>) -> Result<JobSeen, LibvirtError> {
    match answer {
        Ok(false) => Ok(JobSeen::None),
        Ok(true) => Ok(JobSeen::Active),
        Err(e) if e.kind == ErrorKind::InvalidState => Ok(JobSeen::None),
        // "backup job data missing" of `qemuBackupGetJobInfoStats` in libvirt's `qemu_backup.c`. By its number, for the
        // daemon says it in the language of the host. The other internal errors of this call do not tell either.
        Err(e) if e.kind == ErrorKind::Other(sys::VIR_ERR_INTERNAL_ERROR) => Ok(JobSeen::BeingSetUp),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_is_set_up_is_told_in_any_language() {
        let error = |kind, message: &str| LibvirtError { doing: "x".into(), kind, message: message.into() };
        let internal = ErrorKind::from_code(sys::VIR_ERR_INTERNAL_ERROR);
        let english = error(internal, "internal error: backup job data missing");
        let german = error(internal, "Interner Fehler: Daten des Sicherungsauftrags fehlen");
        for (answer, want) in [
            (Ok(true), Some(JobSeen::Active)),
            (Ok(false), Some(JobSeen::None)),
            (Err(english), Some(JobSeen::BeingSetUp)),
            (Err(german), Some(JobSeen::BeingSetUp)),
            (Err(error(ErrorKind::InvalidState, "x")), Some(JobSeen::None)),
            (Err(error(ErrorKind::Busy, "x")), None),
            (Err(error(ErrorKind::ConnectionLost, "x")), None),
        ] {
            let case = format!("{answer:?}");
            assert_eq!(seen_of(answer).ok(), want, "{case}");
        }
    }
}
