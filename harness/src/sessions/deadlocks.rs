//! Deadlocks that the server finds soon.

use diesel::connection::{LoadConnection, TransactionManager};
use diesel::pg::Pg;
use diesel::{Connection, QueryResult};
use diesel_locks::{Condition, condition};

/// How long a step waits until it looks for a deadlock: the less, the more are waiting when it
/// begins. So, of a circle, the step that closes it is the first one to look.
const SOON: [&str; 3] = ["'30ms'", "'6ms'", "'1ms'"];

/// Where a session's `deadlock_timeout` stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DeadlockTimeout {
    /// The server's own.
    Usual,
    /// Shorter, because others waited when a step began.
    Short,
    /// The server's own until the transaction ends, which may bring back the shorter one.
    UsualForNow,
    /// The role may not set it.
    Fixed,
}

impl DeadlockTimeout {
    /// Makes ready for a step that begins while so many others wait.
    ///
    /// It is sent in the application's transaction, where there is one, and leaves no trace there
    /// if it fails.
    pub(super) fn prepare<C>(&mut self, conn: &mut C, waiting: usize)
    where
        C: LoadConnection<Backend = Pg>,
    {
        let status = C::TransactionManager::transaction_manager_status_mut(conn);
        let Ok(depth) = status.transaction_depth() else {
            return;
        };
        let is_open = depth.is_some();
        let timeout = match (waiting, *self) {
            (_, Self::Fixed) | (0, Self::Usual) => return,
            (0, Self::UsualForNow) if is_open => return,
            (0, _) => "DEFAULT",
            (waiting, _) => SOON[(waiting - 1).min(SOON.len() - 1)],
        };
        match set(conn, timeout, is_open) {
            Ok(()) => {
                *self = match (waiting, is_open) {
                    (0, false) => Self::Usual,
                    (0, true) => Self::UsualForNow,
                    _ => Self::Short,
                }
            }
            // The step will say so itself.
            Err(error) if condition(&error) == Some(Condition::TransactionAborted) => {}
            Err(_) => *self = Self::Fixed,
        }
    }

    /// Leaves the connection as it was, outside of a transaction: a pool may lend it to others.
    pub(super) fn put_back<C: Connection>(self, conn: &mut C) {
        if matches!(self, Self::Short | Self::UsualForNow) {
            // On a connection that is lost there is nothing to put back.
            let _ = conn.batch_execute("RESET deadlock_timeout");
        }
    }
}

fn set<C: Connection>(conn: &mut C, timeout: &str, is_open: bool) -> QueryResult<()> {
    let set = format!("SET deadlock_timeout = {timeout}");
    if !is_open {
        return conn.batch_execute(&set);
    }
    let done = conn.batch_execute(&format!(
        "SAVEPOINT diesel_locks_harness; {set}; RELEASE SAVEPOINT diesel_locks_harness"
    ));
    if done.is_err() {
        // Where there is no such savepoint, the transaction was aborted before, and still is.
        let _ = conn.batch_execute(
            "ROLLBACK TO SAVEPOINT diesel_locks_harness; \
             RELEASE SAVEPOINT diesel_locks_harness",
        );
    }
    done
}
