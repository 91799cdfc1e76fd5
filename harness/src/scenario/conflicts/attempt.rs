use std::error::Error;
use std::fmt;
use std::sync::Arc;

type Failure = Box<dyn Error + Send + Sync>;
type Take<C> = dyn Fn(&mut C) -> Result<(), Failure> + Send + Sync;

/// A way to take a lock, with a name, for [`conflict_matrix`](crate::conflict_matrix).
///
/// It is made in an open transaction, and that transaction is then rolled back. A lock that it
/// takes must be held when it returns: so it is one that ends with the transaction, or one of the
/// session that no guard gives back.
pub struct LockAttempt<C> {
    name: String,
    take: Arc<Take<C>>,
}

impl<C: 'static> LockAttempt<C> {
    /// `take` returns when it has the lock, and fails where it is refused; so not `Ok(false)`.
    pub fn new<E>(
        name: impl Into<String>,
        take: impl Fn(&mut C) -> Result<(), E> + Send + Sync + 'static,
    ) -> Self
    where
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        Self {
            name: name.into(),
            take: Arc::new(move |conn| take(conn).map_err(Into::into)),
        }
    }

    /// The step of a session that makes this attempt.
    pub(super) fn step(
        &self,
    ) -> impl FnOnce(&mut C) -> Result<(), Failure> + Send + use<C> + 'static {
        let take = Arc::clone(&self.take);
        move |conn| take(conn)
    }
}

impl<C> LockAttempt<C> {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// Not derived, because `C` need not be `Clone`.
impl<C> Clone for LockAttempt<C> {
    fn clone(&self) -> Self {
        Self {
            name: self.name.clone(),
            take: Arc::clone(&self.take),
        }
    }
}

impl<C> fmt::Debug for LockAttempt<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockAttempt")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
