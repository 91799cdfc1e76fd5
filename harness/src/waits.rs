//! Who waits for whom: the one place that asks the server, for all that the harness runs.

mod queries;

use std::time::{Duration, Instant};

use diesel::connection::{Connection, SimpleConnection};
use diesel::dsl::sql;
use diesel::expression::SqlLiteral;
use diesel::query_dsl::methods::LoadQuery;
use diesel::sql_types::Integer;
use diesel::{QueryResult, RunQueryDsl};

use diesel_locks::LockKey;
use queries::{WaitedLock, Waits, WaitsBeside};

/// How old a step is when the server is first asked whether it waits: most have ended by then.
const PATIENCE: Duration = Duration::from_micros(700);

/// How old it is when other connections are looked at, of which most tests have none.
const PATIENCE_BESIDE: Duration = Duration::from_millis(5);

/// How long until the server is asked again: at least, and at most.
const POLL: (Duration, Duration) = (Duration::from_micros(250), Duration::from_millis(10));

/// When to ask first about what began at `begun`.
pub(crate) fn first_look(begun: Instant) -> Instant {
    begun + PATIENCE
}

/// When to ask again about what began at `begun`: the longer it takes, the less often.
pub(crate) fn next_look(begun: Instant) -> Instant {
    let now = Instant::now();
    now + (now.saturating_duration_since(begun) / 8).clamp(POLL.0, POLL.1)
}

/// What to find out.
#[derive(Debug)]
pub(crate) struct Question {
    /// The sessions of which it is asked whether they wait.
    pub(crate) sessions: Vec<i32>,
    /// Those that are doing something, of all: these, and maybe others.
    pub(crate) busy: Vec<i32>,
    /// All that are of the test.
    pub(crate) all: Vec<i32>,
    /// The sessions that were seen to wait on a connection beside their own, and that one's.
    pub(crate) beside: Vec<(i32, i32)>,
    /// When the test began.
    pub(crate) begun: Instant,
    /// When the last of the sessions began what it does.
    pub(crate) started: Instant,
}

/// A session that waits.
#[derive(Debug, Clone)]
pub(crate) struct Wait {
    pub(crate) session: i32,
    /// The one that waits on the server: the same, or that of a connection beside it, which the
    /// session's thread uses.
    pub(crate) waiter: i32,
    pub(crate) blockers: Vec<i32>,
}

/// The waits of the sessions; `None` unless each of them does wait for others of the test, and
/// will until somebody else changes that.
///
/// The server is asked twice: when it is asked once, a session may be seen to wait for one that
/// was seen to wait a moment later, and that has let it go on in between.
pub(crate) fn if_all_wait<O: Observer + ?Sized>(
    observer: &mut O,
    question: &Question,
) -> QueryResult<Option<Vec<Wait>>> {
    match waits(observer, question)? {
        Some(_) => waits(observer, question),
        None => Ok(None),
    }
}

/// Which of `busy` are idle on the server, and so hang elsewhere, if they do.
pub(crate) fn idle<O: Observer + ?Sized>(observer: &mut O, busy: &[i32]) -> QueryResult<Vec<i32>> {
    let rows = observer.waits_beside(busy, busy, Duration::ZERO)?;
    let idle = rows.into_iter().filter(|(_, blocker)| *blocker == IDLE);
    Ok(idle.map(|(session, _)| session).collect())
}

fn waits<O: Observer + ?Sized>(
    observer: &mut O,
    question: &Question,
) -> QueryResult<Option<Vec<Wait>>> {
    let rows = observer.waits(&question.sessions, &question.all)?;
    let (mut waits, mut others) = (Vec::new(), Vec::new());
    for &session in &question.sessions {
        match blockers(&rows, session) {
            blockers if blockers.is_empty() => others.push(session),
            blockers => waits.push(Wait {
                session,
                waiter: session,
                blockers,
            }),
        }
    }
    if others.is_empty() {
        return Ok(Some(waits));
    }
    if question.started.elapsed() < PATIENCE_BESIDE {
        return Ok(None);
    }
    let since = question.begun.elapsed();
    let rows = observer.waits_beside(&question.busy, &question.all, since)?;
    let Some(beside) = waits_beside(&rows, &others, question) else {
        return Ok(None);
    };
    waits.extend(beside);
    Ok(Some(waits))
}

/// Who of these waits on a connection beside its own; `None` unless each of them does.
///
/// A session that is doing something, and is idle on the server, does it elsewhere. Which of the
/// other connections is whose, the server can't say; but when there are as many that wait as there
/// are such sessions, all of them do.
fn waits_beside(rows: &[(i32, i32)], sessions: &[i32], question: &Question) -> Option<Vec<Wait>> {
    let known = |session| question.beside.iter().find(|(of, _)| *of == session);
    let is_idle = |session: i32| rows.contains(&(session, IDLE));
    let mut free: Vec<i32> = rows.iter().map(|(waiter, _)| *waiter).collect();
    free.sort_unstable();
    free.dedup();
    free.retain(|&waiter| {
        !question.busy.contains(&waiter) && question.beside.iter().all(|(_, of)| *of != waiter)
    });
    let elsewhere = question.busy.iter().copied();
    let elsewhere = elsewhere.filter(|&busy| is_idle(busy) && known(busy).is_none());
    if free.len() < elsewhere.count() {
        return None;
    }
    let mut free = free.into_iter();
    let wait = |&session: &i32| {
        let waiter = match known(session) {
            Some((_, waiter)) => *waiter,
            None => free.next()?,
        };
        let blockers = blockers(rows, waiter);
        (is_idle(session) && !blockers.is_empty()).then_some(Wait {
            session,
            waiter,
            blockers,
        })
    };
    sessions.iter().map(wait).collect()
}

fn blockers(rows: &[(i32, i32)], waiter: i32) -> Vec<i32> {
    let rows = rows.iter().filter(|(of, _)| *of == waiter);
    rows.map(|(_, blocker)| *blocker).collect()
}

/// Stands for a blocker where a session is idle: no process has this number.
const IDLE: i32 = 0;

/// How to stop a session.
#[derive(Debug, Clone, Copy)]
pub enum Stop {
    /// `pg_cancel_backend`: the statement fails, if there is one.
    Cancel,
    /// `pg_terminate_backend`: the session ends.
    Terminate,
}

/// A connection beside the sessions, on which the server is asked about them.
///
/// Every connection of Diesel's can be one, but only PostgreSQL has the answers.
pub trait Observer: SimpleConnection {
    /// The process of the connection's own session.
    fn backend_pid(&mut self) -> QueryResult<i32>;

    /// Who of `waiters` waits, and for whom of `all`.
    fn waits(&mut self, waiters: &[i32], all: &[i32]) -> QueryResult<Vec<(i32, i32)>>;

    /// Which of `busy` are idle, with [`IDLE`]; and who else waits in their database, of those that
    /// have done something for so long, and for whom of `all` or of those.
    fn waits_beside(
        &mut self,
        busy: &[i32],
        all: &[i32],
        since: Duration,
    ) -> QueryResult<Vec<(i32, i32)>>;

    /// The lock that a session waits for, in words; empty where it does not wait for one.
    fn waited_lock(&mut self, waiter: i32) -> QueryResult<String>;

    /// Whether the server has a session, or something of it.
    fn is_there(&mut self, pid: i32) -> QueryResult<bool>;

    /// Stops what a session does.
    fn stop(&mut self, pid: i32, stop: Stop) -> QueryResult<()>;
}

impl<C> Observer for C
where
    C: Connection,
    for<'q> SqlLiteral<Integer>: LoadQuery<'q, C, i32>,
    for<'q> Waits: LoadQuery<'q, C, (i32, i32)>,
    for<'q> WaitsBeside: LoadQuery<'q, C, (i32, i32)>,
    for<'q> WaitedLock: LoadQuery<'q, C, String>,
{
    fn backend_pid(&mut self) -> QueryResult<i32> {
        sql::<Integer>("SELECT pg_catalog.pg_backend_pid()").get_result(self)
    }

    fn waits(&mut self, waiters: &[i32], all: &[i32]) -> QueryResult<Vec<(i32, i32)>> {
        let (waiters, all) = (array(waiters), array(all));
        Waits { waiters, all }.load(self)
    }

    fn waits_beside(
        &mut self,
        busy: &[i32],
        all: &[i32],
        since: Duration,
    ) -> QueryResult<Vec<(i32, i32)>> {
        let query = WaitsBeside {
            busy: array(busy),
            all: array(all),
            seconds: since.as_secs_f64().to_string(),
        };
        query.load(self)
    }

    fn waited_lock(&mut self, waiter: i32) -> QueryResult<String> {
        let lock: Option<String> = WaitedLock { waiter }.load(self)?.pop();
        Ok(by_name(lock.unwrap_or_default()))
    }

    fn is_there(&mut self, pid: i32) -> QueryResult<bool> {
        let count = sql::<Integer>(&format!(
            "SELECT pg_catalog.count(*)::integer FROM pg_catalog.pg_stat_get_activity(NULL) AS a \
             WHERE a.pid OPERATOR(pg_catalog.=) {pid}"
        ));
        let count: i32 = count.get_result(self)?;
        Ok(count > 0)
    }

    fn stop(&mut self, pid: i32, stop: Stop) -> QueryResult<()> {
        let function = match stop {
            Stop::Cancel => "pg_catalog.pg_cancel_backend",
            Stop::Terminate => "pg_catalog.pg_terminate_backend",
        };
        let stopped = sql::<Integer>(&format!("SELECT {function}({pid})::integer"));
        stopped.load::<i32>(self).map(drop)
    }
}

/// `advisory lock 42` with the name of the key, if this process has used one.
fn by_name(lock: String) -> String {
    const KIND: &str = "advisory lock ";
    let key = lock.split_once(KIND).and_then(|(before, key)| {
        let pair = || {
            let pair = key.strip_prefix('(')?.strip_suffix(')')?;
            let (class, object) = pair.split_once(", ")?;
            Some(LockKey::Pair(class.parse().ok()?, object.parse().ok()?))
        };
        let single = key.parse().ok().map(LockKey::Single);
        Some((before, single.or_else(pair)?))
    });
    match key {
        Some((before, key)) => format!("{before}{KIND}{key}"),
        None => lock,
    }
}

/// Processes as PostgreSQL writes an array: other backends have no type for one.
fn array(pids: &[i32]) -> String {
    let pids: Vec<_> = pids.iter().map(i32::to_string).collect();
    format!("{{{}}}", pids.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_advisory_lock_is_called_by_its_name_where_that_is_known() {
        let LockKey::Single(key) = LockKey::named("waited for") else {
            panic!("a name is a single number");
        };
        for (lock, named) in [
            (
                format!("ShareLock on advisory lock {key}"),
                "ShareLock on advisory lock \"waited for\"",
            ),
            (
                "ExclusiveLock on advisory lock (-1, 2)".to_owned(),
                "ExclusiveLock on advisory lock (-1, 2)",
            ),
            (
                "ShareLock on a row of accounts".to_owned(),
                "ShareLock on a row of accounts",
            ),
            (String::new(), ""),
        ] {
            assert_eq!(by_name(lock), named);
        }
    }
}
