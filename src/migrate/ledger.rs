//! The table that says which migrations have been applied.

use diesel::connection::LoadConnection;
use diesel::deserialize::Queryable;
use diesel::dsl::sql;
use diesel::migration::{CREATE_MIGRATIONS_TABLE, MigrationVersion};
use diesel::pg::Pg;
use diesel::sql_types::{Array, Bool, Nullable, Oid, Text};
use diesel::{QueryResult, RunQueryDsl};

use super::index::Index;
use super::words::LONGEST;
use crate::key::sha256_start;
use crate::sql::quoted;

/// Diesel's own table.
pub(super) const DIESEL: &str = "__diesel_schema_migrations";

/// Where a session is, and as whom.
#[derive(Debug, Queryable)]
pub(super) struct Place {
    pub(super) database: String,
    /// Where it creates tables.
    schema: Option<String>,
    role: String,
}

impl Place {
    pub(super) fn of<C: LoadConnection<Backend = Pg>>(conn: &mut C) -> QueryResult<Self> {
        sql::<(Text, Nullable<Text>, Text)>(
            "SELECT pg_catalog.current_database()::pg_catalog.text, \
             pg_catalog.current_schema()::pg_catalog.text, current_user::pg_catalog.text",
        )
        .get_result(conn)
    }
}

/// A table of versions, in the schema in which Diesel makes its own.
#[derive(Debug)]
pub(super) struct Ledger {
    name: String,
    /// Of the notes of this application and this role: what one role makes, another can't drop.
    notes: String,
    schema: Option<String>,
}

/// What was noted before a migration began that runs outside a transaction.
#[derive(Debug, Clone, Queryable)]
pub(super) struct Note {
    version: String,
    /// The indexes that there were.
    indexes: Vec<u32>,
    /// Their names, without schemas.
    names: Vec<String>,
}

impl Note {
    /// Whether `index` is there only since then.
    pub(super) fn is_older_than(&self, index: &Index) -> bool {
        !self.indexes.contains(&index.oid)
    }

    /// The names of indexes that are there no more.
    pub(super) fn gone<'n>(&'n self, now: &'n [Index]) -> impl Iterator<Item = &'n str> {
        (self.indexes.iter().zip(&self.names))
            .filter(|(oid, _)| now.iter().all(|index| index.oid != **oid))
            .map(|(_, name)| &**name)
    }
}

impl Ledger {
    pub(super) fn new(name: &str, application: &str, place: &Place) -> Self {
        Self {
            name: name.to_owned(),
            notes: format!(
                "__diesel_locks_begun_{}",
                digest(&[name, application, &place.role])
            ),
            schema: place.schema.clone(),
        }
    }

    /// What the table of a library's versions is called.
    pub(super) fn of_library(library: &str) -> String {
        let name = format!("__{library}_schema_migrations");
        if name == DIESEL || name.len() > LONGEST {
            return format!("__{}_schema_migrations", digest(&[library]));
        }
        name
    }

    /// Fully qualified, so that it is the same one after a migration has set the search path.
    fn table(&self) -> String {
        self.qualified(&self.name)
    }

    fn notes(&self) -> String {
        self.qualified(&self.notes)
    }

    fn qualified(&self, name: &str) -> String {
        match &self.schema {
            Some(schema) => format!("{}.{}", quoted(schema), quoted(name)),
            // Whatever is created fails then, and says so.
            None => quoted(name),
        }
    }

    /// Makes the table where there is none. A role that may not create one needs not to.
    pub(super) fn ensure<C>(&self, conn: &mut C) -> QueryResult<()>
    where
        C: LoadConnection<Backend = Pg>,
    {
        if exists(conn, &self.table())? {
            return Ok(());
        }
        let create = CREATE_MIGRATIONS_TABLE.replacen(DIESEL, &self.table(), 1);
        match conn.transaction(|conn| conn.batch_execute(&create)) {
            // Another application, with a lock of its own, was sooner by a moment.
            Err(_) if exists(conn, &self.table())? => Ok(()),
            made => made,
        }
    }

    /// The versions that were applied, the last one first; none if there is no table yet.
    pub(super) fn applied<C>(&self, conn: &mut C) -> QueryResult<Vec<MigrationVersion<'static>>>
    where
        C: LoadConnection<Backend = Pg>,
    {
        if !exists(conn, &self.table())? {
            return Ok(Vec::new());
        }
        let mut versions: Vec<MigrationVersion<'static>> =
            sql::<Text>(&format!("SELECT version FROM {}", self.table()))
                .load::<String>(conn)?
                .into_iter()
                .map(MigrationVersion::from)
                .collect();
        versions.sort_unstable_by(|a, b| b.cmp(a));
        Ok(versions)
    }

    pub(super) fn record<C>(&self, conn: &mut C, version: &MigrationVersion<'_>) -> QueryResult<()>
    where
        C: LoadConnection<Backend = Pg>,
    {
        sql::<Text>(&format!("INSERT INTO {} (version) VALUES (", self.table()))
            .bind::<Text, _>(version.to_string())
            .sql(")")
            .execute(conn)
            .map(drop)
    }

    pub(super) fn forget<C>(&self, conn: &mut C, version: &MigrationVersion<'_>) -> QueryResult<()>
    where
        C: LoadConnection<Backend = Pg>,
    {
        let table = self.table();
        sql::<Text>(&format!(
            "DELETE FROM {table} WHERE version OPERATOR(pg_catalog.=) "
        ))
        .bind::<Text, _>(version.to_string())
        .execute(conn)
        .map(drop)
    }

    /// The note of this migration, if it was begun and then interrupted.
    pub(super) fn note<C>(
        &self,
        conn: &mut C,
        version: &MigrationVersion<'_>,
    ) -> QueryResult<Option<Note>>
    where
        C: LoadConnection<Backend = Pg>,
    {
        if !exists(conn, &self.notes())? {
            return Ok(None);
        }
        let notes: Vec<Note> = sql::<(Text, Array<Oid>, Array<Text>)>(&format!(
            "SELECT version, indexes, names FROM {}",
            self.notes()
        ))
        .load(conn)?;
        let version = version.to_string();
        Ok(notes.into_iter().find(|note| note.version == version))
    }

    /// Notes that a migration begins, and which indexes there are, in place of any other note.
    ///
    /// The note has a table to itself, which is there only as long as such a migration runs.
    pub(super) fn make_note<C>(
        &self,
        conn: &mut C,
        version: &MigrationVersion<'_>,
        indexes: &[Index],
    ) -> QueryResult<()>
    where
        C: LoadConnection<Backend = Pg>,
    {
        let notes = self.notes();
        conn.batch_execute(&format!(
            "DROP TABLE IF EXISTS {notes}; CREATE TABLE {notes} (version pg_catalog.text NOT NULL, \
             indexes pg_catalog.oid[] NOT NULL, names pg_catalog.text[] NOT NULL)"
        ))?;
        let oids: Vec<u32> = indexes.iter().map(|index| index.oid).collect();
        let names: Vec<&str> = indexes.iter().map(|index| &*index.name).collect();
        sql::<Text>(&format!("INSERT INTO {notes} VALUES ("))
            .bind::<Text, _>(version.to_string())
            .sql(", ")
            .bind::<Array<Oid>, _>(oids)
            .sql(", ")
            .bind::<Array<Text>, _>(names)
            .sql(")")
            .execute(conn)
            .map(drop)
    }

    pub(super) fn drop_note<C>(&self, conn: &mut C) -> QueryResult<()>
    where
        C: LoadConnection<Backend = Pg>,
    {
        conn.batch_execute(&format!("DROP TABLE IF EXISTS {}", self.notes()))
    }
}

fn exists<C: LoadConnection<Backend = Pg>>(conn: &mut C, table: &str) -> QueryResult<bool> {
    sql::<Bool>("SELECT pg_catalog.to_regclass(")
        .bind::<Text, _>(table)
        .sql(") IS NOT NULL")
        .get_result(conn)
}

/// Short, and another one for other names.
fn digest(names: &[&str]) -> String {
    let start = sha256_start(&names.join("\0"));
    format!("{:016x}", u64::from_be_bytes(start))
}
