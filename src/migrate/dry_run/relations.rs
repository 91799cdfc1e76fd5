use std::collections::{BTreeMap, BTreeSet};

use diesel::connection::LoadConnection;
use diesel::deserialize::Queryable;
use diesel::dsl::sql;
use diesel::pg::Pg;
use diesel::sql_types::{BigInt, Nullable, Oid, Text};
use diesel::{QueryResult, RunQueryDsl};

use crate::observe;

/// Relations that the session has locked, by their numbers, each with the mode.
pub(super) type Locks = BTreeSet<(u32, String)>;

/// The relations of the database, and which of them the session has locked.
pub(super) struct State {
    pub(super) relations: BTreeMap<u32, Relation>,
    pub(super) locks: Locks,
}

/// A relation that is none of the system's.
#[derive(Clone, Queryable)]
pub(super) struct Relation {
    oid: u32,
    pub(super) name: String,
    /// With the schema, and quotes where they are needed.
    pub(super) qualified: String,
    kind: String,
    /// Its file, if it has one: another one is written when its rows are.
    pub(super) filenode: Option<u32>,
    /// How often this session has read all of it.
    pub(super) scans: i64,
}

impl Relation {
    pub(super) fn kind(&self) -> &'static str {
        match &*self.kind {
            "i" | "I" => "index",
            "S" => "sequence",
            "v" => "view",
            "m" => "materialized view",
            "f" => "foreign table",
            "c" => "type",
            _ => "table",
        }
    }

    pub(super) fn is_table(&self) -> bool {
        ["r", "p", "m"].contains(&&*self.kind)
    }
}

impl State {
    pub(super) fn of<C: LoadConnection<Backend = Pg>>(conn: &mut C) -> QueryResult<Self> {
        let relations: Vec<Relation> = sql::<(Oid, Text, Text, Text, Nullable<Oid>, BigInt)>(
            "SELECT c.oid, c.relname::pg_catalog.text, \
             pg_catalog.format('%I.%I', n.nspname, c.relname), c.relkind::pg_catalog.text, \
             pg_catalog.pg_relation_filenode(c.oid), \
             pg_catalog.pg_stat_get_xact_numscans(c.oid) \
             FROM pg_catalog.pg_class AS c \
             JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
             WHERE n.nspname OPERATOR(pg_catalog.<>) ALL \
             (ARRAY['pg_catalog', 'pg_toast', 'information_schema']::pg_catalog.name[])",
        )
        .load(conn)?;
        let relations: BTreeMap<_, _> = (relations.into_iter())
            .map(|relation| (relation.oid, relation))
            .collect();
        let locks = locks(conn)?;
        Ok(Self { relations, locks })
    }
}

pub(super) fn locks<C: LoadConnection<Backend = Pg>>(conn: &mut C) -> QueryResult<Locks> {
    Ok(observe::locked_here(conn)?.into_iter().collect())
}
