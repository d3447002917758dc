//! A backup of a domain that runs, and of which no disk is copied: its definition, with what belongs to that.
//!
//! There is no moment that the guest would have to be held still for.

use crate::engine::claims::claimed::Claims;
use crate::engine::copy::CopiedDisk;
use crate::engine::look::image_state::ImageStates;
use crate::engine::run::facts::{Step, step};
use crate::engine::run::source::Source;
use crate::engine::snapshot::identity::Identity;

/// No disk.
pub(super) struct DefinitionAlone;

impl Source<'_> for DefinitionAlone {
    fn begin(&mut self, identity: &mut Identity, _: &mut Claims<'_>) -> Step {
        step(|_| {
            identity.read_held();
            Ok(())
        })
    }

    fn copy(&mut self, _: &Claims<'_>) -> Step<Vec<CopiedDisk>> {
        step(|_| Ok(vec![]))
    }

    fn end(&mut self, _: &mut Claims<'_>) -> Step<Option<ImageStates>> {
        step(|_| Ok(None))
    }
}
