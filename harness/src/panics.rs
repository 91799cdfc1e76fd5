//! Panics made of errors, and words made of panics.

use std::any::Any;
use std::error::Error;

use crate::chain::words;

/// Panics with all that the error says, at the caller's line.
#[track_caller]
pub(crate) fn or_panic<T, E: Error + 'static>(result: Result<T, E>) -> T {
    match result {
        Ok(done) => done,
        Err(error) => panic!("{}", words(&error)),
    }
}

/// What a panic says, if it is text.
pub(crate) fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|&text| text.to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "something that is no text".to_owned())
}
