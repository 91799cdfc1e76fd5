use std::collections::BTreeMap;

use diesel::connection::LoadConnection;
use diesel::dsl::sql;
use diesel::pg::Pg;
use diesel::sql_types::{Array, Bool, Oid, SmallInt, Text};
use diesel::{QueryResult, RunQueryDsl};

use crate::{LockError, LockKey, names};

/// Names of advisory locks, by which they are shown.
///
/// PostgreSQL knows an advisory lock by a number. This process shows it by its name from the moment
/// that it has used that name, or has listed it here:
///
/// ```
/// use diesel_locks::{LockKey, LockNames};
///
/// LockNames::new(["gold_leader", "invoices"]).and(42, "nightly import");
/// assert_eq!(LockKey::Single(42).to_string(), "\"nightly import\"");
/// ```
///
/// Other programs, such as the command `diesel_locks` and psql, know the names that are in the
/// database, in a table that an optional migration makes (feature `migrations`):
///
/// ```
/// # #[cfg(feature = "migrations")]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use diesel::prelude::*;
/// use diesel_locks::{LockNames, lock_names};
/// use diesel_locks_harness::TestDatabase;
///
/// # let database = TestDatabase::new()?;
/// # let mut conn = PgConnection::establish(database.url())?;
/// lock_names::MIGRATIONS.run_pending(&mut conn)?;
/// LockNames::new(["gold_leader", "invoices"]).register(&mut conn)?;
///
/// // In another process. In psql, `SELECT * FROM diesel_locks.lock_holders` shows them.
/// assert!(LockNames::load(&mut conn)?);
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "migrations"))]
/// # fn main() {}
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockNames(Vec<(LockKey, String)>);

impl LockNames {
    /// Makes these names known to this process. As of all names, the latest 8 MiB are kept.
    pub fn new(names: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        let named = names.into_iter().map(|name| {
            let name = name.as_ref();
            (LockKey::named(name), name.to_owned())
        });
        Self(named.collect())
    }

    /// Makes a name known for a key that was not made of it, such as a number.
    pub fn and(mut self, key: impl Into<LockKey>, name: impl Into<String>) -> Self {
        let (key, name) = (key.into(), name.into());
        names::remember(key.numbers(), &name);
        self.0.push((key, name));
        self
    }

    /// Writes the names into the table of the optional migration, in place of others that these keys
    /// had, for every program that looks at this database.
    ///
    /// One round trip. In a transaction it ends with that.
    ///
    /// # Errors
    ///
    /// [`LockError::Database`]: the migration has not been run, the role has no right to write into
    /// `diesel_locks.lock_names`, or a name has a NUL, which PostgreSQL cannot store.
    pub fn register<C>(&self, conn: &mut C) -> Result<(), LockError>
    where
        C: LoadConnection<Backend = Pg>,
    {
        // The last name of a key counts, as one statement may write it once.
        let rows: BTreeMap<_, _> = (self.0.iter())
            .map(|(key, name)| (key.in_pg_locks(), name.as_str()))
            .collect();
        let classes: Vec<u32> = rows.keys().map(|(class, _, _)| *class).collect();
        let objects: Vec<u32> = rows.keys().map(|(_, object, _)| *object).collect();
        let spaces: Vec<i16> = rows.keys().map(|(_, _, space)| *space).collect();
        let names: Vec<&str> = rows.into_values().collect();
        sql::<Bool>(
            "INSERT INTO diesel_locks.lock_names (classid, objid, objsubid, name) \
             SELECT * FROM ROWS FROM (pg_catalog.unnest(",
        )
        .bind::<Array<Oid>, _>(classes)
        .sql("), pg_catalog.unnest(")
        .bind::<Array<Oid>, _>(objects)
        .sql("), pg_catalog.unnest(")
        .bind::<Array<SmallInt>, _>(spaces)
        .sql("), pg_catalog.unnest(")
        .bind::<Array<Text>, _>(names)
        .sql(")) ON CONFLICT ON CONSTRAINT lock_names_pkey DO UPDATE SET name = excluded.name")
        .execute(conn)?;
        Ok(())
    }

    /// Makes the names known to this process that are registered in the database, and says whether
    /// there is a table of them that the role may read.
    ///
    /// Two round trips, or one without such a table.
    ///
    /// # Errors
    ///
    /// Those of any query.
    pub fn load<C>(conn: &mut C) -> Result<bool, LockError>
    where
        C: LoadConnection<Backend = Pg>,
    {
        if !is_readable(conn)? {
            return Ok(false);
        }
        let rows: Vec<(u32, u32, i16, String)> = sql::<(Oid, Oid, SmallInt, Text)>(
            "SELECT classid, objid, objsubid, name FROM ONLY diesel_locks.lock_names",
        )
        .load(conn)?;
        for (class, object, space, name) in rows {
            let key = LockKey::from_pg_locks(class, object, space);
            names::remember(key.numbers(), &name);
        }
        Ok(true)
    }
}

/// Whether it is there, and a table, which runs no code of whoever has made it when it is read.
fn is_readable<C>(conn: &mut C) -> QueryResult<bool>
where
    C: LoadConnection<Backend = Pg>,
{
    sql::<Bool>(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_class JOIN pg_catalog.pg_namespace \
         ON pg_namespace.oid OPERATOR(pg_catalog.=) relnamespace \
         WHERE nspname OPERATOR(pg_catalog.=) 'diesel_locks' \
         AND relname OPERATOR(pg_catalog.=) 'lock_names' \
         AND relkind OPERATOR(pg_catalog.=) 'r' AND NOT relrowsecurity \
         AND pg_catalog.has_schema_privilege(pg_namespace.oid, 'USAGE') \
         AND pg_catalog.has_table_privilege(pg_class.oid, 'SELECT'))",
    )
    .get_result(conn)
}
