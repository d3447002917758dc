//! Where something that can be removed stands below the backup path.

use std::fmt;
use std::path::PathBuf;
use vmplan::retention::PeriodId;

use serde::Serialize;

pub(super) use vmstore::layout::ARCHIVES;

/// A period of a VM, or one archived chain of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Place {
    pub vm: String,
    pub period: PeriodId,
    /// The archived chain; `None` for the period with all that is in it.
    pub archive: Option<String>,
}

impl Place {
    /// A whole period.
    pub fn period(vm: &str, period: &PeriodId) -> Self {
        Self { vm: vm.to_owned(), period: period.clone(), archive: None }
    }

    pub fn archive(vm: &str, period: &PeriodId, chain: &str) -> Self {
        Self { archive: Some(chain.to_owned()), ..Self::period(vm, period) }
    }

    /// True for a set that is this, or that goes when this goes.
    pub fn holds(&self, set: &Self) -> bool {
        let same_period = self.vm == set.vm && self.period == set.period;
        same_period && (self.archive.is_none() || self.archive == set.archive)
    }

    /// The folder, one component each. Of a chain that accumulates this is the VM's folder, which holds more than it.
    pub fn parts(&self) -> Vec<&str> {
        let mut parts = vec![self.vm.as_str()];
        parts.extend(self.period.folder());
        if let Some(chain) = &self.archive {
            parts.extend([ARCHIVES, chain.as_str()]);
        }
        parts
    }

    /// The folder, below the backup path.
    pub fn path(&self) -> PathBuf {
        self.parts().iter().collect()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.archive {
            None => write!(f, "period {} for {}", self.period, self.vm),
            Some(chain) => write!(f, "chain {chain} in {}/{}", self.vm, self.period),
        }
    }
}
