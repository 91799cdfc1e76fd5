/// The endings of one way to lock rows, over its `_wait`, and the [`Wait`](crate::Wait) of the one
/// that begins with `try_`.
macro_rules! endings {
    (
        does: $does:literal,
        at_once: $at_once:ident $at_once_does:literal,
        none: $none:literal,
        query: [$($generics:tt)*] $query:ty => $result:ty,
        $wait:ident, $block:ident, $nowait:ident, $timeout:ident, $attempt:ident
    ) => {
        #[doc = concat!($does, ", and waits for those that another transaction has locked.")]
        ///
        /// One round trip, as the same select without the lock. The wait has no end but the
        /// transaction's `lock_timeout`.
        ///
        /// # Errors
        ///
        /// [`LockError::Timeout`]: the transaction's `lock_timeout` ended the wait.
        #[doc = $none]
        fn $block<$($generics)*>(&mut self, query: $query) -> Result<$result, LockError> {
            self.$wait(query, Wait::Block)
        }

        #[doc = concat!($does, ", or fails at once if another transaction has locked one of them.")]
        /// It is for rows: an `ALTER TABLE` that has locked the table, or waits for it, is waited
        /// for, unless the transaction has a
        /// [`with_lock_timeout`](crate::LockTimeoutExt::with_lock_timeout), for two round trips
        /// more.
        ///
        /// One round trip, as the same select without the lock.
        ///
        /// # Errors
        ///
        /// [`LockError::NotAvailable`]: another transaction has locked one of the rows.
        /// [`LockError::Timeout`]: one has locked the table, and the transaction's `lock_timeout`
        /// ended the wait.
        #[doc = $none]
        fn $nowait<$($generics)*>(&mut self, query: $query) -> Result<$result, LockError> {
            self.$wait(query, Wait::NoWait)
        }

        #[doc = concat!($does, ", and waits for at most `timeout` in all, measured by the server,")]
        /// for rows that another transaction has locked, or for the table.
        ///
        /// Three round trips: the first one sets the transaction's time limits, and the last one
        /// puts back what they were. Whole milliseconds, rounded up: see [`Wait::Timeout`]. The time
        /// is for the whole statement, its work included; the first time, Diesel prepares it with a
        /// statement of its own, which may wait for the table as long.
        ///
        /// # Errors
        ///
        /// [`LockError::Timeout`]: other transactions were in the way for so long. It names the
        /// table, unless the query is one of several or a text.
        #[doc = $none]
        fn $timeout<$($generics)*>(
            &mut self,
            query: $query,
            timeout: Duration,
        ) -> Result<$result, LockError> {
            self.$wait(query, Wait::Timeout(timeout))
        }

        #[doc = concat!($does, ", or gives `None` at once if another transaction has locked one")]
        #[doc = concat!("of them, and then the transaction stays usable. ", $at_once_does)]
        ///
        /// Three round trips: the attempt has a savepoint of its own.
        ///
        /// # Errors
        ///
        /// Those of the trait. They leave the transaction as it was before the attempt.
        #[doc = $none]
        fn $attempt<$($generics)*>(&mut self, query: $query) -> Result<Option<$result>, LockError> {
            lock_timeout::attempt(self, |conn| conn.$wait(query, Wait::$at_once))
        }
    };
}

pub(super) use endings;
