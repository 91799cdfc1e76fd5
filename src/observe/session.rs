use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use diesel::deserialize::{self, Queryable};
use diesel::pg::Pg;
use diesel::pg::data_types::{PgInterval, PgTimestamp};
use diesel::sql_types::{Integer, Interval, Nullable, Text, Timestamptz};
use diesel::{Selectable, Table};

use super::tables::sessions;
use super::words::{Time, one_line};

/// How much of a statement stands in a line.
const STATEMENT: usize = 100;

/// A session of the server, or a prepared transaction, which has none: who it is and what it does.
///
/// PostgreSQL shows what a session does to its own role, to members of that role, and to members
/// of `pg_read_all_stats`, such as `pg_monitor`. To others it shows that the session is there, and
/// the rest is `None` here: see [`is_hidden`](Self::is_hidden).
///
/// `Display` is one line: `pid 4711 (billing, as app), for 12 s, idle in transaction: SELECT …`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct SessionInfo {
    /// Its backend pid; 0 for a prepared transaction.
    pub pid: i32,
    /// The name of a prepared transaction: `COMMIT PREPARED` or `ROLLBACK PREPARED` ends it.
    pub prepared: Option<String>,
    /// Its `application_name`, if it has one.
    pub application: Option<String>,
    /// Its role.
    pub user: Option<String>,
    /// The address of its client; `None` through a Unix socket.
    pub client: Option<String>,
    /// Its database; processes of the server itself have none.
    pub database: Option<String>,
    /// `client backend`, `autovacuum worker`, `parallel worker` and others; `None` for a prepared
    /// transaction, and where it is hidden.
    pub backend_type: Option<String>,
    /// `active`, `idle in transaction` and others.
    pub state: Option<String>,
    /// What it runs, or what it has run last; the server keeps the first
    /// `track_activity_query_size` bytes of it. In a database of another encoding than the one that is
    /// asked, what is not ASCII is shown by its bytes: `\351`.
    pub query: Option<String>,
    /// How long ago its transaction began; without one, how long it has been in its state; for a
    /// prepared transaction, how long ago it was prepared.
    pub age: Option<Duration>,
    /// When it began: with the pid it names the session, as a pid is used again.
    pub backend_start: Option<SystemTime>,
    /// The session that it works for, if it is a parallel worker.
    pub leader: Option<i32>,
}

impl SessionInfo {
    /// What tells it from all others of the server.
    pub fn id(&self) -> SessionId {
        match &self.prepared {
            Some(name) => SessionId::Prepared(name.clone()),
            None => SessionId::Pid(self.pid),
        }
    }

    /// A session of which nothing more is known: it is gone.
    pub(super) fn unknown(id: &SessionId) -> Self {
        let (pid, prepared) = match id {
            SessionId::Pid(pid) => (*pid, None),
            SessionId::Prepared(name) => (0, Some(name.clone())),
        };
        Self {
            pid,
            prepared,
            application: None,
            user: None,
            client: None,
            database: None,
            backend_type: None,
            state: None,
            query: None,
            age: None,
            backend_start: None,
            leader: None,
        }
    }

    /// Whether the role that has asked may not see what the session does, or the session was gone
    /// when it was looked at.
    pub fn is_hidden(&self) -> bool {
        self.backend_type.is_none() && self.prepared.is_none()
    }
}

/// What tells a session, or a prepared transaction, from all others that the server has at a time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum SessionId {
    /// The backend pid of a session.
    Pid(i32),
    /// The name of a prepared transaction.
    Prepared(String),
}

/// `pid 4711`, or `prepared transaction "payout 7"`.
impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pid(pid) => write!(f, "pid {pid}"),
            Self::Prepared(name) => {
                write!(f, "prepared transaction \"{}\"", one_line(name, STATEMENT))
            }
        }
    }
}

impl SessionInfo {
    /// `pid 4711 (billing, as app)`
    pub(super) fn who(&self) -> String {
        let short = |name: &Option<String>| name.as_deref().map(|it| one_line(it, STATEMENT));
        let id = self.id();
        match (short(&self.application), short(&self.user)) {
            (Some(application), Some(user)) => format!("{id} ({application}, as {user})"),
            (Some(application), None) => format!("{id} ({application})"),
            (None, Some(user)) => format!("{id} (as {user})"),
            (None, None) => id.to_string(),
        }
    }

    /// `, for 12 s, idle in transaction: SELECT …`
    pub(super) fn doing(&self) -> String {
        if self.is_hidden() {
            return ", doing what this role may not see".to_owned();
        }
        let mut doing = String::new();
        if let Some(age) = self.age {
            doing.push_str(&format!(", for {}", Time(age)));
        }
        if let Some(state) = self.state.as_ref().or(self.backend_type.as_ref()) {
            // An extension calls its workers as it likes.
            doing.push_str(&format!(", {}", one_line(state, STATEMENT)));
        }
        doing.push_str(&self.statement());
        doing
    }

    /// `: SELECT …`
    pub(super) fn statement(&self) -> String {
        let query = self.query.as_deref();
        query.map_or_else(String::new, |query| {
            format!(": {}", one_line(query, STATEMENT))
        })
    }
}

impl fmt::Display for SessionInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.who(), self.doing())
    }
}

/// The columns that a session is made of, in their order.
pub(super) type SessionRow = (
    Integer,
    Nullable<Text>,
    Nullable<Text>,
    Nullable<Text>,
    Nullable<Text>,
    Nullable<Text>,
    Nullable<Text>,
    Nullable<Text>,
    Nullable<Text>,
    Nullable<Interval>,
    Nullable<Timestamptz>,
    Nullable<Integer>,
);

/// What Diesel makes of them.
pub(super) type SessionValues = (
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
);

impl Queryable<SessionRow, Pg> for SessionInfo {
    type Row = SessionValues;

    fn build(row: Self::Row) -> deserialize::Result<Self> {
        let (pid, prepared, application, user, client, database, kind, state, ..) = row;
        let (.., query, age, start, leader) = row;
        Ok(Self {
            pid,
            prepared,
            application,
            user,
            client,
            database,
            backend_type: kind,
            state,
            query,
            age: age.map(duration),
            backend_start: start.map(time),
            leader,
        })
    }
}

impl Selectable<Pg> for SessionInfo {
    type SelectExpression = <sessions::table as Table>::AllColumns;

    fn construct_selection() -> Self::SelectExpression {
        sessions::all_columns
    }
}

/// How long an interval is; one of the past, after a clock was set back, is no time.
pub(super) fn duration(interval: PgInterval) -> Duration {
    let days =
        i64::from(interval.days).saturating_add(i64::from(interval.months).saturating_mul(30));
    let microseconds = days
        .saturating_mul(86_400_000_000)
        .saturating_add(interval.microseconds);
    Duration::from_micros(u64::try_from(microseconds).unwrap_or_default())
}

/// PostgreSQL counts from the year 2000.
const EPOCH: Duration = Duration::from_secs(946_684_800);

pub(super) fn time(timestamp: PgTimestamp) -> SystemTime {
    let since = Duration::from_micros(timestamp.0.unsigned_abs());
    let epoch = UNIX_EPOCH + EPOCH;
    // No session began at a time that a system cannot say.
    match timestamp.0 {
        0.. => epoch.checked_add(since),
        _ => epoch.checked_sub(since),
    }
    .unwrap_or(epoch)
}

/// The other way, exactly.
pub(super) fn timestamp(time: SystemTime) -> PgTimestamp {
    let since = time.duration_since(UNIX_EPOCH + EPOCH).unwrap_or_default();
    PgTimestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> SessionInfo {
        SessionInfo {
            pid: 4711,
            prepared: None,
            application: Some("billing".to_owned()),
            user: Some("app".to_owned()),
            client: None,
            database: Some("shop".to_owned()),
            backend_type: Some("client backend".to_owned()),
            state: Some("idle in transaction".to_owned()),
            query: Some("SELECT 1\n  FROM \u{1b}jobs".to_owned()),
            age: Some(Duration::from_secs(12)),
            backend_start: None,
            leader: None,
        }
    }

    #[test]
    fn a_session_is_one_line() {
        assert_eq!(
            session().to_string(),
            "pid 4711 (billing, as app), for 12 s, idle in transaction: SELECT 1 FROM jobs"
        );
        let long = SessionInfo {
            query: Some("ä".repeat(1_000)),
            ..session()
        };
        assert!(long.to_string().ends_with("ää…"));
    }

    #[test]
    fn what_may_not_be_seen_is_said() {
        let hidden = SessionInfo {
            backend_type: None,
            state: None,
            query: None,
            age: None,
            ..session()
        };
        let line = "pid 4711 (billing, as app), doing what this role may not see";
        assert_eq!(hidden.to_string(), line);
    }

    #[test]
    fn a_prepared_transaction_is_called_by_its_name() {
        let prepared = SessionInfo {
            pid: 0,
            prepared: Some("payout 7".to_owned()),
            application: None,
            backend_type: None,
            state: None,
            query: None,
            ..session()
        };
        let line = "prepared transaction \"payout 7\" (as app), for 12 s";
        assert_eq!(prepared.to_string(), line);
    }

    #[test]
    fn the_time_of_a_session_is_the_same_there_and_back() {
        for micros in [0, 1, 827_452_800_123_456] {
            assert_eq!(timestamp(time(PgTimestamp(micros))).0, micros);
        }
        let interval = PgInterval {
            months: 0,
            days: 1,
            microseconds: 5,
        };
        assert_eq!(duration(interval), Duration::from_micros(86_400_000_005));
        assert_eq!(duration(PgInterval::from_microseconds(-5)), Duration::ZERO);
    }
}
