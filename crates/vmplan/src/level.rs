//! Which backup a domain gets, why, and what must be cleared away before it: the decision table.
//!
//! | domain | chain on disk | libvirt | decision |
//! |---|---|---|---|
//! | runs, and no disk of it keeps dirty bitmaps | any | any | copy; what is there is archived |
//! | runs | any | a checkpoint that is not ours | refuse, name it |
//! | runs | none, or a copy | any of ours | full, old checkpoints go; a copy is archived |
//! | runs | chain | last checkpoint there, bitmaps sound | incremental |
//! | runs | chain | as above, but a disk has a new image of the same size | incremental, with all of that disk |
//! | runs | chain | last checkpoint gone, its bitmaps alive | libvirt gets it back; incremental |
//! | runs | chain without the XML of a checkpoint | the checkpoint, beside others of the chain | the XML is written; incremental |
//! | runs | chain | last checkpoint gone, those of a newer chain there | full, chain archived |
//! | runs | chain | last checkpoint or bitmap gone, or the chain's list damaged | full, chain archived; refused when recovery is off |
//! | runs | chain | bitmaps sound, but an image without the chain's marker, or with that of another disk | as the row above |
//! | runs | chain | bitmaps sound, but its increment found a disk changed where they say nothing | as the row above |
//! | runs | chain with a stream missing or damaged | any of ours | full, chain archived |
//! | runs | chain, of zstd streams where others are asked for, or the reverse | any of ours | full, chain archived |
//! | runs | chain, a disk was resized or converted, or no disk goes on | any of ours | full, chain archived |
//! | runs | chain of another VM of that name | any of ours | full, chain archived |
//! | runs | chain, at its limit or on the day of fulls | any of ours | full, chain archived |
//! | shut off | its newest point is of the images as they are, as its note says or all that is known | any of ours | skip |
//! | shut off, to be incremental, nothing against starting it, a disk of it keeps dirty bitmaps | as above | as above | as for one that runs |
//! | shut off | otherwise | any of ours | copy; what is there is archived |
//!
//! What is archived is moved as it is, restorable as far as it was. The first row that fits counts, from above. Where no disk can
//! be or is to be copied, a copy is the definition alone.

use vmstream::chain::CheckpointName;

use super::facts::{Broken, CheckpointFacts, DiskFacts, Facts, ImageFacts, OfflineFacts, Origin};
use super::plan::{Decision, Note, Plan, Refusal, Repair, UnseenChange, Why};
use super::rotation::Placement;
use super::unnoted_copy::Doubt;
use crate::{AutoRecovery, OfflineMode, RotationPolicy};

/// Chooses what a domain gets.
pub fn plan_backup(seen: &Facts) -> Plan {
    let plan = if seen.active { plan_live(seen) } else { plan_offline(seen) };
    Plan { notes: notes(seen, &plan.decision), ..plan }
}

/// Whether there can be a chain: a checkpoint belongs to the bitmaps of some disk.
fn keeps_bitmaps(seen: &Facts) -> bool {
    seen.disks.iter().any(|disk| disk.keeps_bitmaps)
}

fn plan_live(seen: &Facts) -> Plan {
    if !keeps_bitmaps(seen) {
        // It needs no checkpoint, so those of others are no matter. Ours go with the next full.
        return copy(seen, Why::NoBitmaps);
    }
    let foreign: Vec<String> =
        seen.checkpoints.iter().filter(|c| c.origin == Origin::Foreign).map(|c| c.name.clone()).collect();
    if !foreign.is_empty() {
        return refuse(Refusal::ForeignCheckpoints(foreign), Why::ChainContinues);
    }
    match continue_from(seen) {
        Ok((parent, name)) => {
            let older = |c: &&CheckpointFacts| c.origin == Origin::OlderChain;
            let drop_checkpoints = seen.checkpoints.iter().filter(older).map(|c| c.name.clone()).collect();
            let decision = Decision::Incremental { parent, name };
            let redefine = seen.redefinable.iter().cloned().map(Repair::RedefineCheckpoint);
            let write = seen.chain.lost_xml.iter().cloned().map(Repair::WriteCheckpointXml);
            let repairs = redefine.chain(write).collect();
            Plan { drop_checkpoints, repairs, ..nothing_else(decision, Why::ChainContinues) }
        }
        Err(why) if seen.rules.recovery != AutoRecovery::Yes && is_corruption(&why, seen) => {
            refuse(Refusal::RecoveryOff, why)
        }
        Err(why) => Plan {
            drop_checkpoints: seen.checkpoints.iter().map(|c| c.name.clone()).collect(),
            ..nothing_else(Decision::Full { archive: seen.chain.has_files }, why)
        },
    }
}

/// A copy of all that can be had.
fn copy(seen: &Facts, why: Why) -> Plan {
    let why = if seen.copies_disks { why } else { Why::DefinitionOnly };
    nothing_else(Decision::Copy { archive: seen.chain.has_files }, why)
}

fn refuse(refusal: Refusal, why: Why) -> Plan {
    nothing_else(Decision::Refuse(refusal), why)
}

fn nothing_else(decision: Decision, why: Why) -> Plan {
    Plan { decision, why, start: false, drop_checkpoints: vec![], repairs: vec![], notes: vec![] }
}

/// Whether this is what ENABLE_AUTO_RECOVERY_ON_CHECKPOINT_CORRUPTION speaks of. Missing data is not: refusing a new full would
/// bring nothing back.
fn is_corruption(why: &Why, seen: &Facts) -> bool {
    match why {
        Why::CheckpointLost(_) | Why::BitmapLost(_) => true,
        Why::DiskPutBack(_) | Why::DiskExchanged { .. } | Why::ChangedUnseen { .. } => true,
        Why::ChainBroken(_) => matches!(seen.chain.broken, Some(Broken::List(_))),
        _ => false,
    }
}

/// The last point and the next name, or why the chain cannot go on.
fn continue_from(seen: &Facts) -> Result<(CheckpointName, CheckpointName), Why> {
    let chain = &seen.chain;
    if let Some(UnseenChange { disk, at, .. }) = &seen.unseen_change {
        return Err(Why::ChangedUnseen { disk: disk.clone(), at: *at });
    }
    if let Some(message) = &seen.failed {
        return Err(Why::LastTryFailed(message.clone()));
    }
    if chain.is_copy {
        let doubt = unchanged(seen).err().flatten();
        return Err(doubt.map_or(Why::AfterCopy, |doubt| Why::AfterCopyInDoubt(doubt.to_string())));
    }
    if let Some(Broken::List(message) | Broken::Data(message)) = &chain.broken {
        return Err(Why::ChainBroken(message.clone()));
    }
    let Some(&parent) = chain.points.last() else { return Err(no_chain(&seen.placement)) };
    if let Some(uuid) = &chain.other_vm {
        return Err(Why::OtherVm(uuid.clone()));
    }
    let is_known = seen.checkpoints.iter().any(|c| c.origin == Origin::Chain(parent));
    if !is_known && !seen.redefinable.contains(&parent.to_string()) {
        let elsewhere = seen.checkpoints.iter().any(|c| c.origin == Origin::OlderChain);
        return Err(if elsewhere { Why::WasElsewhere } else { Why::CheckpointLost(parent.to_string()) });
    }
    if let Some(message) = &seen.bitmap_fault {
        return Err(Why::BitmapLost(message.clone()));
    }
    for DiskFacts { target, image, .. } in &seen.disks {
        let target = target.clone();
        match image {
            ImageFacts::Own | ImageFacts::Replaced => {}
            ImageFacts::OfDisk(of) => return Err(Why::DiskExchanged { target, of: of.clone() }),
            ImageFacts::PutBack => return Err(Why::DiskPutBack(target)),
        }
    }
    if chain.has_other_suffix {
        return Err(Why::OtherCompression);
    }
    if let Some(disk) = seen.disks.iter().find(|d| d.size_in_chain.is_some_and(|before| d.size != before)) {
        return Err(Why::DiskResized(disk.target.clone()));
    }
    if let Some(disk) = seen.disks.iter().find(|d| d.raw_in_chain) {
        return Err(Why::DiskConverted(disk.target.clone()));
    }
    if !seen.disks.iter().any(|d| d.has_bitmap) {
        return Err(Why::OtherDisks);
    }
    if let Some(why) = planned_end(seen) {
        return Err(why);
    }
    let name =
        parent.next().ok_or_else(|| Why::ChainBroken("it has no room for one more point".to_owned()))?;
    Ok((parent, name))
}

/// Why a folder has no chain yet.
fn no_chain(placement: &Placement) -> Why {
    match &placement.previous {
        Some(previous) => Why::NewPeriod(previous.clone()),
        None if placement.other_policies => Why::NewPolicy(placement.policy),
        None => Why::NoChain,
    }
}

/// Why a chain that could go on ends all the same.
fn planned_end(seen: &Facts) -> Option<Why> {
    let (chain, rules, placement) = (&seen.chain, &seen.rules, &seen.placement);
    match placement.policy {
        RotationPolicy::Accumulate => {
            let limit = rules.hard_limit as usize;
            (chain.points.len() >= limit).then_some(Why::ChainLimit(chain.points.len()))
        }
        RotationPolicy::Weekly | RotationPolicy::Monthly => {
            let today = placement.today;
            let day = rules.full_day.min(today.days_in_month().unsigned_abs().into());
            let due = u32::from(today.day().unsigned_abs()) == day;
            (due && chain.began.is_some_and(|began| began < today)).then_some(Why::FullDay(rules.full_day))
        }
        RotationPolicy::Daily | RotationPolicy::Never => None,
    }
}

fn notes(seen: &Facts, decision: &Decision) -> Vec<Note> {
    let mut notes = Vec::new();
    let placement = &seen.placement;
    if placement.clock_behind {
        notes.push(Note::ClockBehind { period: placement.period.clone(), today: placement.today });
    }
    if let (Decision::Copy { .. }, OfflineMode::Incremental, Some(reason)) =
        (decision, seen.rules.offline_mode, &seen.obstacle)
    {
        notes.push(Note::NotStarted(reason.clone()));
    }
    if matches!(decision, Decision::Full { archive: true } | Decision::Copy { archive: true }) {
        let found = seen.unseen_change.as_ref();
        let noted = seen.noted_changes.iter().filter(|noted| found.is_none_or(|f| f.disk != noted.disk));
        notes.extend(found.into_iter().chain(noted).cloned().map(Note::ChangedUnseen));
    }
    if matches!(decision, Decision::Incremental { .. }) {
        notes.extend(seen.replaced().map(|disk| Note::DiskReplaced(disk.to_owned())));
    }
    let points = seen.chain.points.len() + 1;
    let is_long = placement.policy == RotationPolicy::Accumulate && points >= seen.rules.warn_depth as usize;
    if is_long && matches!(decision, Decision::Incremental { .. }) {
        notes.push(Note::LongChain { points, limit: seen.rules.hard_limit });
    }
    notes
}

fn plan_offline(seen: &Facts) -> Plan {
    let doubt = match unchanged(seen) {
        Ok(()) => return nothing_else(Decision::Skip, Why::Unchanged),
        Err(doubt) => doubt,
    };
    let is_incremental = seen.rules.offline_mode == OfflineMode::Incremental;
    if is_incremental && seen.obstacle.is_none() && keeps_bitmaps(seen) {
        let plan = plan_live(seen);
        let start = !matches!(plan.decision, Decision::Refuse(_));
        return Plan { start, ..plan };
    }
    // Checkpoints stay: libvirt cannot remove their bitmaps now, and the next run while the domain is up can.
    let why = doubt.map_or(Why::ShutOff, |doubt| Why::ShutOffInDoubt(doubt.to_string()));
    copy(seen, why)
}

/// Whether the newest point is of the images as they are, and may stand for them. `Err(Some(_))`: what speaks against a copy without
/// a note.
fn unchanged(seen: &Facts) -> Result<(), Option<Doubt>> {
    let broken = seen.chain.broken.as_ref().map(|broken| match broken {
        Broken::List(what) | Broken::Data(what) => what.as_str(),
    });
    match &seen.offline {
        _ if !seen.rules.skip_unchanged => Err(None),
        OfflineFacts::Unchanged if broken.is_none() => Ok(()),
        OfflineFacts::Unnoted(copy) => {
            copy.doubt(broken, seen.rules.offline_settle).map_or(Ok(()), |doubt| Err(Some(doubt)))
        }
        OfflineFacts::Unchanged | OfflineFacts::Changed => Err(None),
    }
}
