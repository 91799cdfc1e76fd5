//! The session that holds the lock.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::fs;
use std::os::fd::RawFd;
use std::os::unix::fs::FileTypeExt;
use std::time::Instant;

use diesel::sql_types::{Bool, Integer, Text};
use diesel::{PgConnection, RunQueryDsl};
use diesel_locks::{
    AcquireError, AdvisoryLock, LockError, OwnedAdvisoryLockGuard, SessionInfo, Wait,
};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use super::arguments::Run;
use crate::database::leave_no_waiter_behind;
use crate::failure::{Failure, status};
use crate::output;

/// A lock that is held.
pub(super) struct Session {
    pub(super) guard: OwnedAdvisoryLockGuard<PgConnection>,
    pub(super) backend_pid: i32,
    pub(super) sockets: Sockets,
}

/// Why there is no lock.
pub(super) enum Refused {
    /// It was not granted, and who holds it.
    Lock(LockError, Vec<SessionInfo>),
    /// The locks of a standby are not those of its primary, which others may be connected to.
    Standby,
}

impl Refused {
    pub(super) fn is_contention(&self) -> bool {
        matches!(self, Self::Lock(error, _) if error.is_contention())
    }

    /// Says who holds it.
    pub(super) fn tell(&self) {
        if let Self::Lock(error, holders) = self {
            tell(error, holders);
        }
    }
}

impl From<LockError> for Refused {
    fn from(error: LockError) -> Self {
        Self::Lock(error, Vec::new())
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Lock(error, _) => error.into(),
            Refused::Standby => Self::new(
                "the server is a standby, whose advisory locks are not those of its primary: of \
                 several hosts, target_session_attrs=read-write in the URL chooses the primary",
            )
            .status(status::UNAVAILABLE),
        }
    }
}

fn tell(what: impl Display, holders: &[SessionInfo]) {
    output::tell(what);
    for holder in holders {
        output::tell(format_args!("held by {holder}"));
    }
}

/// Connects, and takes the lock.
pub(super) fn take(run: &Run) -> Result<Session, Refused> {
    let before = sockets();
    let mut conn = run.database.connect()?;
    let sockets = Sockets(sockets().difference(&before).copied().collect());
    let introduced = introduce(&mut conn, run.key.text()).map_err(LockError::from)?;
    if introduced.is_standby {
        return Err(Refused::Standby);
    }
    let backend_pid = introduced.backend_pid;
    let guard = acquire(conn, run)?;
    Ok(Session {
        guard,
        backend_pid,
        sockets,
    })
}

fn acquire(conn: PgConnection, run: &Run) -> Result<OwnedAdvisoryLockGuard<PgConnection>, Refused> {
    let lock = match run.shared {
        true => AdvisoryLock::shared(run.key.key()),
        false => AdvisoryLock::exclusive(run.key.key()),
    };
    let mut timeout = run.timeout;
    let mut conn = match (run.nowait, run.wait_message) {
        (false, false) => conn,
        _ => match OwnedAdvisoryLockGuard::acquire(conn, lock, Wait::NoWait) {
            Ok(guard) => return Ok(guard),
            Err(refused) if run.nowait || !refused.error.is_contention() => {
                return Err(with_holders(refused, run));
            }
            Err(mut refused) => {
                let begun = Instant::now();
                let holders = holders(&mut refused);
                tell(format_args!("waiting for {lock}"), &holders);
                timeout = timeout.map(|timeout| timeout.saturating_sub(begun.elapsed()));
                refused.conn
            }
        },
    };
    leave_no_waiter_behind(&mut conn);
    let wait = match timeout {
        Some(timeout) => Wait::Timeout(timeout),
        None => Wait::Block,
    };
    OwnedAdvisoryLockGuard::acquire(conn, lock, wait).map_err(|refused| with_holders(refused, run))
}

fn with_holders(mut refused: AcquireError<PgConnection>, run: &Run) -> Refused {
    let holders = match run.quiet {
        true => Vec::new(),
        false => holders(&mut refused),
    };
    Refused::Lock(refused.error, holders)
}

/// Who holds it; nobody, where that cannot be learnt.
fn holders(refused: &mut AcquireError<PgConnection>) -> Vec<SessionInfo> {
    let AcquireError { conn, error } = refused;
    let mut holders = error.holders(conn).unwrap_or_default();
    for holder in &mut holders {
        // What an idle session has run last is not what it holds the lock for.
        if holder.state.as_deref() == Some("idle") {
            holder.query = None;
        }
    }
    holders
}

#[derive(diesel::QueryableByName)]
struct Introduced {
    #[diesel(sql_type = Integer)]
    backend_pid: i32,
    #[diesel(sql_type = Bool)]
    is_standby: bool,
}

/// Tells the server who this is, unless the environment has done so, and asks who it is.
fn introduce(conn: &mut PgConnection, name: &str) -> diesel::QueryResult<Introduced> {
    diesel::sql_query(
        "SELECT pg_catalog.pg_backend_pid() AS backend_pid, \
         pg_catalog.pg_is_in_recovery() AS is_standby, CASE WHEN \
         pg_catalog.current_setting('application_name') OPERATOR(pg_catalog.=) '' \
         THEN pg_catalog.set_config('application_name', $1, false) END AS application",
    )
    // The server has it in ASCII, and its database may not have the letters.
    .bind::<Text, _>(format!("diesel_locks run {name}").replace(|c: char| !c.is_ascii(), "?"))
    .get_result(conn)
}

/// The descriptors of the connection: one.
pub(super) struct Sockets(Vec<RawFd>);

impl Sockets {
    /// Runs `spawn`, whose process has the connection open too; no other process gets it.
    pub(super) fn shared<T>(&self, spawn: impl FnOnce() -> T) -> T {
        self.set(FdFlag::empty());
        let spawned = spawn();
        self.set(FdFlag::FD_CLOEXEC);
        spawned
    }

    fn set(&self, flags: FdFlag) {
        for &socket in &self.0 {
            // It is open: the guard has the connection.
            let _ = fcntl(socket, FcntlArg::F_SETFD(flags));
        }
    }
}

/// All sockets that this process has.
fn sockets() -> BTreeSet<RawFd> {
    let Ok(open) = fs::read_dir("/dev/fd") else {
        return BTreeSet::new();
    };
    open.filter_map(|entry| {
        let path = entry.ok()?.path();
        let is_socket = fs::metadata(&path).ok()?.file_type().is_socket();
        let descriptor = path.file_name()?.to_str()?.parse().ok()?;
        is_socket.then_some(descriptor)
    })
    .collect()
}
