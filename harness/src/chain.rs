//! An error with its sources, in words.

use std::error::Error;
use std::{fmt, iter};

/// This error and its sources.
pub(crate) fn chain<'e>(
    error: &'e (dyn Error + 'static),
) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    iter::successors(Some(error), |&error| error.source())
}

/// What this error and its sources say, on one line if they do.
pub(crate) fn words(error: &(dyn Error + 'static)) -> String {
    let words: Vec<_> = chain(error).map(ToString::to_string).collect();
    words.join(": ")
}

/// What an error says and, each on a line of its own, what its sources say.
///
/// It is for `Debug`, in which a test shows the error that it returns.
pub(crate) fn report(error: &(dyn Error + 'static), f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "{error}")?;
    for (number, source) in chain(error).skip(1).enumerate() {
        let head = if number == 0 { "\n\nCaused by:" } else { "" };
        write!(f, "{head}\n    {source}")?;
    }
    Ok(())
}

/// `Debug` for errors: what they say, with their sources.
macro_rules! debug_is_report {
    ($($error:ty),+) => {
        $(impl std::fmt::Debug for $error {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                $crate::chain::report(self, f)
            }
        })+
    };
}

pub(crate) use debug_is_report;
