//! Indexes that `CREATE INDEX CONCURRENTLY` has left when it was interrupted: section *Building
//! Indexes Concurrently* of the PostgreSQL documentation's page on `CREATE INDEX`.

use diesel::connection::LoadConnection;
use diesel::deserialize::Queryable;
use diesel::dsl::sql;
use diesel::pg::Pg;
use diesel::sql_types::{Bool, Oid, Text};
use diesel::{QueryResult, RunQueryDsl};

use crate::migrate_error::LeftoverIndex;
use crate::observe;

/// An index of a table that is not temporary.
#[derive(Debug, Clone, Queryable)]
pub(super) struct Index {
    pub(super) oid: u32,
    pub(super) name: String,
    pub(super) schema: String,
    /// Whether the name alone finds it.
    pub(super) is_visible: bool,
    /// With the schema, and quotes where they are needed.
    qualified: String,
    pub(super) table_oid: u32,
    pub(super) table_name: String,
    table: String,
    pub(super) is_valid: bool,
}

impl Index {
    pub(super) fn leftover(&self) -> LeftoverIndex {
        LeftoverIndex {
            index: self.qualified.clone(),
            table: self.table.clone(),
            is_valid: self.is_valid,
        }
    }
}

/// All indexes of the database. An index of a partitioned table is not valid as long as one of the
/// partitions has none, and is left out.
pub(super) fn all<C: LoadConnection<Backend = Pg>>(conn: &mut C) -> QueryResult<Vec<Index>> {
    sql::<(Oid, Text, Text, Bool, Text, Oid, Text, Text, Bool)>(
        "SELECT c.oid, c.relname::pg_catalog.text, n.nspname::pg_catalog.text, \
         pg_catalog.pg_table_is_visible(c.oid), \
         pg_catalog.format('%I.%I', n.nspname, c.relname), t.oid, t.relname::pg_catalog.text, \
         pg_catalog.format('%I.%I', tn.nspname, t.relname), i.indisvalid \
         FROM pg_catalog.pg_index AS i \
         JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) i.indexrelid \
         JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
         JOIN pg_catalog.pg_class AS t ON t.oid OPERATOR(pg_catalog.=) i.indrelid \
         JOIN pg_catalog.pg_namespace AS tn ON tn.oid OPERATOR(pg_catalog.=) t.relnamespace \
         WHERE (c.relkind OPERATOR(pg_catalog.=) 'i') \
         AND (c.relpersistence OPERATOR(pg_catalog.<>) 't') \
         AND (n.nspname OPERATOR(pg_catalog.<>) ALL (ARRAY['pg_catalog', 'pg_toast']::pg_catalog.name[]))",
    )
    .load(conn)
}

/// Those of `indexes` that are not valid, and that nobody is building.
pub(super) fn broken<C>(conn: &mut C, indexes: &[Index]) -> QueryResult<Vec<Index>>
where
    C: LoadConnection<Backend = Pg>,
{
    let mut broken: Vec<Index> = (indexes.iter())
        .filter(|index| !index.is_valid)
        .cloned()
        .collect();
    if !broken.is_empty() {
        let busy = observe::tables_being_indexed(conn)?;
        broken.retain(|index| !busy.contains(&index.table_oid));
    }
    Ok(broken)
}

pub(super) fn drop_concurrently<C>(conn: &mut C, index: &Index) -> QueryResult<()>
where
    C: LoadConnection<Backend = Pg>,
{
    conn.batch_execute(&format!(
        "DROP INDEX CONCURRENTLY IF EXISTS {}",
        index.qualified
    ))
}
