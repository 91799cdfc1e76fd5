//! Questions to any error.

use std::error::Error as StdError;

use crate::error::{Condition, chain};
#[cfg(feature = "migrations")]
use crate::migrate_error as errors;
#[cfg(not(feature = "migrations"))]
use chain as errors;

/// What an error says of a lock, where it, or what it wraps, is a
/// [`LockError`](crate::LockError) or Diesel's error.
///
/// It looks at the error and at its [sources](StdError::source), and the first one that says
/// anything decides. So it can be asked of an error type of one's own, of a `Box<dyn Error>`
/// (`condition(&*error)`), and of an `anyhow::Error` (`condition(error.as_ref())`). Nothing is
/// sent to the server.
///
/// ```
/// use std::fmt;
///
/// use diesel::result::Error;
/// use diesel_locks::{Condition, LockError, condition};
///
/// #[derive(Debug)]
/// struct Transfer(LockError);
///
/// impl fmt::Display for Transfer {
///     fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
///         f.write_str("nothing was transferred")
///     }
/// }
///
/// impl std::error::Error for Transfer {
///     fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
///         Some(&self.0)
///     }
/// }
///
/// let error = Transfer(LockError::NotInTransaction);
/// assert_eq!(condition(&error), Some(Condition::NotInTransaction));
/// assert_eq!(condition(&Error::NotFound), None);
/// ```
pub fn condition(error: &(dyn StdError + 'static)) -> Option<Condition> {
    chain::find(error, errors::known)
}

/// Whether another session was in the way: [`Condition::is_contention`] of what [`condition()`]
/// finds.
pub fn is_contention(error: &(dyn StdError + 'static)) -> bool {
    condition(error).is_some_and(Condition::is_contention)
}

/// Whether the same transaction, run again from its start, may well succeed:
/// [`Condition::is_retryable`] of what [`condition()`] finds.
///
/// It is what [`RetryExt::retrying`](crate::RetryExt::retrying) asks.
pub fn is_retryable(error: &(dyn StdError + 'static)) -> bool {
    condition(error).is_some_and(Condition::is_retryable)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use diesel::result::{DatabaseErrorKind, Error};

    use super::*;
    use crate::LockError;

    fn serialization_failure() -> Error {
        let words = Box::new("could not serialize access".to_owned());
        Error::DatabaseError(DatabaseErrorKind::SerializationFailure, words)
    }

    #[test]
    fn an_error_is_known_in_whatever_wraps_it() {
        let known = Some(Condition::SerializationFailure);
        assert_eq!(condition(&serialization_failure()), known);
        assert_eq!(condition(&LockError::from(serialization_failure())), known);
        assert_eq!(condition(&Box::new(serialization_failure())), known);
        assert_eq!(condition(&io::Error::other(serialization_failure())), known);
        let boxed: Box<dyn StdError + Send + Sync> = serialization_failure().into();
        assert_eq!(condition(&*boxed), known);
    }

    #[test]
    fn a_refusal_that_has_no_source_is_known_behind_a_pointer() {
        let known = Some(Condition::NotInTransaction);
        assert_eq!(condition(&Arc::new(LockError::NotInTransaction)), known);
        let io = io::Error::other(Arc::new(LockError::NotInTransaction));
        assert_eq!(condition(&io), known);
    }

    #[test]
    fn an_error_that_says_nothing_of_locks_has_no_condition() {
        assert_eq!(condition(&Error::NotFound), None);
        assert_eq!(condition(&LockError::from(Error::NotFound)), None);
        assert_eq!(condition(&io::Error::other("disk")), None);
        assert!(!is_contention(&Error::NotFound) && !is_retryable(&Error::NotFound));
    }
}
