use std::fmt;

use diesel::connection::LoadConnection;
use diesel::dsl::sql;
use diesel::pg::Pg;
use diesel::pg::data_types::PgTimestamp;
use diesel::sql_types::{Array, Integer, Nullable, Text, Timestamptz};
use diesel::{QueryResult, RunQueryDsl};

use super::session::{SessionInfo, timestamp};
use super::sql::ACTIVITY;

/// How to end what a session does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum End {
    /// `pg_cancel_backend`: its statement fails, if it runs one. A transaction is aborted by that,
    /// and keeps its locks until its client rolls it back.
    Cancel,
    /// `pg_terminate_backend`: the session ends, and its transaction is rolled back.
    Terminate,
}

/// What became of a session that was to be ended.
///
/// `Display` is one line: `terminated pid 4711 (billing, as app), for 12 s, …`, or `spared pid 4711
/// …, because it is a superuser's`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct SessionEnd {
    /// The session, as it was before.
    pub session: SessionInfo,
    /// How it was to be ended.
    pub how: End,
    /// Why it was left alone; `None` if the server has told it to end.
    pub spared: Option<Spared>,
}

/// Why a session was left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Spared {
    /// It is a prepared transaction, which has no session: `ROLLBACK PREPARED` ends it.
    Prepared,
    /// It is the session that was to do it.
    Own,
    /// It was gone, or it was not in the way any more.
    Gone,
    /// Its role is a superuser.
    Superuser,
    /// It is a process of the server, such as autovacuum, or of a replication.
    ServerProcess,
    /// It may not be seen when it began, and so it can't be told from another one with its pid.
    Hidden,
    /// The right to end it is missing.
    NotPermitted,
}

impl SessionEnd {
    /// Whether the server has told it to end.
    pub fn is_ended(&self) -> bool {
        self.spared.is_none()
    }
}

impl fmt::Display for SessionEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let session = &self.session;
        match (self.spared, self.how) {
            (None, End::Cancel) => write!(f, "cancelled {session}"),
            (None, End::Terminate) => write!(f, "terminated {session}"),
            (Some(spared), _) => write!(f, "spared {}, because {spared}", session.who()),
        }
    }
}

impl fmt::Display for Spared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Prepared => "it is a prepared transaction, for ROLLBACK PREPARED",
            Self::Own => "it is the session that was to do it",
            Self::Gone => "it was not in the way any more",
            Self::Superuser => "it is a superuser's",
            Self::ServerProcess => "it is a process of the server",
            Self::Hidden => "this role may not see when it began",
            Self::NotPermitted => "this role may not end it",
        })
    }
}

impl Spared {
    /// As the statement says it.
    fn read(answer: &str) -> Self {
        match answer {
            "own" => Self::Own,
            "superuser" => Self::Superuser,
            "server" => Self::ServerProcess,
            "hidden" => Self::Hidden,
            "right" => Self::NotPermitted,
            _ => Self::Gone,
        }
    }
}

/// Ends the sessions, unless one is to be spared; in particular, if a `waiter` is given, one that is
/// not in its way.
///
/// One round trip, if there is anything to end. The server would fail the whole statement for want
/// of a right, so that is looked up as the server does.
pub(super) fn end<C>(
    conn: &mut C,
    sessions: Vec<SessionInfo>,
    how: End,
    waiter: Option<i32>,
) -> QueryResult<Vec<SessionEnd>>
where
    C: LoadConnection<Backend = Pg>,
{
    let (pids, begun): (Vec<_>, Vec<_>) = (sessions.iter())
        .filter(|session| session.prepared.is_none())
        .map(|session| (session.pid, session.backend_start.map(timestamp)))
        .unzip();
    let answers = match pids.is_empty() {
        true => Vec::new(),
        false => tell(conn, how, pids, begun, waiter)?,
    };
    let judged = sessions.into_iter().map(|session| {
        let answer = answers.iter().find(|(pid, _)| *pid == session.pid);
        let spared = match (&session.prepared, answer) {
            (Some(_), _) => Some(Spared::Prepared),
            (None, Some((_, spared))) => spared.as_deref().map(Spared::read),
            (None, None) => Some(Spared::Gone),
        };
        SessionEnd {
            session,
            how,
            spared,
        }
    });
    Ok(judged.collect())
}

/// For each session why it is spared, if it is.
fn tell<C>(
    conn: &mut C,
    how: End,
    pids: Vec<i32>,
    begun: Vec<Option<PgTimestamp>>,
    waiter: Option<i32>,
) -> QueryResult<Vec<(i32, Option<String>)>>
where
    C: LoadConnection<Backend = Pg>,
{
    let function = match how {
        End::Cancel => "pg_catalog.pg_cancel_backend",
        End::Terminate => "pg_catalog.pg_terminate_backend",
    };
    sql::<(Integer, Nullable<Text>)>(&format!("WITH {ACTIVITY}, question AS MATERIALIZED (SELECT "))
        .bind::<Nullable<Integer>, _>(waiter)
        .sql("::integer AS waiter), asked AS MATERIALIZED (SELECT pid, begun FROM ROWS FROM (pg_catalog.unnest(")
        .bind::<Array<Integer>, _>(pids)
        .sql("), pg_catalog.unnest(")
        .bind::<Array<Nullable<Timestamptz>>, _>(begun)
        .sql(&format!(
            ")) AS asked (pid, begun)), \
             judged AS MATERIALIZED (SELECT asked.pid, CASE \
             WHEN asked.pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid() THEN 'own' \
             WHEN activity.pid IS NULL THEN 'gone' \
             WHEN begun IS NULL OR backend_start IS NULL THEN 'hidden' \
             WHEN backend_start OPERATOR(pg_catalog.<>) begun THEN 'gone' \
             WHEN backend_type OPERATOR(pg_catalog.<>) 'client backend' THEN 'server' \
             WHEN rolsuper THEN 'superuser' \
             WHEN NOT (pg_catalog.pg_has_role(usesysid, 'USAGE') OR pg_catalog.pg_has_role(\
             'pg_signal_backend'::pg_catalog.name, 'USAGE')) THEN 'right' \
             WHEN waiter IS NOT NULL AND NOT (asked.pid OPERATOR(pg_catalog.=) \
             ANY (pg_catalog.pg_blocking_pids(waiter))) THEN 'gone' END AS spared \
             FROM question, asked LEFT JOIN diesel_locks_activity AS activity \
             ON activity.pid OPERATOR(pg_catalog.=) asked.pid \
             LEFT JOIN pg_catalog.pg_roles ON pg_roles.oid OPERATOR(pg_catalog.=) usesysid) \
             SELECT pid, CASE WHEN spared IS NOT NULL THEN spared \
             WHEN NOT {function}(pid) THEN 'gone' END FROM judged"
        ))
        .load(conn)
}
