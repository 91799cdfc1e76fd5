mod analysis;
mod diagrams;
#[cfg(test)]
mod properties;
mod tree;

use std::collections::{BTreeMap, BTreeSet};

use diesel::connection::LoadConnection;
use diesel::dsl::sql;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{Array, Integer, Text};

use analysis::Analysis;

use super::ext::ObserveExt;
use super::lock::LockWait;
use super::session::{SessionId, SessionInfo, SessionRow};
use super::sql::{ACTIVITY, PREPARED, SESSION, SESSIONS, TAKEN};
use crate::LockError;

/// Who waits for whom, of a whole server, at one moment.
///
/// `Display` is a tree, the sessions that hold up most first. What waits for several is under one of
/// them, and says behind whom else it is:
///
/// ```
/// use diesel::prelude::*;
/// use diesel_locks::{WaitGraph, prelude::*};
/// use diesel_locks_harness::TestDatabase;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let database = TestDatabase::new()?;
/// # let mut conn = PgConnection::establish(database.url())?;
/// let graph = WaitGraph::load(&mut conn)?;
/// for root in graph.roots() {
///     println!("{} holds up {} sessions", root.sessions[0], root.holds_up);
/// }
/// println!("{graph}");
/// # Ok(())
/// # }
/// ```
///
/// ```text
/// pid 4711 (billing, as app) holds up 2, for 2 min 5 s, idle in transaction: UPDATE accounts SET …
/// ├─ pid 4712 (web, as app) waits 12 s for row (0,1) of public.accounts, ShareLock: UPDATE …
/// │  └─ pid 4714 (web, as app) waits 3 s for advisory lock "gold_leader", ExclusiveLock: SELECT …
/// └─ …
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct WaitGraph {
    sessions: BTreeMap<SessionId, SessionInfo>,
    waits: Vec<LockWait>,
}

/// Those that others wait for, and that wait for nobody but each other.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct RootBlocker<'g> {
    /// One session, or several that wait for each other: a deadlock.
    pub sessions: Vec<&'g SessionInfo>,
    /// How many other sessions wait for these, or for one that does.
    pub holds_up: usize,
}

/// One session that waits for another.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct WaitEdge<'g> {
    /// Who waits.
    pub waiter: &'g SessionInfo,
    /// Who is in the way.
    pub blocker: &'g SessionInfo,
    /// For what, and how long.
    pub wait: &'g LockWait,
}

impl WaitGraph {
    /// Asks the server.
    ///
    /// Two round trips, or one if nobody waits, however many sessions there are. The answers of
    /// `pg_blocking_pids` are not all of the same moment, so in a server with much traffic there may
    /// be an edge, and a cycle even, of what was over a moment later.
    ///
    /// Rights, transactions and errors are those of [`ObserveExt`].
    pub fn load<C>(conn: &mut C) -> Result<Self, LockError>
    where
        C: LoadConnection<Backend = Pg>,
    {
        let waits = conn.lock_waits()?;
        let ids: BTreeSet<_> = waits
            .iter()
            .flat_map(|wait| wait.blockers.iter().cloned().chain([wait.waiter()]))
            .collect();
        let waiters = waits.iter().map(|wait| &wait.lock.session);
        let mut known: BTreeMap<_, _> = waiters
            .map(|session| (session.id(), session.clone()))
            .collect();
        let missing: Vec<_> = ids.iter().filter(|id| !known.contains_key(*id)).collect();
        if !missing.is_empty() {
            let found = named(conn, &missing)?;
            known.extend(found.into_iter().map(|session| (session.id(), session)));
        }
        let sessions = ids.into_iter().map(|id| {
            // One that has ended since is known by its number alone.
            let session = known
                .remove(&id)
                .unwrap_or_else(|| SessionInfo::unknown(&id));
            (id, session)
        });
        Ok(Self {
            sessions: sessions.collect(),
            waits,
        })
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waits.is_empty()
    }

    /// The waits, the longest first.
    pub fn waits(&self) -> &[LockWait] {
        &self.waits
    }

    /// Everybody who waits or is waited for.
    pub fn sessions(&self) -> impl Iterator<Item = &SessionInfo> {
        self.sessions.values()
    }

    /// Who waits for whom, each pair once for each lock.
    pub fn edges(&self) -> impl Iterator<Item = WaitEdge<'_>> {
        self.waits.iter().flat_map(move |wait| {
            let waiter = self.sessions.get(&wait.waiter());
            wait.blockers.iter().filter_map(move |blocker| {
                Some(WaitEdge {
                    waiter: waiter?,
                    blocker: self.sessions.get(blocker)?,
                    wait,
                })
            })
        })
    }

    fn analysis(&self) -> Analysis<'_> {
        Analysis::of(&self.sessions, &self.waits)
    }

    /// Those that are in everybody's way, and wait for nobody themselves, or only for each other.
    /// The one that holds up most is the first.
    pub fn roots(&self) -> Vec<RootBlocker<'_>> {
        let analysis = self.analysis();
        let roots = analysis.roots().into_iter();
        roots
            .map(|(members, holds_up)| RootBlocker {
                sessions: members.iter().map(|&at| analysis.sessions[at]).collect(),
                holds_up,
            })
            .collect()
    }

    /// Those that wait for each other: deadlocks, one of which the server ends after its
    /// `deadlock_timeout`.
    ///
    /// Each of the sessions waits, directly or not, for all others of its cycle.
    pub fn cycles(&self) -> Vec<Vec<&SessionInfo>> {
        let analysis = self.analysis();
        let cycles = analysis.cycles();
        cycles
            .map(|members| members.iter().map(|&at| analysis.sessions[at]).collect())
            .collect()
    }
}

/// These sessions, as far as they are still there.
fn named<C>(conn: &mut C, ids: &[&SessionId]) -> QueryResult<Vec<SessionInfo>>
where
    C: LoadConnection<Backend = Pg>,
{
    let (mut pids, mut prepared) = (Vec::new(), Vec::new());
    for id in ids {
        match id {
            SessionId::Pid(pid) => pids.push(*pid),
            SessionId::Prepared(name) => prepared.push(name.as_str()),
        }
    }
    sql::<SessionRow>(&format!(
        "WITH {ACTIVITY}, {TAKEN}, {PREPARED}, {SESSIONS} \
         SELECT {SESSION} FROM diesel_locks_sessions AS sessions \
         WHERE CASE WHEN prepared IS NULL THEN pid OPERATOR(pg_catalog.=) ANY ("
    ))
    .bind::<Array<Integer>, _>(pids)
    .sql(") ELSE prepared OPERATOR(pg_catalog.=) ANY (")
    .bind::<Array<Text>, _>(prepared)
    .sql(") END")
    .load(conn)
}
