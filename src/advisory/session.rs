//! Taking a session's locks, and letting go of them, whatever holds the connection.

use std::panic::{self, AssertUnwindSafe};
use std::thread;
use std::time::{Duration, Instant};

use diesel::QueryResult;
use diesel::connection::LoadConnection;
use diesel::pg::Pg;
use diesel::result::Error;

use super::functions::{self, Answer, Session};
use super::owner::{self, Mark, Unmarked};
use super::several::{
    AllHeld, LockAll, LockAllWithin, Reply, Restore, Statement as _, TryLockAll, UnlockAll,
};
use crate::error::LockTarget;
use crate::slot::{self, Guards};
use crate::wait::Wait;
use crate::{AdvisoryLock, LockError, transaction};

/// How often to try to give back what a failed statement has taken, when that fails too.
const ATTEMPTS: usize = 5;

/// How long to try to end a session. Cancellations come faster than statements only for a moment.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long to leave a session alone that shall end as soon as it is idle.
const IDLE: [Duration; 4] = [
    Duration::from_millis(10),
    Duration::from_millis(50),
    Duration::from_millis(250),
    Duration::from_secs(1),
];

/// Locks that a session of the server was granted.
#[derive(Debug, Clone, Copy)]
pub(super) struct SessionLocks<L> {
    locks: L,
    backend_pid: i32,
}

/// What became of locks that were asked for.
enum Taken {
    /// All were granted, to the session with this backend pid.
    Granted(i32),
    /// This one was refused, and none is taken.
    Refused(AdvisoryLock),
    /// Another client shares the session, and none is taken.
    Shared,
}

impl<L: AsRef<[AdvisoryLock]>> SessionLocks<L> {
    /// Takes all of `locks`, in one round trip, or none.
    pub(super) fn acquire<C>(conn: &mut C, locks: L, wait: Wait) -> Result<Self, LockError>
    where
        C: LoadConnection<Backend = Pg>,
    {
        // The application's instrumentation may panic when the lock is taken, and no guard is made.
        let taken = panic::catch_unwind(AssertUnwindSafe(|| {
            take_from_whoever_has_left(conn, locks.as_ref(), wait)
        }));
        let taken = match taken {
            Ok(Ok(taken)) => taken,
            Ok(Err(error)) => return Err(refuse(conn, locks.as_ref(), wait, error)),
            Err(payload) => {
                let _ = panic::catch_unwind(AssertUnwindSafe(|| end(conn)));
                panic::resume_unwind(payload);
            }
        };
        match taken {
            Taken::Granted(backend_pid) => {
                let is_same = slot::taken(conn, backend_pid, locks.as_ref());
                let held = Self { locks, backend_pid };
                match held.locks.as_ref().first().copied() {
                    Some(lock) if !is_same => {
                        held.release(conn)?;
                        Err(LockError::SharedSession { lock })
                    }
                    _ => Ok(held),
                }
            }
            Taken::Refused(lock) => Err(LockError::NotAvailable {
                target: LockTarget::Advisory(lock),
                source: None,
            }),
            Taken::Shared => match locks.as_ref().first() {
                Some(&lock) => Err(LockError::SharedSession { lock }),
                None => Ok(Self {
                    locks,
                    backend_pid: 0,
                }),
            },
        }
    }

    pub(super) fn locks(&self) -> &L {
        &self.locks
    }

    /// Asks the server whether all locks are held, in one round trip.
    pub(super) fn is_held<C>(&self, conn: &mut C) -> Result<bool, LockError>
    where
        C: LoadConnection<Backend = Pg>,
    {
        let reply = AllHeld.run(conn, self.locks.as_ref())?;
        self.check_session(&reply)?;
        Ok(reply.except.is_none())
    }

    /// Lets go, in one round trip, or ends the session.
    pub(super) fn release<C>(&self, conn: &mut C) -> Result<(), LockError>
    where
        C: LoadConnection<Backend = Pg>,
    {
        let locks = self.locks.as_ref();
        // From here on, only other guards have a right to what the session holds.
        slot::given_back(conn, self.backend_pid, locks);
        let reply =
            transaction::even_if_aborted(conn, |conn| give_back(conn, locks, self.backend_pid));
        let reply = match reply {
            Ok(reply) => reply,
            // The transaction could not be left as it was.
            Err(error @ Error::BrokenTransactionManager) => {
                end(conn);
                return Err(error.into());
            }
            Err(error) => {
                let is_gone = restore(conn, locks).is_some();
                let error = LockError::from(error);
                return if is_gone { Ok(()) } else { Err(error) };
            }
        };
        self.check_session(&reply).inspect_err(|_| {
            // The session that the connection has now is not ours to end.
            slot::doubt(conn);
            transaction::poison(conn);
        })?;
        match reply.except {
            Some(lock) => Err(LockError::NotHeld { lock }),
            None => Ok(()),
        }
    }

    /// Lets go, and has nobody to tell how that went: not even that the application's
    /// instrumentation has panicked.
    pub(super) fn release_in_drop<C>(&self, conn: &mut C)
    where
        C: LoadConnection<Backend = Pg>,
    {
        if panic::catch_unwind(AssertUnwindSafe(|| self.release(conn))).is_err() {
            let _ = panic::catch_unwind(AssertUnwindSafe(|| end(conn)));
        }
    }

    fn check_session(&self, reply: &Reply) -> Result<(), LockError> {
        let now = reply.backend_pid.unwrap_or_default();
        match self.locks.as_ref().first() {
            Some(&lock) if now != self.backend_pid => Err(LockError::SessionChanged {
                lock,
                locked_by: self.backend_pid,
                now,
            }),
            _ => Ok(()),
        }
    }
}

/// Takes the locks, also in a session that another client has used and left without a lock.
fn take_from_whoever_has_left<C>(
    conn: &mut C,
    locks: &[AdvisoryLock],
    wait: Wait,
) -> QueryResult<Taken>
where
    C: LoadConnection<Backend = Pg>,
{
    let Some(owner) = slot::owner(conn) else {
        return take(conn, Unmarked, locks, wait);
    };
    let taken = take(conn, owner.clone(), locks, wait)?;
    if matches!(taken, Taken::Shared) && owner::take_over(conn, &owner)? {
        return take(conn, owner, locks, wait);
    }
    Ok(taken)
}

fn take<C>(conn: &mut C, mark: impl Mark, locks: &[AdvisoryLock], wait: Wait) -> QueryResult<Taken>
where
    C: LoadConnection<Backend = Pg>,
{
    if let [lock] = locks {
        return Ok(match functions::take(conn, Session(mark), lock, wait)? {
            Answer::Granted(backend_pid) => Taken::Granted(backend_pid),
            Answer::Refused => Taken::Refused(*lock),
            Answer::Shared => Taken::Shared,
        });
    }
    let reply = match wait {
        Wait::Block => LockAll(mark).run(conn, locks),
        Wait::NoWait => TryLockAll(mark).run(conn, locks),
        Wait::Timeout(timeout) => LockAllWithin::new(mark, timeout).run(conn, locks),
    }?;
    Ok(match (reply.backend_pid, reply.except) {
        (None, _) => Taken::Shared,
        (Some(_), Some(refused)) => Taken::Refused(refused),
        (Some(backend_pid), None) => Taken::Granted(backend_pid),
    })
}

/// Gives the locks back, if the session is still the given one; the exception was not held.
fn give_back<C>(conn: &mut C, locks: &[AdvisoryLock], backend_pid: i32) -> QueryResult<Reply>
where
    C: LoadConnection<Backend = Pg>,
{
    match locks {
        [lock] if functions::give_back(conn, lock, backend_pid)? => Ok(Reply {
            backend_pid: Some(backend_pid),
            except: None,
        }),
        // It was not held, or the session is another one, which this statement says.
        locks => UnlockAll { backend_pid }.run(conn, locks),
    }
}

/// What `error` means for the locks: none is kept of what the failed statement has taken.
///
/// Locks are taken one after the other, so the first that was not held is the one that was waited
/// for, if any was. That one may be held too: it may be granted in the same instant in which a
/// timeout or a cancellation ends the wait.
fn refuse<C>(conn: &mut C, locks: &[AdvisoryLock], wait: Wait, error: Error) -> LockError
where
    C: LoadConnection<Backend = Pg>,
{
    let error = LockError::from(error).after(wait);
    if let LockError::ConnectionLost { .. } | LockError::TransactionAborted { .. } = error {
        return error;
    }
    match restore(conn, locks).and_then(|missing| missing.or(locks.last().copied())) {
        Some(lock) => error.waiting_for(lock),
        None => error,
    }
}

/// Gives back what the session holds of these locks beyond what guards hold, or ends the session.
///
/// Returns the first lock that was not held before; `None` if the session had to be ended.
fn restore<C>(conn: &mut C, locks: &[AdvisoryLock]) -> Option<Option<AdvisoryLock>>
where
    C: LoadConnection<Backend = Pg>,
{
    for _ in 0..ATTEMPTS {
        let guards = slot::guards(conn, locks);
        match transaction::after_a_failure(conn, |conn| restore_once(conn, &guards, locks)) {
            Ok(Reply {
                backend_pid: Some(_),
                except,
            }) => return Some(except),
            // The session is another client's, or a transaction could not be left as it was.
            Ok(_) | Err(Error::BrokenTransactionManager) => break,
            // What guards hold may have been given back, and not taken again.
            Err(_) if guards.counts.iter().any(|&count| count > 0) => break,
            Err(_) => {}
        }
    }
    end(conn);
    None
}

fn restore_once<C>(conn: &mut C, guards: &Guards, locks: &[AdvisoryLock]) -> QueryResult<Reply>
where
    C: LoadConnection<Backend = Pg>,
{
    let guards = guards.clone();
    match slot::owner(conn) {
        Some(mark) => Restore { mark, guards }.run(conn, locks),
        None => {
            let mark = Unmarked;
            Restore { mark, guards }.run(conn, locks)
        }
    }
}

/// Ends the session, and every lock with it: whatever is sent on the connection afterwards fails.
///
/// Only if the session is not another client's, to which a pooler may lend it.
fn end<C>(conn: &mut C)
where
    C: LoadConnection<Backend = Pg>,
{
    slot::doubt(conn);
    let is_foreign = slot::owner(conn).map_or_else(
        || Unmarked.is_foreign().concat(),
        |owner| owner.is_foreign().concat(),
    );
    let terminate = format!(
        "SELECT pg_catalog.pg_terminate_backend(pg_catalog.pg_backend_pid()) \
         WHERE NOT ({is_foreign})"
    );
    // In an aborted transaction, and where a role was set that may not do it.
    let first = [
        "",
        "ROLLBACK; ",
        "ROLLBACK; SET SESSION AUTHORIZATION DEFAULT; SET ROLE NONE; ",
    ];
    let begun = Instant::now();
    let mut is_over = false;
    for first in first.iter().cycle() {
        let ended = conn.batch_execute(&format!("{first}{terminate}"));
        is_over = matches!(
            ended.map_err(LockError::from),
            Ok(()) | Err(LockError::ConnectionLost { .. })
        );
        if is_over || begun.elapsed() > PATIENCE {
            break;
        }
    }
    if !is_over {
        end_when_idle(conn);
    }
    transaction::poison(conn);
}

/// Ends the session where not even its own role may terminate it: the server does so when it has
/// been idle in a transaction for a millisecond.
fn end_when_idle<C>(conn: &mut C)
where
    C: LoadConnection<Backend = Pg>,
{
    for pause in IDLE {
        let begun = "ROLLBACK; BEGIN; SET LOCAL idle_in_transaction_session_timeout = 1";
        if conn.batch_execute(begun).is_ok() {
            thread::sleep(pause);
        }
        let answer = conn.batch_execute("ROLLBACK").map_err(LockError::from);
        if matches!(answer, Err(LockError::ConnectionLost { .. })) {
            break;
        }
    }
}
