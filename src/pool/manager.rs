use diesel::connection::LoadConnection;
use diesel::pg::Pg;
use diesel::r2d2::{ConnectionManager, Error, ManageConnection, R2D2Connection};

use crate::advisory::give_back_all;
use crate::slot;

/// A connection manager around Diesel's own, whose pool never lends a connection on which a guard
/// of this crate still holds an advisory lock.
///
/// A connection comes back with a lock if a guard was forgotten (`std::mem::forget`), or if the
/// lock was taken by SQL of one's own. With Diesel's manager the next borrower has that lock
/// without knowing it, and nobody else can ever get it.
///
/// - A connection with a guard's lock is closed when it is given back. Nothing is asked of the
///   server: the guards are counted, in the connection's place for instrumentation. An
///   instrumentation of the application's own goes there by
///   [`set_instrumentation`](crate::set_instrumentation); Diesel's method of that name ends the
///   count, and leaves the second way.
/// - When the pool tests a connection before it lends it, which r2d2 does unless
///   `test_on_check_out(false)` is set, the test is `SELECT pg_advisory_unlock_all()`, instead of
///   Diesel's `SELECT 1`. So locks by SQL of one's own are given back at that time; without the
///   test, such a lock is lent with its connection. Through a pooler, what another client has in
///   the same session is left alone, unless the instrumentation is the application's own.
///
/// Neither costs a round trip more than Diesel's manager does.
#[derive(Debug, Clone)]
pub struct LockAwareManager<C> {
    manager: ConnectionManager<C>,
}

impl<C> LockAwareManager<C> {
    /// Wraps Diesel's manager.
    pub fn new(manager: ConnectionManager<C>) -> Self {
        Self { manager }
    }
}

impl<C> ManageConnection for LockAwareManager<C>
where
    C: LoadConnection<Backend = Pg> + R2D2Connection + 'static,
{
    type Connection = C;
    type Error = Error;

    fn connect(&self) -> Result<C, Error> {
        let mut conn = self.manager.connect()?;
        slot::install(&mut conn);
        Ok(conn)
    }

    fn is_valid(&self, conn: &mut C) -> Result<(), Error> {
        Ok(give_back_all(conn)?)
    }

    fn has_broken(&self, conn: &mut C) -> bool {
        slot::may_have_locks(conn) || self.manager.has_broken(conn)
    }
}
