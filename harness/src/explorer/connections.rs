//! Opens the connections of one database, several at once: that is much of what a short exploration
//! takes.

use std::panic;
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::Duration;

use diesel::connection::LoadConnection;
use diesel::pg::Pg;

use super::control::Control;
use super::program::{Connect, Program};
use super::scout::Scout;
use super::worker::Connected;
use crate::sessions::SessionError;

type Opening<'s, T> = ScopedJoinHandle<'s, Result<T, SessionError>>;

/// The connection for the setup and the invariants, and the one on which the server is asked.
pub(super) fn open_own<C>(
    connect: &Connect<'_, C>,
    limit: Duration,
) -> Result<(Control<C>, Scout<C>), SessionError>
where
    C: LoadConnection<Backend = Pg> + Send + 'static,
{
    thread::scope(|scope| {
        let control = begin(scope, || open_control(connect, limit))?;
        let scout = open_scout(connect);
        // It is joined, whichever has failed.
        Ok((end(control)?, scout?))
    })
}

/// The connections of the sessions, in their order. Something else is done meanwhile.
pub(super) fn open_sessions<C, T>(
    program: &Program<'_, C>,
    connect: &Connect<'_, C>,
    meanwhile: impl FnOnce() -> Result<T, SessionError>,
) -> Result<(Vec<Connected<C>>, T), SessionError>
where
    C: LoadConnection<Backend = Pg> + Send + 'static,
{
    thread::scope(|scope| {
        let sessions = program.sessions.iter().map(|session| {
            begin(scope, || {
                Connected::open(connect).map_err(|source| SessionError::Connect {
                    session: session.name.clone(),
                    source,
                })
            })
        });
        let sessions: Vec<_> = sessions.collect::<Result<_, _>>()?;
        let done = meanwhile();
        // All are joined, whichever has failed.
        let sessions: Vec<_> = sessions.into_iter().map(end).collect();
        Ok((sessions.into_iter().collect::<Result<_, _>>()?, done?))
    })
}

fn begin<'s, T: Send + 's>(
    scope: &'s Scope<'s, '_>,
    open: impl FnOnce() -> Result<T, SessionError> + Send + 's,
) -> Result<Opening<'s, T>, SessionError> {
    thread::Builder::new()
        .spawn_scoped(scope, open)
        .map_err(SessionError::Thread)
}

fn end<T>(opening: Opening<'_, T>) -> Result<T, SessionError> {
    opening
        .join()
        .unwrap_or_else(|payload| panic::resume_unwind(payload))
}

fn open<C>(name: &str, connect: &Connect<'_, C>) -> Result<C, SessionError> {
    connect().map_err(|source| SessionError::Connect {
        session: name.to_owned(),
        source,
    })
}

fn open_control<C>(connect: &Connect<'_, C>, limit: Duration) -> Result<Control<C>, SessionError>
where
    C: LoadConnection<Backend = Pg>,
{
    let name = "setup and invariants";
    Control::new(open(name, connect)?, limit).map_err(|error| SessionError::Connect {
        session: name.to_owned(),
        source: error.into(),
    })
}

fn open_scout<C>(connect: &Connect<'_, C>) -> Result<Scout<C>, SessionError>
where
    C: LoadConnection<Backend = Pg>,
{
    Scout::new(open("scout", connect)?).map_err(SessionError::Observe)
}
