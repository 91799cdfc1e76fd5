//! Taking a session's lock, and letting go of it, whatever holds the connection.

use diesel::connection::LoadConnection;
use diesel::pg::Pg;

use super::functions::{Held, Lock, LockWithin, Statement, TryLock, Unlock};
use crate::error::LockTarget;
use crate::transaction;
use crate::wait::{Wait, lock_timeout};
use crate::{AdvisoryLock, LockError};

/// A lock that a session of the server was granted.
#[derive(Debug, Clone, Copy)]
pub(super) struct SessionLock {
    lock: AdvisoryLock,
    backend_pid: i32,
}

impl SessionLock {
    /// Takes `lock`, in one round trip.
    pub(super) fn acquire<C>(
        conn: &mut C,
        lock: AdvisoryLock,
        wait: Wait,
    ) -> Result<Self, LockError>
    where
        C: LoadConnection<Backend = Pg>,
    {
        let reply = match wait {
            Wait::Block => Lock.run(conn, &lock),
            Wait::NoWait => TryLock.run(conn, &lock),
            Wait::Timeout(timeout) => LockWithin(lock_timeout(timeout)).run(conn, &lock),
        };
        match reply {
            Ok(reply) if reply.returned => Ok(Self {
                lock,
                backend_pid: reply.backend_pid,
            }),
            Ok(_) => Err(LockError::NotAvailable {
                target: LockTarget::Advisory(lock),
                source: None,
            }),
            Err(error) => {
                let error = LockError::from(error);
                release_if_granted(conn, &lock, &error);
                Err(error)
            }
        }
    }

    pub(super) fn lock(&self) -> &AdvisoryLock {
        &self.lock
    }

    /// Asks the server whether the lock is held, in one round trip.
    pub(super) fn is_held<C>(&self, conn: &mut C) -> Result<bool, LockError>
    where
        C: LoadConnection<Backend = Pg>,
    {
        let reply = Held::of(&self.lock).run(conn, &self.lock)?;
        self.check_session(reply.backend_pid)?;
        Ok(reply.returned)
    }

    /// Lets go, in one round trip, or poisons the connection.
    pub(super) fn release<C>(&self, conn: &mut C) -> Result<(), LockError>
    where
        C: LoadConnection<Backend = Pg>,
    {
        let unlock = Unlock {
            backend_pid: self.backend_pid,
        };
        let reply = unlock.run(conn, &self.lock).or_else(|error| {
            // Inside a transaction an error means that it is aborted, and was before: the unlock
            // itself cannot fail.
            match transaction::depth(conn) {
                Ok(Some(depth)) => {
                    transaction::while_aborted(conn, depth, |conn| unlock.run(conn, &self.lock))
                }
                _ => Err(error),
            }
        });
        let released = match reply {
            Ok(reply) => self.check_session(reply.backend_pid).and_then(|()| {
                let lock = self.lock;
                reply
                    .returned
                    .then_some(())
                    .ok_or(LockError::NotHeld { lock })
            }),
            Err(error) => Err(LockError::from(error)),
        };
        if !matches!(released, Ok(()) | Err(LockError::NotHeld { .. })) {
            transaction::poison(conn);
        }
        released
    }

    fn check_session(&self, now: i32) -> Result<(), LockError> {
        if now == self.backend_pid {
            Ok(())
        } else {
            Err(LockError::SessionChanged {
                lock: self.lock,
                locked_by: self.backend_pid,
                now,
            })
        }
    }
}

/// A lock may be granted in the same instant in which a timeout or a cancellation fails the
/// statement that asked for it, and then the session has it: look, and let go.
fn release_if_granted<C>(conn: &mut C, lock: &AdvisoryLock, error: &LockError)
where
    C: LoadConnection<Backend = Pg>,
{
    if matches!(
        error,
        LockError::ConnectionLost { .. } | LockError::TransactionAborted { .. }
    ) {
        return;
    }
    let look_and_let_go = |conn: &mut C| {
        let held = Held::of(lock).run(conn, lock)?;
        if held.returned {
            let backend_pid = held.backend_pid;
            Unlock { backend_pid }.run(conn, lock)?;
        }
        Ok(())
    };
    let gone = match transaction::depth(conn) {
        Ok(Some(depth)) => transaction::while_aborted(conn, depth, look_and_let_go),
        _ => look_and_let_go(conn),
    };
    if gone.is_err() {
        transaction::poison(conn);
    }
}
