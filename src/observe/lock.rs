use std::fmt;
use std::time::Duration;

use diesel::deserialize::{self, Queryable};
use diesel::pg::Pg;
use diesel::pg::data_types::{PgInterval, PgTimestamp};
use diesel::{Selectable, Table};

use super::mode::LockMode;
use super::object::{LockedObject, RelationName, RowName};
use super::session::{SessionId, SessionInfo, duration};
use super::tables::{lock_waits, locks};
use super::words::Time;
use crate::LockKey;

/// A lock that a session holds or waits for.
///
/// `Display` is one line: `advisory lock "gold_leader", ExclusiveLock, held by pid 4711 (billing, as
/// app), for 12 s, idle: SELECT …`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct LockInfo {
    /// Who holds it or waits for it.
    pub session: SessionInfo,
    /// What is locked.
    pub object: LockedObject,
    /// How.
    pub mode: LockMode,
    /// Whether it is held, or waited for.
    pub granted: bool,
    /// How long it has been waited for; up to PostgreSQL 13, how long the statement has run that
    /// waits.
    pub waiting: Option<Duration>,
    /// Whether it was taken on the fast path, as locks are that are in nobody's way.
    pub fast_path: bool,
}

impl fmt::Display for LockInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}, ", self.object, self.mode)?;
        match (self.granted, self.waiting) {
            (true, _) => write!(f, "held by {}", self.session),
            (false, Some(waiting)) => {
                write!(f, "waited for {} by {}", Time(waiting), self.session)
            }
            (false, None) => write!(f, "waited for by {}", self.session),
        }
    }
}

/// A lock that is waited for, and who is in the way.
///
/// `Display` is one line: that of the lock, and then `, behind pid 4712 and pid 4713`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct LockWait {
    /// The lock, and who waits for it.
    pub lock: LockInfo,
    /// Who holds it, or has asked for it before: each once, as `pg_blocking_pids` says.
    pub blockers: Vec<SessionId>,
}

impl LockWait {
    /// Who waits: the session, also where its parallel worker does.
    pub fn waiter(&self) -> SessionId {
        let session = &self.lock.session;
        SessionId::Pid(session.leader.unwrap_or(session.pid))
    }
}

impl fmt::Display for LockWait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lock.fmt(f)?;
        let mut before = ", behind ";
        for blocker in &self.blockers {
            write!(f, "{before}{blocker}")?;
            before = " and ";
        }
        Ok(())
    }
}

/// What the server says of a lock, in the order of the columns, and what it says `$more`.
macro_rules! row {
    ($($more:ty),*) => {
        (
            i32,
            Option<String>,
            Option<String>,
            Option<String>,
            Option<String>,
            Option<String>,
            Option<String>,
            Option<String>,
            Option<String>,
            Option<PgInterval>,
            Option<PgTimestamp>,
            Option<i32>,
            String,
            Option<String>,
            Option<String>,
            Option<u32>,
            Option<i32>,
            Option<i16>,
            Option<String>,
            Option<i64>,
            Option<u32>,
            Option<u32>,
            Option<i16>,
            String,
            bool,
            bool,
            Option<PgInterval>,
            $($more),*
        )
    };
}

/// What is locked, as `pg_locks` has it.
struct Columns {
    kind: String,
    schema: Option<String>,
    name: Option<String>,
    oid: Option<u32>,
    page: Option<i32>,
    row: Option<i16>,
    virtualxid: Option<String>,
    transactionid: Option<i64>,
    class: Option<u32>,
    object: Option<u32>,
    subobject: Option<i16>,
}

impl Columns {
    fn object(self) -> LockedObject {
        let relation = self.oid.map(|oid| RelationName {
            oid,
            schema: self.schema.clone(),
            name: self.name.clone(),
        });
        // Both are unsigned to the server.
        let page = self.page.map(i32::cast_unsigned);
        let row = match (&relation, page, self.row) {
            (Some(relation), Some(page), Some(row)) => Some(RowName {
                relation: relation.clone(),
                ctid: (page, row.cast_unsigned()),
            }),
            _ => None,
        };
        let transaction = self.transactionid.and_then(|id| u32::try_from(id).ok());
        match (self.kind.as_str(), relation, row) {
            ("relation", Some(relation), _) => LockedObject::Relation(relation),
            ("extend", Some(relation), _) => LockedObject::Extension(relation),
            ("tuple", _, Some(row)) => LockedObject::Row(row),
            ("page", Some(relation), _) if page.is_some() => LockedObject::Page {
                relation,
                page: page.unwrap_or_default(),
            },
            ("transactionid", _, row) if transaction.is_some() => LockedObject::Transaction {
                id: transaction.unwrap_or_default(),
                row,
            },
            _ => self.other(),
        }
    }

    fn other(self) -> LockedObject {
        match (
            self.kind.as_str(),
            self.virtualxid,
            self.class,
            self.object,
            self.subobject,
        ) {
            ("virtualxid", Some(id), ..) => LockedObject::VirtualTransaction(id),
            ("advisory", _, Some(class), Some(object), Some(space)) => {
                LockedObject::Advisory(LockKey::from_pg_locks(class, object, space))
            }
            (_, _, _, id, _) => LockedObject::Other {
                catalog: self
                    .schema
                    .zip(self.name)
                    .map(|(schema, name)| format!("{schema}.{name}")),
                id,
                kind: self.kind,
            },
        }
    }
}

/// Makes a `Queryable` of the rows that have a lock, and more behind it.
macro_rules! queryable {
    ($type:ident from $table:ident, $($more:ident: $more_type:ty),* => $build:expr) => {
        impl Queryable<$table::SqlType, Pg> for $type {
            type Row = row!($($more_type),*);

            fn build(row: Self::Row) -> deserialize::Result<Self> {
                let (
                    pid, prepared, application, user, client, database, backend_type, state, query,
                    age, backend_start, leader, kind, schema, name, oid, page, row, virtualxid,
                    transactionid, class, object, subobject, mode, granted, fast_path, waiting,
                    $($more),*
                ) = row;
                let session = (
                    pid, prepared, application, user, client, database, backend_type, state, query,
                    age, backend_start, leader,
                );
                let columns = Columns {
                    kind, schema, name, oid, page, row, virtualxid, transactionid, class, object,
                    subobject,
                };
                let lock = LockInfo {
                    session: SessionInfo::build(session)?,
                    object: columns.object(),
                    mode: LockMode::read(&mode)?,
                    granted,
                    waiting: waiting.map(duration),
                    fast_path,
                };
                Ok($build(lock, $($more),*))
            }
        }

        impl Selectable<Pg> for $type {
            type SelectExpression = <$table::table as Table>::AllColumns;

            fn construct_selection() -> Self::SelectExpression {
                $table::all_columns
            }
        }
    };
}

queryable!(LockInfo from locks, => |lock| lock);

queryable!(LockWait from lock_waits, blockers: Vec<i32>, prepared: Vec<String> => LockWait::new);

impl LockWait {
    fn new(lock: LockInfo, pids: Vec<i32>, prepared: Vec<String>) -> Self {
        // 0 stands for the prepared ones, and a session is named once for each of its workers.
        let pids = pids.into_iter().filter(|pid| *pid != 0).map(SessionId::Pid);
        let mut blockers: Vec<_> = pids
            .chain(prepared.into_iter().map(SessionId::Prepared))
            .collect();
        blockers.sort_unstable();
        blockers.dedup();
        Self { lock, blockers }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No session can be made to hold it for as long as a look takes.
    #[test]
    fn a_relation_that_is_being_made_longer_is_called_so() {
        let columns = Columns {
            kind: "extend".to_owned(),
            schema: Some("public".to_owned()),
            name: Some("accounts".to_owned()),
            oid: Some(7),
            page: None,
            row: None,
            virtualxid: None,
            transactionid: None,
            class: None,
            object: None,
            subobject: None,
        };
        let object = columns.object();
        assert!(
            matches!(&object, LockedObject::Extension(relation) if relation.oid == 7),
            "{object:?}"
        );
    }
}
