//! Block status: the raw extents of each meta context.

use std::sync::Arc;
use std::time::Duration;

use super::answer::{Answer, ContextAnswer, SharedAnswer, StatusExtent, lock};
use super::connection::timeout;
use super::deadline::Deadline;
use super::{Connection, NbdError, ReplyFlaw, Waiting};

/// Longest range of one request, aligned to any block size: 32-bit block status takes less than 4 GiB.
const MAX_STATUS_BYTES: u32 = 2 << 30;

impl Connection {
    /// Asks once for the extents from `offset` on, and gives the sink each context's answer, in the order
    /// the contexts were asked for at opening: `sink(context, offset, extents)`.
    ///
    /// The extents follow each other from `offset`. Each context goes as far as the server likes:
    /// it may stop short, differently for each, or reach past the range and even past the
    /// export's end. So the caller keeps one cursor for each context and asks again. A `len` above 2 GiB is asked as 2 GiB.
    /// The sink is called only when all answers are good, so an error leaves nothing half taken.
    ///
    /// # Errors
    /// [`NbdError::Timeout`]: the connection stays usable and the late answer is dropped.
    /// [`NbdError::BadStatus`] for an answer without progress, which would make a caller ask for ever.
    pub fn block_status(
        &mut self,
        offset: u64,
        len: u64,
        limit: Duration,
        sink: &mut dyn FnMut(&str, u64, &[StatusExtent]),
    ) -> Result<(), NbdError> {
        let deadline = Deadline::after(limit);
        let len = u32::try_from(len).unwrap_or(u32::MAX).min(MAX_STATUS_BYTES);
        let answer = Arc::new(SharedAnswer::default());
        self.await_status(offset, len, &answer, &deadline)?;
        let mut answer = std::mem::take(&mut *lock(&answer));
        let mut checked = Vec::with_capacity(self.contexts.len());
        for context in &self.contexts {
            let extents = take_checked(&mut answer, context).map_err(|flaw| NbdError::BadStatus {
                export: self.export.clone(),
                offset,
                context: context.clone(),
                flaw,
            })?;
            checked.push((context, extents));
        }
        for (context, extents) in checked {
            sink(context, offset, &extents);
        }
        Ok(())
    }

    fn await_status(
        &mut self,
        offset: u64,
        len: u32,
        answer: &Arc<SharedAnswer>,
        deadline: &Deadline,
    ) -> Result<(), NbdError> {
        let export = self.export.clone();
        let failed = |source| NbdError::BlockStatus { export: export.clone(), offset, source };
        let cookie = self.handle.ask_status(offset, len, Arc::downgrade(answer)).map_err(failed)?;
        loop {
            if let Some(done) = self.handle.status_done(cookie) {
                return done.map_err(failed);
            }
            if deadline.left().is_zero() {
                return Err(timeout(&export, Waiting::BlockStatus { offset }, deadline));
            }
            self.handle.poll(deadline.left()).map_err(failed)?;
        }
    }
}

/// The context's extents out of the answer, if the caller can go on with them.
fn take_checked(answer: &mut Answer, context: &str) -> Result<Vec<StatusExtent>, ReplyFlaw> {
    let found = answer.contexts.iter().position(|given| given.context == context);
    let ContextAnswer { extents, .. } = answer.contexts.swap_remove(found.ok_or(ReplyFlaw::Unanswered)?);
    let extents = extents?;
    if extents.is_empty() {
        return Err(ReplyFlaw::Empty);
    }
    if extents.iter().any(|extent| extent.len == 0) {
        return Err(ReplyFlaw::ZeroLength);
    }
    Ok(extents)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_answers_with_progress_pass() {
        let extent = |len| StatusExtent { len, flags: 3 };
        let cases = [
            ("good", Ok(vec![extent(1), extent(512)]), Ok(vec![extent(1), extent(512)])),
            ("none", Ok(vec![]), Err(ReplyFlaw::Empty)),
            ("zero first", Ok(vec![extent(0), extent(1)]), Err(ReplyFlaw::ZeroLength)),
            ("zero last", Ok(vec![extent(1), extent(0)]), Err(ReplyFlaw::ZeroLength)),
            ("torn", Err(ReplyFlaw::Torn), Err(ReplyFlaw::Torn)),
        ];
        for (name, given, want) in cases {
            let context = ContextAnswer { context: "asked".to_owned(), extents: given };
            let mut answer = Answer { contexts: vec![context] };
            assert_eq!(take_checked(&mut answer, "other"), Err(ReplyFlaw::Unanswered), "{name}");
            assert_eq!(take_checked(&mut answer, "asked"), want, "{name}");
        }
    }
}
