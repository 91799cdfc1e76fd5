//! Taking a session's locks, and letting go of them, whatever holds the connection.

use diesel::QueryResult;
use diesel::connection::LoadConnection;
use diesel::pg::Pg;

use super::functions;
use super::functions::Session;
#[cfg(feature = "r2d2")]
use super::ledger;
use super::several::{
    AllHeld, LockAll, LockAllWithin, Reply, Statement as _, TryLockAll, UnlockAll, UnlockTaken,
};
use crate::error::LockTarget;
use crate::transaction;
use crate::wait::{Wait, lock_timeout};
use crate::{AdvisoryLock, LockError};

/// Locks that a session of the server was granted.
#[derive(Debug, Clone, Copy)]
pub(super) struct SessionLocks<L> {
    locks: L,
    backend_pid: i32,
}

impl<L: AsRef<[AdvisoryLock]>> SessionLocks<L> {
    /// Takes all of `locks`, in one round trip, or none.
    pub(super) fn acquire<C>(conn: &mut C, locks: L, wait: Wait) -> Result<Self, LockError>
    where
        C: LoadConnection<Backend = Pg>,
    {
        match take(conn, locks.as_ref(), wait) {
            Ok(Reply {
                except: Some(refused),
                ..
            }) => Err(LockError::NotAvailable {
                target: LockTarget::Advisory(refused),
                source: None,
            }),
            Ok(Reply { backend_pid, .. }) => {
                #[cfg(feature = "r2d2")]
                ledger::taken(conn);
                Ok(Self { locks, backend_pid })
            }
            Err(error) => {
                let error = LockError::from(error).after(wait);
                match give_back_taken(conn, locks.as_ref(), wait, &error) {
                    Some(lock) => Err(error.waiting_for(lock)),
                    None => Err(error),
                }
            }
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

    /// Lets go, in one round trip, or poisons the connection.
    pub(super) fn release<C>(&self, conn: &mut C) -> Result<(), LockError>
    where
        C: LoadConnection<Backend = Pg>,
    {
        let locks = self.locks.as_ref();
        let reply =
            transaction::even_if_aborted(conn, |conn| give_back(conn, locks, self.backend_pid));
        let released = match reply {
            Ok(reply) => self
                .check_session(&reply)
                .and_then(|()| match reply.except {
                    Some(lock) => Err(LockError::NotHeld { lock }),
                    None => Ok(()),
                }),
            Err(error) => Err(LockError::from(error)),
        };
        if matches!(released, Ok(()) | Err(LockError::NotHeld { .. })) {
            #[cfg(feature = "r2d2")]
            ledger::given_back(conn);
        } else {
            transaction::poison(conn);
        }
        released
    }

    fn check_session(&self, reply: &Reply) -> Result<(), LockError> {
        match self.locks.as_ref().first() {
            Some(&lock) if reply.backend_pid != self.backend_pid => {
                Err(LockError::SessionChanged {
                    lock,
                    locked_by: self.backend_pid,
                    now: reply.backend_pid,
                })
            }
            _ => Ok(()),
        }
    }
}

/// Takes the locks; the exception was refused, and then none is taken.
fn take<C>(conn: &mut C, locks: &[AdvisoryLock], wait: Wait) -> QueryResult<Reply>
where
    C: LoadConnection<Backend = Pg>,
{
    if let [lock] = locks {
        let backend_pid = functions::take::<Session, Option<i32>, _>(conn, lock, wait)?;
        return Ok(Reply {
            backend_pid: backend_pid.unwrap_or_default(),
            except: backend_pid.is_none().then_some(*lock),
        });
    }
    match wait {
        Wait::Block => LockAll.run(conn, locks),
        Wait::NoWait => TryLockAll.run(conn, locks),
        Wait::Timeout(timeout) => LockAllWithin(lock_timeout(timeout)).run(conn, locks),
    }
}

/// Gives the locks back, if the session is still the given one; the exception was not held.
fn give_back<C>(conn: &mut C, locks: &[AdvisoryLock], backend_pid: i32) -> QueryResult<Reply>
where
    C: LoadConnection<Backend = Pg>,
{
    match locks {
        [lock] if functions::give_back(conn, lock, backend_pid)? => Ok(Reply {
            backend_pid,
            except: None,
        }),
        // It was not held, or the session is another one, which this statement says.
        locks => UnlockAll { backend_pid }.run(conn, locks),
    }
}

/// Gives back what a failed statement has taken, and returns the lock that it failed at.
///
/// Locks are taken one after the other, so all before the first that is not held are taken. The
/// one that was waited for may be too: it may be granted in the same instant in which a timeout
/// or a cancellation ends the wait. A lock that a wait has ended for was not held before, unlike
/// one that a statement failed for without ever running: locks stack, and another guard may have
/// it. So after all other errors nothing is given back, and the connection is poisoned.
fn give_back_taken<C>(
    conn: &mut C,
    locks: &[AdvisoryLock],
    wait: Wait,
    error: &LockError,
) -> Option<AdvisoryLock>
where
    C: LoadConnection<Backend = Pg>,
{
    let has_waited = match error {
        LockError::ConnectionLost { .. } | LockError::TransactionAborted { .. } => return None,
        LockError::Timeout { .. }
        | LockError::StatementTimeout { .. }
        | LockError::Canceled { .. }
        | LockError::Deadlock { .. } => wait != Wait::NoWait,
        _ => false,
    };
    if has_waited
        && let Ok(reply) = transaction::even_if_aborted(conn, |conn| UnlockTaken.run(conn, locks))
    {
        return reply.except.or(locks.last().copied());
    }
    transaction::poison(conn);
    None
}
