//! The disks of a VM that no backup has, though no setting leaves them out.

use super::SeenDomain;
use crate::catalog::{ChainFolder, left_out_of};
use crate::engine::domain::image_format::ImageFormat;
use crate::engine::domain::skip_reason::SkipReason;
use vmreport::LeftOutDisk;

/// Those that the newest restore point lacks which can be restored. None where there is no such point: then everything is missing.
pub(super) fn disks(
    domain: &SeenDomain,
    chain: Option<&ChainFolder>,
    raw_disks: bool,
) -> Result<Vec<LeftOutDisk>, String> {
    let disks = domain.disks.as_ref().map_err(Clone::clone)?;
    let newest = chain.and_then(|chain| Some((chain, chain.points.iter().rfind(|point| point.restorable)?)));
    let Some((chain, point)) = newest else { return Ok(vec![]) };
    let is_missing = |target: &str| !point.disks.iter().any(|disk| disk == target);
    let unreadable = disks.skipped.iter().filter(|disk| disk.reason.is_gap() && is_missing(&disk.target));
    let unreadable = unreadable.map(|disk| (disk.target.clone(), disk.reason.to_string()));
    let missed: Vec<_> = disks.readable.iter().filter(|disk| is_missing(&disk.target)).collect();
    let told = if missed.is_empty() { vec![] } else { left_out_of(&chain.folder, &point.name) };
    let missed = missed.into_iter().map(|disk| {
        let then = told.iter().find(|told| told.disk == disk.target);
        let why = match disk.format {
            ImageFormat::Raw if !raw_disks => SkipReason::Raw { incremental: false }.to_string(),
            _ => {
                let then = then.map_or_else(String::new, |then| format!(": {}", then.reason));
                format!("the newest restore point does not have it{then}")
            }
        };
        (disk.target.clone(), why)
    });
    let mut all: Vec<LeftOutDisk> =
        unreadable.chain(missed).map(|(disk, why)| LeftOutDisk { disk, why }).collect();
    all.sort_by(|a, b| (a.disk.len(), &a.disk).cmp(&(b.disk.len(), &b.disk)));
    Ok(all)
}
