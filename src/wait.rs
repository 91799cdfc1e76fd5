use std::time::Duration;

/// What to do while another session holds the lock.
///
/// For code that decides at run time; most methods say it by their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Wait {
    /// Wait until it is granted, or until the session's `lock_timeout` ends the wait.
    Block,
    /// Do not wait: [`LockError::NotAvailable`](crate::LockError::NotAvailable) at once.
    NoWait,
    /// Wait that long at most, measured by the server:
    /// [`LockError::Timeout`](crate::LockError::Timeout) after that.
    ///
    /// PostgreSQL counts in milliseconds, from 1 to 2,147,483,647 (24.8 days): a fraction is
    /// rounded up, and what lies outside becomes the nearest of these. So zero is the shortest
    /// wait there is, and not PostgreSQL's `lock_timeout = 0`, which would wait for ever.
    Timeout(Duration),
}
