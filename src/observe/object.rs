use std::fmt;

use super::words::one_line;
use crate::LockKey;

/// How much of a name is shown: two names of PostgreSQL's longest.
const NAME: usize = 127;

/// What a lock is of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LockedObject {
    /// A table, or an index or sequence.
    Relation(RelationName),
    /// The right to make a table longer.
    Extension(RelationName),
    /// A page of a table or index.
    #[non_exhaustive]
    Page {
        /// Whose.
        relation: RelationName,
        /// Its number.
        page: u32,
    },
    /// A row. It is rarely locked so: who has changed or locked a row is known by its transaction.
    Row(RowName),
    /// The end of a transaction. Every transaction that writes has the lock of its own; who waits
    /// for a row waits for the transaction that has locked it.
    #[non_exhaustive]
    Transaction {
        /// Its number.
        id: u32,
        /// The row that is waited for, where that can be known.
        row: Option<RowName>,
    },
    /// The end of a transaction that need not write. Each has the lock of its own.
    VirtualTransaction(String),
    /// An advisory lock.
    Advisory(LockKey),
    /// Anything else that has a name in the database, such as a schema, a type or a role.
    #[non_exhaustive]
    Other {
        /// `object` and others: `locktype` in `pg_locks`.
        kind: String,
        /// The catalogue that has it, such as `pg_catalog.pg_namespace`.
        catalog: Option<String>,
        /// Its number there.
        id: Option<u32>,
    },
}

/// A table, or an index or sequence.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct RelationName {
    /// Its number.
    pub oid: u32,
    /// Its schema; `None` in another database, and for what another transaction has not committed
    /// yet.
    pub schema: Option<String>,
    /// Its name; `None` as the schema.
    pub name: Option<String>,
}

/// A row of a table, by where it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct RowName {
    /// The table.
    pub relation: RelationName,
    /// Its `ctid`: `SELECT * FROM accounts WHERE ctid = '(0,1)'` finds it, until it is changed.
    pub ctid: (u32, u16),
}

impl fmt::Display for LockedObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Relation(relation) => relation.fmt(f),
            Self::Extension(relation) => write!(f, "extension of {relation}"),
            Self::Page { relation, page } => write!(f, "page {page} of {relation}"),
            Self::Row(row) => row.fmt(f),
            Self::Transaction { row: Some(row), .. } => row.fmt(f),
            Self::Transaction { id, row: None } => write!(f, "transaction {id}"),
            Self::VirtualTransaction(id) => {
                write!(f, "virtual transaction {}", one_line(id, NAME))
            }
            Self::Advisory(key) => write!(f, "advisory lock {key}"),
            Self::Other { kind, catalog, id } => {
                f.write_str(&one_line(kind, NAME))?;
                if let Some(id) = id {
                    write!(f, " {id}")?;
                }
                match catalog {
                    Some(catalog) => write!(f, " of {}", one_line(catalog, NAME)),
                    None => Ok(()),
                }
            }
        }
    }
}

/// `bank.accounts`, or `relation 16385` where the name is not known.
impl fmt::Display for RelationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.schema, &self.name) {
            (Some(schema), Some(name)) => f.write_str(&one_line(&format!("{schema}.{name}"), NAME)),
            _ => write!(f, "relation {}", self.oid),
        }
    }
}

/// `row (0,1) of bank.accounts`
impl fmt::Display for RowName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (page, row) = self.ctid;
        write!(f, "row ({page},{row}) of {}", self.relation)
    }
}
