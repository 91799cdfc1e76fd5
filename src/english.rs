use diesel::connection::Connection;
use diesel::pg::Pg;
use diesel::result::Error;

use crate::LockError;

/// Asks the server for messages in English, for the rest of the session, and says whether it may.
///
/// Only a superuser may set `lc_messages`, or a role that was granted it
/// (`GRANT SET ON PARAMETER lc_messages TO app`, from PostgreSQL 15 on). For all others an
/// administrator does it once, and for good: `ALTER ROLE app SET lc_messages = 'C'`.
///
/// Three round trips. In a pool, call it where connections are made, in r2d2's
/// `CustomizeConnection::on_acquire`. Inside an open transaction it has a savepoint of its own, so
/// that a refusal leaves the transaction usable; a rollback undoes it.
///
/// ```
/// use diesel::prelude::*;
/// use diesel_locks::use_english_messages;
/// use diesel_locks_harness::TestDatabase;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let database = TestDatabase::new()?;
/// let mut conn = PgConnection::establish(database.url())?;
/// if !use_english_messages(&mut conn)? {
///     eprintln!("lock errors are typed only in the languages that diesel_locks knows");
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// [`LockError::ConnectionLost`], and [`LockError::TransactionAborted`] where the server's
/// language is known.
pub fn use_english_messages<C>(conn: &mut C) -> Result<bool, LockError>
where
    C: Connection<Backend = Pg>,
{
    let set = conn.transaction::<_, Error, _>(|conn| conn.batch_execute("SET lc_messages = 'C'"));
    match set.map_err(LockError::from) {
        Ok(()) => Ok(true),
        Err(LockError::Database(Error::DatabaseError(..))) => Ok(false),
        Err(error) => Err(error),
    }
}
