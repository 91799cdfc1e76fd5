use std::fmt::Write;
use std::panic;
use std::sync::Arc;
use std::thread::{self, ScopedJoinHandle};
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error};
use diesel::sql_types::Text;

use super::permutation::Permutation;
use super::transcript::{PermutationTranscript, SpecTranscript};
use super::{Spec, SpecEntry};
use crate::error;
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
    /// The sessions keep their connections from one permutation to the next. Two more connections
    /// are opened: one for the setups and teardowns of the file, and one that observes. Nothing
    /// is put back to what it was but by the teardowns.
    ///
    /// A step's SQL goes to the server as it stands, in one round trip. One that takes longer than
    /// 0.7 ms has the server asked whether it waits.
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
        let mut performance = Performance::open(self, database_url)?;
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
    control: PgConnection,
    stage: Arc<Stage>,
    sessions: Vec<Session<PgConnection>>,
}

impl<'s> Performance<'s> {
    fn open(spec: &'s Spec, database_url: &str) -> Result<Self, HarnessError> {
        // All at once: each costs the server a new process.
        thread::scope(|scope| {
            let open = |name| scope.spawn(move || connect(database_url, name));
            let stage = scope.spawn(|| Stage::new(connect(database_url, "observer")?));
            let control = open("control connection");
            let names = spec.sessions.iter().map(|session| session.name.as_str());
            let sessions: Vec<_> = names.clone().map(open).collect();
            let control = join(control)?;
            let stage = Arc::new(join(stage)?);
            let sessions = sessions.into_iter().zip(names);
            let sessions = sessions.map(|(conn, name)| Session::open(&stage, name, join(conn)?));
            Ok(Self {
                spec,
                control,
                sessions: sessions.collect::<Result<_, _>>()?,
                stage,
            })
        })
    }

    fn run(&mut self, entries: &[SpecEntry]) -> Result<PermutationTranscript, HarnessError> {
        self.set_up()?;
        self.stage.begin(self.spec.timeout);
        let permutation = Permutation::new(self.spec, &self.stage, &self.sessions);
        let mut text = permutation.run(entries)?;
        let transcript = self.stage.transcript();
        self.tear_down(&mut text)?;
        Ok(PermutationTranscript { text, transcript })
    }

    fn set_up(&mut self) -> Result<(), HarnessError> {
        let failed = |what: String| {
            |error: Error| HarnessError::Prepare {
                what,
                source: error.into(),
            }
        };
        for setup in &self.spec.setups {
            execute(&mut self.control, setup).map_err(failed("setup".to_owned()))?;
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

    fn tear_down(&mut self, text: &mut String) -> Result<(), HarnessError> {
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
            && let Err(error) = execute(&mut self.control, teardown)
        {
            let _ = writeln!(text, "teardown failed: {}", message(&error));
        }
        Ok(())
    }
}

fn join<T>(opening: ScopedJoinHandle<'_, Result<T, HarnessError>>) -> Result<T, HarnessError> {
    (opening.join()).unwrap_or_else(|payload| panic::resume_unwind(payload))
}

/// Connects as isolationtester does: with a session's name, and nothing else, of its own.
fn connect(database_url: &str, name: &str) -> Result<PgConnection, HarnessError> {
    let failed = |source| HarnessError::ConnectSession {
        session: name.to_owned(),
        source,
    };
    let mut conn = PgConnection::establish(database_url).map_err(|error| failed(error.into()))?;
    let named = diesel::select(
        sql::<Text>(
            "set_config('application_name', current_setting('application_name') || '/' || ",
        )
        .bind::<Text, _>(name)
        .sql(", false)"),
    )
    .execute(&mut conn);
    // Diesel has set it.
    let reset = named.and_then(|_| conn.batch_execute("RESET TimeZone"));
    reset.map_err(|error| failed(error.into()))?;
    Ok(conn)
}

/// Sends SQL as it stands.
pub(super) fn execute(conn: &mut PgConnection, sql: &str) -> QueryResult<()> {
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
