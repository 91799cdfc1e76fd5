//! The table that keeps the names of advisory locks in the database, and a view for psql.

use diesel_migrations::embed_migrations;

use crate::LibraryMigrations;

/// The optional migration: a schema `diesel_locks` with the table `lock_names`, which
/// [`LockNames::register`](crate::LockNames::register) writes to, and the view `lock_holders`, which
/// shows who holds which lock and who waits, by those names.
///
/// It takes the right to create a schema in the database. Members of `pg_monitor` may read both;
/// other roles need `USAGE` on the schema, and `SELECT`, or `INSERT` and `UPDATE` too.
///
/// ```
/// use diesel::prelude::*;
/// use diesel_locks::lock_names;
/// use diesel_locks_harness::TestDatabase;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let database = TestDatabase::new()?;
/// let mut conn = PgConnection::establish(database.url())?;
/// lock_names::MIGRATIONS.run_pending(&mut conn)?;
/// diesel::sql_query("TABLE diesel_locks.lock_holders").execute(&mut conn)?;
/// # Ok(())
/// # }
/// ```
pub const MIGRATIONS: LibraryMigrations =
    LibraryMigrations::new("diesel_locks", embed_migrations!("src/lock_names"));
