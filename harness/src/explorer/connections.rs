//! Opens the connections of one database, all at once: that is much of what a short exploration
//! takes.

use std::panic;
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::Duration;

use diesel::connection::LoadConnection;
use diesel::pg::Pg;

use super::control::Control;
use super::program::{Connect, Program};
use super::worker::Connected;
use crate::sessions::{Execution, SessionError};

pub(super) struct Connections<C> {
    /// For the setup and the invariants.
    pub(super) control: Control<C>,
    /// For what statements touch.
    pub(super) scout: C,
    /// Has the one that looks who waits.
    pub(super) execution: Execution,
    /// In the order of the sessions.
    pub(super) sessions: Vec<Connected<C>>,
}

type Opening<'s, T> = ScopedJoinHandle<'s, Result<T, SessionError>>;

impl<C> Connections<C>
where
    C: LoadConnection<Backend = Pg> + Send + 'static,
{
    pub(super) fn open(
        program: &Program<'_, C>,
        connect: &Connect<'_, C>,
    ) -> Result<Self, SessionError> {
        thread::scope(|scope| {
            let control = begin(scope, || open_control(connect, program.timeout))?;
            let scout = begin(scope, || open_scout(connect))?;
            let sessions = program.sessions.iter().map(|session| {
                begin(scope, || {
                    Connected::open(connect).map_err(|source| SessionError::Connect {
                        session: session.name.clone(),
                        source,
                    })
                })
            });
            let sessions: Vec<_> = sessions.collect::<Result<_, _>>()?;
            let execution = open("observer", connect).and_then(Execution::with_names);
            // All are joined, whichever has failed.
            let sessions: Vec<_> = sessions.into_iter().map(end).collect();
            let (control, scout) = (end(control), end(scout));
            Ok(Self {
                control: control?,
                scout: scout?,
                execution: execution?,
                sessions: sessions.into_iter().collect::<Result<_, _>>()?,
            })
        })
    }
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

fn open_scout<C>(connect: &Connect<'_, C>) -> Result<C, SessionError>
where
    C: LoadConnection<Backend = Pg>,
{
    let mut scout = open("scout", connect)?;
    // What it asks is not worth waiting for, nor compiling, where the schema is large.
    let patience = scout.batch_execute("SET lock_timeout = '200ms'; SET jit = off");
    patience.map_err(SessionError::Observe)?;
    Ok(scout)
}
