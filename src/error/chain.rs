//! Looks for an error of this crate's or of Diesel's in one that may wrap it.

use std::error::Error as StdError;
use std::io;
use std::iter;
use std::sync::Arc;

use super::{Condition, LockError, condition_of};

/// What `says` finds in the error or, first come, in what that wraps.
pub(crate) fn find<T>(
    error: &(dyn StdError + 'static),
    says: impl Fn(&(dyn StdError + 'static)) -> Option<T>,
) -> Option<T> {
    iter::successors(Some(error), |&error| inner(error)).find_map(says)
}

/// What a [`LockError`] or Diesel's error says itself.
pub(crate) fn known(error: &(dyn StdError + 'static)) -> Option<Condition> {
    let ours = pointee(error).and_then(LockError::condition);
    ours.or_else(|| pointee(error).and_then(condition_of))
}

/// The error itself, or what it points to: such a pointer's source is that of the pointee, which
/// would be passed over.
pub(crate) fn pointee<'e, E: StdError + 'static>(
    error: &'e (dyn StdError + 'static),
) -> Option<&'e E> {
    let boxed = || error.downcast_ref::<Box<E>>().map(|error| &**error);
    let shared = || error.downcast_ref::<Arc<E>>().map(|error| &**error);
    error.downcast_ref().or_else(boxed).or_else(shared)
}

/// What the error wraps. An I/O error's source is that of the error in it.
fn inner<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e (dyn StdError + 'static)> {
    let io = error.downcast_ref::<io::Error>();
    match io.and_then(io::Error::get_ref) {
        Some(inner) => Some(inner),
        None => error.source(),
    }
}
