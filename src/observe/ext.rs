use diesel::connection::LoadConnection;
use diesel::dsl::sql;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::Integer;

use super::end::{End, SessionEnd, end};
use super::lock::{LockInfo, LockWait};
use super::observed::ObserveDsl;
use super::session::{SessionInfo, SessionRow};
use super::sql::{ALL, SESSION};
use super::tables::{lock_waits, locks};
use crate::LockError;

/// A look at the locks of the server, and at whoever is in the way.
///
/// For every synchronous connection to PostgreSQL. Nothing is waited for but the catalogues of the
/// server's databases, roles and tables, which are locked by hardly anything.
///
/// # Rights
///
/// Every role sees all locks, who holds and who waits for them, and each session's role, database
/// and `application_name`. What a session does is shown to its own role, to members of that, and to
/// members of `pg_read_all_stats`, such as `pg_monitor`: where it is not, [`SessionInfo::is_hidden`]
/// says so. To end a session of another role takes membership in that role, or in
/// `pg_signal_backend`, and that it can be seen.
///
/// # Transactions
///
/// Inside a transaction it looks anew each time. An aborted one answers nothing:
/// [`LockError::TransactionAborted`].
///
/// # Errors
///
/// Those of any query: [`LockError::Database`], [`LockError::ConnectionLost`] and others.
///
/// ```
/// use diesel::prelude::*;
/// use diesel_locks::{LockedObject, prelude::*};
/// use diesel_locks_harness::TestDatabase;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let database = TestDatabase::new()?;
/// # let mut conn = PgConnection::establish(database.url())?;
/// # let mut other = PgConnection::establish(database.url())?;
/// let leader = other.advisory_lock("gold_leader")?;
/// let gold = LockedObject::Advisory("gold_leader".into());
/// let held = conn.locks()?;
/// let held = held.iter().find(|lock| lock.object == gold).unwrap();
/// assert!(held.granted && held.to_string().starts_with("advisory lock \"gold_leader\", Excl"));
/// # leader.release()?;
/// # Ok(())
/// # }
/// ```
pub trait ObserveExt: LoadConnection<Backend = Pg> + Sized {
    /// All locks of the server that are held or waited for, in all of its databases.
    ///
    /// One round trip. [`ObserveDsl::observed`] asks for some of them by Diesel's own DSL.
    fn locks(&mut self) -> Result<Vec<LockInfo>, LockError> {
        Ok(locks::table.observed().load(self)?)
    }

    /// All waits for locks, in all databases of the server, the longest first.
    ///
    /// One round trip. Each wait is as `pg_blocking_pids` says at that moment, and they are not all
    /// of the same moment.
    fn lock_waits(&mut self) -> Result<Vec<LockWait>, LockError> {
        let mut waits: Vec<LockWait> = lock_waits::table.observed().load(self)?;
        waits.sort_by_key(|wait| std::cmp::Reverse(wait.lock.waiting));
        Ok(waits)
    }

    /// Whom the session with the backend pid `pid` waits for: who holds the lock that it wants, or
    /// has asked for it before; nobody, if it does not wait for a lock. The oldest first.
    ///
    /// One round trip.
    fn blocked_by(&mut self, pid: i32) -> Result<Vec<SessionInfo>, LockError> {
        let blockers = sql::<SessionRow>(&format!(
            "WITH {}, waits AS MATERIALIZED (SELECT * FROM diesel_locks_waits \
             WHERE coalesce(leader, pid) OPERATOR(pg_catalog.=) ",
            ALL.join(", ")
        ))
        .bind::<Integer, _>(pid)
        .sql(&format!(
            ") SELECT {SESSION} FROM diesel_locks_sessions AS sessions \
             WHERE EXISTS (SELECT FROM waits WHERE CASE WHEN sessions.prepared IS NULL \
             THEN sessions.pid OPERATOR(pg_catalog.=) ANY (blockers) \
             ELSE sessions.prepared OPERATOR(pg_catalog.=) ANY (prepared_blockers) END) \
             ORDER BY sessions.age DESC NULLS LAST, sessions.pid"
        ));
        Ok(blockers.load(self)?)
    }

    /// Cancels what is in the way of the session with the backend pid `pid`: the statements of those
    /// that [`blocked_by`](Self::blocked_by) names, with `pg_cancel_backend`.
    ///
    /// A session that runs no statement, such as one that is idle in a transaction, is not disturbed
    /// by that, and keeps its locks: see [`terminate_blockers_of`](Self::terminate_blockers_of).
    ///
    /// Two round trips. It does not wait until the locks are free. Who is spared, and how each of
    /// them fared, is in the result: see [`SessionEnd`].
    fn cancel_blockers_of(&mut self, pid: i32) -> Result<Vec<SessionEnd>, LockError> {
        self.end_blockers_of(pid, End::Cancel, |_| true)
    }

    /// Ends the sessions that are in the way of the one with the backend pid `pid`, with
    /// `pg_terminate_backend`.
    ///
    /// As [`cancel_blockers_of`](Self::cancel_blockers_of), but for idle sessions too.
    fn terminate_blockers_of(&mut self, pid: i32) -> Result<Vec<SessionEnd>, LockError> {
        self.end_blockers_of(pid, End::Terminate, |_| true)
    }

    /// Cancels or terminates those that are in the way of the session with the backend pid `pid`,
    /// and that the filter says yes to.
    ///
    /// Two round trips: the second one looks again, and spares whoever is not in the way any more.
    ///
    /// ```
    /// # use diesel::prelude::*;
    /// # use diesel_locks::{End, LockError, prelude::*};
    /// # fn end(conn: &mut PgConnection, pid: i32) -> Result<(), LockError> {
    /// for blocker in conn.end_blockers_of(pid, End::Terminate, |session| {
    ///     session.application.as_deref() == Some("report")
    /// })? {
    ///     println!("{blocker}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    fn end_blockers_of(
        &mut self,
        pid: i32,
        how: End,
        filter: impl FnMut(&SessionInfo) -> bool,
    ) -> Result<Vec<SessionEnd>, LockError> {
        let mut blockers = self.blocked_by(pid)?;
        blockers.retain(filter);
        Ok(end(self, blockers, how, Some(pid))?)
    }

    /// Cancels or terminates these sessions, whoever they are in the way of.
    ///
    /// One round trip. They are known by their pids and by when they began, so that nobody else is
    /// ended who has got the pid of one meanwhile.
    fn end_sessions(
        &mut self,
        sessions: impl IntoIterator<Item = SessionInfo>,
        how: End,
    ) -> Result<Vec<SessionEnd>, LockError> {
        Ok(end(self, sessions.into_iter().collect(), how, None)?)
    }
}

impl<C: LoadConnection<Backend = Pg>> ObserveExt for C {}
