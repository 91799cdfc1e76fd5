use std::any::TypeId;

use diesel::QueryResult;
use diesel::connection::Connection;
use diesel::pg::Pg;

use crate::waits::Observer;

/// A connection that the harness can use: every synchronous connection that Diesel has.
///
/// This includes `PgConnection`, `SqliteConnection`, `MysqlConnection`, and r2d2's
/// `PooledConnection` around any of them. All of them have it already.
pub trait HarnessConnection: Connection<Backend: 'static> + Observer + 'static {}

impl<C> HarnessConnection for C where C: Connection<Backend: 'static> + Observer + 'static {}

/// The process id of the server session, which only PostgreSQL can say: `None` elsewhere.
pub(crate) fn backend_pid<C: HarnessConnection>(conn: &mut C) -> QueryResult<Option<i32>> {
    match TypeId::of::<C::Backend>() == TypeId::of::<Pg>() {
        true => conn.backend_pid().map(Some),
        false => Ok(None),
    }
}
