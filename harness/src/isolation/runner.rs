use std::error::Error;
use std::fmt::Write;
use std::panic;
use std::sync::Arc;
use std::thread::{self, ScopedJoinHandle};
use std::time::Duration;

use diesel::QueryResult;
use diesel::connection::LoadConnection;
use diesel::pg::Pg;

use super::error::SpecRunError;
use super::permutation::Permutation;
use super::script::ScriptEntry;
use super::spec::Spec;
use super::sql::{execute, launch, message};
use super::transcript::{PermutationTranscript, SpecTranscript};
use crate::sessions::{Execution, Session, SessionError};
use crate::waits::Observer;

impl Spec {
    /// The time after which a permutation is taken for stuck: five minutes, as isolationtester
    /// gives a step, if this is not called.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Runs the permutations, one after the other, on the database to which `connect` connects.
    ///
    /// The connections are made at once, on threads of their own, and each for one session: with
    /// its `application_name`, and without the time zone that Diesel sets, as in isolationtester's.
    /// The sessions keep their connections from one permutation to the next. One more connection is
    /// opened, for the setups and teardowns of the file, and to observe the sessions. Nothing is
    /// put back to what it was but by the teardowns.
    ///
    /// A step's SQL goes to the server as it stands, in one round trip. The server is asked whether
    /// it waits if it takes longer than 0.7 ms.
    ///
    /// # Errors
    ///
    /// [`SessionError::Connect`]: a connection could not be opened.
    /// [`SpecRunError::Prepare`]: a setup failed. What a teardown or a step fails with is in the
    /// transcript instead.
    /// [`SessionError::Step`]: the time was over, or steps hold each other up by their markers.
    /// [`SessionError::Observe`]: the server could not be asked who waits.
    /// [`SessionError::Thread`]: the operating system gave no thread.
    pub fn run<C, X>(
        &self,
        connect: impl Fn() -> Result<C, X> + Sync,
    ) -> Result<SpecTranscript, SpecRunError>
    where
        C: LoadConnection<Backend = Pg> + Send + 'static,
        X: Into<Box<dyn Error + Send + Sync>>,
    {
        let runner = Runner::open(self, &connect)?;
        let permutations = self.script.permutations();
        let permutations = permutations.map(|entries| runner.run(&entries));
        Ok(SpecTranscript::new(
            &self.script,
            permutations.collect::<Result<_, _>>()?,
        ))
    }
}

/// The connections of a spec.
struct Runner<'s, C> {
    spec: &'s Spec,
    /// Its observer's connection is for the setups and teardowns too.
    execution: Arc<Execution>,
    sessions: Vec<Session<C>>,
}

impl<'s, C> Runner<'s, C>
where
    C: LoadConnection<Backend = Pg> + Send + 'static,
{
    fn open<X>(
        spec: &'s Spec,
        connect: &(impl Fn() -> Result<C, X> + Sync),
    ) -> Result<Self, SessionError>
    where
        X: Into<Box<dyn Error + Send + Sync>>,
    {
        // All at once: each costs the server a new process.
        thread::scope(|scope| {
            let open = |name| {
                thread::Builder::new()
                    .spawn_scoped(scope, move || open_session(connect, name))
                    .map_err(SessionError::Thread)
            };
            let control = open("control connection");
            let names = spec
                .script
                .sessions
                .iter()
                .map(|session| session.name.as_str());
            let sessions: Vec<_> = names.clone().map(open).collect();
            let (control, _) = join(control)?;
            let execution = Arc::new(Execution::new(control));
            let sessions = sessions.into_iter().zip(names).map(|(opening, name)| {
                let (conn, pid) = join(opening)?;
                Session::with_pid(&execution, name, conn, pid)
            });
            Ok(Self {
                spec,
                sessions: sessions.collect::<Result<_, _>>()?,
                execution,
            })
        })
    }

    fn run(&self, entries: &[ScriptEntry]) -> Result<PermutationTranscript, SpecRunError> {
        self.set_up()?;
        self.execution.begin(self.spec.timeout);
        let permutation = Permutation::new(&self.spec.script, &self.execution, &self.sessions);
        let mut text = permutation.run(entries)?;
        let transcript = self.execution.transcript();
        self.tear_down(&mut text)?;
        Ok(PermutationTranscript { text, transcript })
    }

    fn execute(&self, sql: &str) -> QueryResult<()> {
        self.execution
            .with_observer(|control| execute(control, sql))
    }

    fn set_up(&self) -> Result<(), SpecRunError> {
        let failed = |what: String| |source| SpecRunError::Prepare { what, source };
        for setup in &self.spec.script.setups {
            self.execute(setup).map_err(failed("setup".to_owned()))?;
        }
        self.execution.begin(self.spec.timeout);
        for (session, spec) in self.sessions.iter().zip(&self.spec.script.sessions) {
            if let Some(setup) = &spec.setup {
                let what = format!("setup of session {}", spec.name);
                launch(session, "setup", setup)
                    .returned()?
                    .map_err(failed(what))?;
            }
        }
        Ok(())
    }

    fn tear_down(&self, text: &mut String) -> Result<(), SessionError> {
        self.execution.begin(self.spec.timeout);
        for (session, spec) in self.sessions.iter().zip(&self.spec.script.sessions) {
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
        if let Some(teardown) = &self.spec.script.teardown
            && let Err(error) = self.execute(teardown)
        {
            let _ = writeln!(text, "teardown failed: {}", message(&error));
        }
        Ok(())
    }
}

impl<C> Drop for Runner<'_, C> {
    fn drop(&mut self) {
        // All at once, before each is waited for.
        self.sessions.iter_mut().for_each(Session::end);
    }
}

/// A connection, and the server's process for it.
type Opened<C> = Result<(C, i32), SessionError>;

fn join<C>(opening: Result<ScopedJoinHandle<'_, Opened<C>>, SessionError>) -> Opened<C> {
    (opening?.join()).unwrap_or_else(|payload| panic::resume_unwind(payload))
}

/// Connects as isolationtester does: with a session's name, and nothing else, of its own.
fn open_session<C, X>(connect: &impl Fn() -> Result<C, X>, name: &str) -> Opened<C>
where
    C: LoadConnection<Backend = Pg>,
    X: Into<Box<dyn Error + Send + Sync>>,
{
    let failed = |source| SessionError::Connect {
        session: name.to_owned(),
        source,
    };
    let mut conn = connect().map_err(|error| failed(error.into()))?;
    // Diesel has set the time zone.
    let named = conn.batch_execute(&format!(
        "RESET TimeZone; SELECT pg_catalog.set_config('application_name', pg_catalog.concat(\
         pg_catalog.current_setting('application_name'), '/', {}), false)",
        literal(name),
    ));
    let pid = named.and_then(|()| conn.backend_pid());
    let pid = pid.map_err(|error| failed(error.into()))?;
    Ok((conn, pid))
}

/// A string as SQL.
fn literal(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('\'', "''");
    format!("E'{text}'")
}
