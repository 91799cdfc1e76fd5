use std::fmt::Write;
use std::panic;
use std::sync::Arc;
use std::thread::{self, ScopedJoinHandle};
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error};

use super::permutation::Permutation;
use super::transcript::{PermutationTranscript, SpecTranscript};
use super::{Spec, SpecEntry};
use crate::error;
use crate::harness::session::backend_pid;
use crate::harness::stage::Stage;
use crate::harness::{HarnessError, Pending, Session};

impl Spec {
    /// The time after which a permutation is taken for stuck: five minutes, as isolationtester
    /// gives a step, if this is not called.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Runs the permutations, one after the other, on this database.
    ///
    /// The sessions keep their connections from one permutation to the next. One more connection is
    /// opened, for the setups and teardowns of the file, and to observe the sessions. Nothing is
    /// put back to what it was but by the teardowns.
    ///
    /// A step's SQL goes to the server as it stands, in one round trip. The server is asked whether
    /// it waits if it takes longer than 0.7 ms.
    ///
    /// # Errors
    ///
    /// [`HarnessError::ConnectSession`]: a connection could not be opened.
    /// [`HarnessError::Prepare`]: a setup failed. What a teardown or a step fails with is in the
    /// transcript instead.
    /// [`HarnessError::Step`]: the time was over, or steps hold each other up by their markers.
    /// [`HarnessError::Observe`]: the server could not be asked who waits.
    /// [`HarnessError::Thread`]: the operating system gave no thread.
    pub fn run(&self, database_url: &str) -> Result<SpecTranscript, HarnessError> {
        let performance = Performance::open(self, database_url)?;
        let permutations = self.permutations();
        let permutations = permutations.map(|entries| performance.run(&entries));
        Ok(SpecTranscript::new(
            self,
            permutations.collect::<Result<_, _>>()?,
        ))
    }
}

/// The connections of a spec.
struct Performance<'s> {
    spec: &'s Spec,
    /// Its observer's connection is for the setups and teardowns too.
    stage: Arc<Stage>,
    sessions: Vec<Session<PgConnection>>,
}

impl<'s> Performance<'s> {
    fn open(spec: &'s Spec, database_url: &str) -> Result<Self, HarnessError> {
        // All at once: each costs the server a new process.
        thread::scope(|scope| {
            let open = |name| {
                thread::Builder::new()
                    .spawn_scoped(scope, move || connect(database_url, name))
                    .map_err(HarnessError::Thread)
            };
            let control = open("control connection");
            let names = spec.sessions.iter().map(|session| session.name.as_str());
            let sessions: Vec<_> = names.clone().map(open).collect();
            let (control, _) = join(control)?;
            let stage = Arc::new(Stage::new(control));
            let sessions = sessions.into_iter().zip(names).map(|(opening, name)| {
                let (conn, pid) = join(opening)?;
                Session::with_pid(&stage, name, conn, pid)
            });
            Ok(Self {
                spec,
                sessions: sessions.collect::<Result<_, _>>()?,
                stage,
            })
        })
    }

    fn run(&self, entries: &[SpecEntry]) -> Result<PermutationTranscript, HarnessError> {
        self.set_up()?;
        self.stage.begin(self.spec.timeout);
        let permutation = Permutation::new(self.spec, &self.stage, &self.sessions);
        let mut text = permutation.run(entries)?;
        let transcript = self.stage.transcript();
        self.tear_down(&mut text)?;
        Ok(PermutationTranscript { text, transcript })
    }

    fn execute(&self, sql: &str) -> QueryResult<()> {
        self.stage.with_observer(|control| execute(control, sql))
    }

    fn set_up(&self) -> Result<(), HarnessError> {
        let failed = |what: String| {
            |error: Error| HarnessError::Prepare {
                what,
                source: error.into(),
            }
        };
        for setup in &self.spec.setups {
            self.execute(setup).map_err(failed("setup".to_owned()))?;
        }
        self.stage.begin(self.spec.timeout);
        for (session, spec) in self.sessions.iter().zip(&self.spec.sessions) {
            if let Some(setup) = &spec.setup {
                let what = format!("setup of session {}", spec.name);
                launch(session, "setup", setup)
                    .returned()?
                    .map_err(failed(what))?;
            }
        }
        Ok(())
    }

    fn tear_down(&self, text: &mut String) -> Result<(), HarnessError> {
        self.stage.begin(self.spec.timeout);
        for (session, spec) in self.sessions.iter().zip(&self.spec.sessions) {
            if let Some(teardown) = &spec.teardown
                && let Err(error) = launch(session, "teardown", teardown).returned()?
            {
                let _ = writeln!(
                    text,
                    "teardown of session {} failed: {}",
                    spec.name,
                    message(&error)
                );
            }
        }
        if let Some(teardown) = &self.spec.teardown
            && let Err(error) = self.execute(teardown)
        {
            let _ = writeln!(text, "teardown failed: {}", message(&error));
        }
        Ok(())
    }
}

impl Drop for Performance<'_> {
    fn drop(&mut self) {
        // All at once, before each is waited for.
        self.sessions.iter_mut().for_each(Session::end);
    }
}

/// A connection, and the server's process for it.
type Opened = Result<(PgConnection, i32), HarnessError>;

fn join(opening: Result<ScopedJoinHandle<'_, Opened>, HarnessError>) -> Opened {
    (opening?.join()).unwrap_or_else(|payload| panic::resume_unwind(payload))
}

/// Connects as isolationtester does: with a session's name, and nothing else, of its own.
fn connect(database_url: &str, name: &str) -> Opened {
    let failed = |source| HarnessError::ConnectSession {
        session: name.to_owned(),
        source,
    };
    let mut conn = PgConnection::establish(database_url).map_err(|error| failed(error.into()))?;
    // Diesel has set the time zone.
    let named = conn.batch_execute(&format!(
        "RESET TimeZone; SELECT pg_catalog.set_config('application_name', pg_catalog.concat(\
         pg_catalog.current_setting('application_name'), '/', {}), false)",
        literal(name),
    ));
    let pid = named.and_then(|()| backend_pid(&mut conn));
    let pid = pid.map_err(|error| failed(error.into()))?;
    Ok((conn, pid))
}

/// A string as SQL.
fn literal(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('\'', "''");
    format!("E'{text}'")
}

/// Sends SQL as it stands.
fn execute<C: SimpleConnection + ?Sized>(conn: &mut C, sql: &str) -> QueryResult<()> {
    match conn.batch_execute(sql) {
        // It is one for Diesel.
        Err(error) if error::is_empty_query(&error) => Ok(()),
        executed => executed,
    }
}

/// Has a session do it.
pub(super) fn launch(
    session: &Session<PgConnection>,
    label: &str,
    sql: &str,
) -> Pending<(), Error> {
    let sql = sql.to_owned();
    session.start(label, move |conn| execute(conn, &sql))
}

/// An error in isolationtester's words.
pub(super) fn message(error: &Error) -> String {
    match error {
        // Not the server's words, but libpq's, which has nothing more to show of them.
        Error::DatabaseError(DatabaseErrorKind::ClosedConnection, error) => {
            error.message().to_owned()
        }
        Error::DatabaseError(_, error) => format!("ERROR:  {}", error.message()),
        error => error.to_string(),
    }
}
