//! How many VMs ended how: one answer, which the table, the frame in the log, the session's status and the exit code go by.

use serde::Serialize;

use super::vm::{VmReport, VmResult};

/// What a VM counts as at the end of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// There is a new restore point, and all in it is whole.
    BackedUp,
    /// Its policy is `never`.
    Excluded,
    /// No restore point was needed.
    Skipped,
    /// There is no restore point, or one that holds a damaged image: somebody must look.
    Failed,
}

/// How many VMs ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Those with a restore point, all of it whole.
    pub backed_up: usize,
    /// Those that their policy excludes.
    pub excluded: usize,
    /// Those that needed none.
    pub skipped: usize,
    /// Those that somebody must look at.
    pub failed: usize,
}

/// What a session came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    #[serde(flatten)]
    pub counts: Counts,
    /// Bytes of the files that were written.
    pub file_bytes: u64,
    /// Bytes of the folders of these VMs now, with their archives.
    pub folder_bytes: u64,
    /// Warnings about VMs.
    pub warnings: usize,
}

impl VmResult {
    /// What it counts as. A VM that needed no restore point counts as failed too when its image is damaged.
    pub fn ending(&self) -> Ending {
        match self {
            Self::Ok { .. } => Ending::BackedUp,
            Self::Skipped { report } if report.damaged.is_empty() => Ending::Skipped,
            Self::Excluded { .. } => Ending::Excluded,
            Self::Skipped { .. } | Self::Damaged { .. } | Self::Failed(_) => Ending::Failed,
        }
    }
}

impl Counts {
    /// Counts them.
    pub fn of(vms: &[VmReport]) -> Self {
        let mut counts = Self::default();
        for vm in vms {
            *match vm.result.ending() {
                Ending::BackedUp => &mut counts.backed_up,
                Ending::Excluded => &mut counts.excluded,
                Ending::Skipped => &mut counts.skipped,
                Ending::Failed => &mut counts.failed,
            } += 1;
        }
        counts
    }
}

impl Totals {
    /// Sums them up.
    pub fn of(vms: &[VmReport]) -> Self {
        let reports = || vms.iter().filter_map(|vm| vm.result.report());
        Self {
            counts: Counts::of(vms),
            file_bytes: reports().map(|report| report.file_bytes()).sum(),
            folder_bytes: vms.iter().map(|vm| vm.folder_bytes).sum(),
            warnings: reports().map(|report| report.warnings.len()).sum(),
        }
    }
}

/// `4 backed up, 3 excluded, 2 skipped, 1 failed`.
impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { backed_up, excluded, skipped, failed } = self;
        write!(f, "{backed_up} backed up, {excluded} excluded, {skipped} skipped, {failed} failed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::literal;

    #[test]
    fn a_vm_counts_as_what_somebody_must_do_about_it() {
        use Ending::{BackedUp, Excluded, Failed, Skipped};
        let mut vms = literal::session().vms;
        let endings = |vms: &[VmReport]| vms.iter().map(|vm| vm.result.ending()).collect::<Vec<_>>();
        assert_eq!(endings(&vms), [BackedUp, Failed, Skipped, Excluded, Failed, Failed]);
        let VmResult::Skipped { report } = &mut vms[2].result else { panic!("{:?}", vms[2].result) };
        report.damaged.push("the image of disk vda is marked as corrupt".into());
        assert_eq!(endings(&vms)[2], Failed, "unchanged and damaged");
        assert_eq!(Counts::of(&vms), Counts { backed_up: 1, excluded: 1, skipped: 0, failed: 4 });
        assert_eq!(Counts::of(&vms).to_string(), "1 backed up, 1 excluded, 0 skipped, 4 failed");
    }
}
