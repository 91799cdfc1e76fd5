//! Looks for an error of this crate's or of Diesel's in one that may wrap it.

use std::error::Error as StdError;
use std::iter;

use diesel::result::Error;

use super::LockError;
use super::classify::{Condition, condition};

/// This error and its sources.
pub(crate) fn chain<'e>(
    error: &'e (dyn StdError + 'static),
) -> impl Iterator<Item = &'e (dyn StdError + 'static)> {
    iter::successors(Some(error), |&error| error.source())
}

/// What this error and its sources say.
#[cfg(feature = "harness")]
pub(crate) fn words(error: &(dyn StdError + 'static)) -> String {
    let words: Vec<_> = chain(error).map(ToString::to_string).collect();
    words.join(": ")
}

/// Whether [`LockError::is_retryable`] is so for the first error that is known in the chain.
pub(crate) fn is_retryable(error: &(dyn StdError + 'static)) -> bool {
    first_known(error, LockError::is_retryable, |condition| {
        matches!(
            condition,
            Condition::Deadlock { .. } | Condition::SerializationFailure
        )
    })
}

/// Whether the first error that is known in the chain is a deadlock.
#[cfg(feature = "harness")]
pub(crate) fn is_deadlock(error: &(dyn StdError + 'static)) -> bool {
    let is_ours = |error: &LockError| matches!(error, LockError::Deadlock { .. });
    first_known(error, is_ours, |condition| {
        matches!(condition, Condition::Deadlock { .. })
    })
}

/// Whether [`LockError::is_contention`] is so for the first error that is known in the chain.
#[cfg(feature = "harness")]
pub(crate) fn is_contention(error: &(dyn StdError + 'static)) -> bool {
    first_known(error, LockError::is_contention, |condition| {
        matches!(
            condition,
            Condition::NotAvailable(_) | Condition::LockTimeout
        )
    })
}

/// What the first error of this crate's or of Diesel's in the chain says, if there is one.
fn first_known(
    error: &(dyn StdError + 'static),
    ours: impl Fn(&LockError) -> bool,
    diesels: impl Fn(Condition) -> bool,
) -> bool {
    let answer = chain(error).find_map(|error| {
        let ours = error.downcast_ref().map(&ours);
        let diesels = || error.downcast_ref::<Error>().map(|e| diesels(condition(e)));
        ours.or_else(diesels)
    });
    answer.unwrap_or(false)
}
