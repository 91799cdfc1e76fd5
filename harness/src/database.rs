use std::env;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use diesel::connection::SimpleConnection;
use diesel::{Connection, ConnectionError, PgConnection};

use crate::chain::debug_is_report;
use crate::server::{ServerError, TempPostgres};

/// Why there is no [`TestDatabase`].
///
/// Its `Debug` is what it says, with its sources.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum DatabaseError {
    /// No server was started for it.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The server that was to have the database could not be reached.
    #[error("could not connect to the server for test databases")]
    Unreachable(#[source] ConnectionError),
    /// The database was not created, for want of the right to do so, perhaps.
    #[error("could not create database {name}")]
    Create {
        /// Its name.
        name: String,
        /// Diesel's error.
        source: diesel::result::Error,
    },
    /// A migration failed.
    #[cfg(feature = "migrations")]
    #[error("the migrations failed")]
    Migration(#[source] Box<dyn std::error::Error + Send + Sync>),
}

debug_is_report!(DatabaseError);

/// A new and empty database, dropped with the value.
///
/// Where `DATABASE_URL` is set, it is made on that server, whose role must be allowed to create
/// databases, from that server's `template1`. Else it is made on a [`TempPostgres`](crate::TempPostgres) that all
/// databases of the process share and that ends with the process.
///
/// Every test that has one can be run at the same time as every other: not even advisory locks
/// are shared between databases.
///
/// # What drop does
///
/// Dropping the value drops the database, and disconnects whoever is connected to it. It is
/// silent if that fails. On the server of `DATABASE_URL`, a process that ends without dropping the
/// value leaves the database behind; its name begins with `diesel_locks_`.
///
/// ```
/// use diesel::prelude::*;
/// use diesel_locks_harness::TestDatabase;
///
/// let database = TestDatabase::new()?;
/// let mut conn = PgConnection::establish(database.url())?;
/// diesel::sql_query("CREATE TABLE t (id integer)").execute(&mut conn)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct TestDatabase {
    name: String,
    url: String,
    server_url: String,
    /// Keeps the server alive, where it is the process's own.
    _server: Option<Arc<TempPostgres>>,
}

impl TestDatabase {
    /// Creates a database, and starts a server for it if there is none yet.
    ///
    /// # Errors
    ///
    /// [`DatabaseError::Unreachable`]: no server answers at `DATABASE_URL`.
    /// [`DatabaseError::Create`]: the server's role may not create databases, for one.
    /// Else those of [`TempPostgres::start`](crate::TempPostgres::start).
    pub fn new() -> Result<Self, DatabaseError> {
        match env::var("DATABASE_URL") {
            Ok(url) if !url.is_empty() => Self::on(&url),
            _ => {
                let server = shared_server()?;
                let mut database = Self::on(server.url())?;
                database._server = Some(server);
                Ok(database)
            }
        }
    }

    /// Creates a database on this server, whatever `DATABASE_URL` says.
    ///
    /// # Errors
    ///
    /// [`DatabaseError::Unreachable`] and [`DatabaseError::Create`], as for [`new`](Self::new).
    pub fn on(server_url: &str) -> Result<Self, DatabaseError> {
        let name = unique_name();
        PgConnection::establish(server_url)
            .map_err(DatabaseError::Unreachable)?
            .batch_execute(&format!("CREATE DATABASE {name}"))
            .map_err(|source| DatabaseError::Create {
                name: name.clone(),
                source,
            })?;
        Ok(Self {
            url: with_database(server_url, &name),
            name,
            server_url: server_url.to_owned(),
            _server: None,
        })
    }

    /// Its URL, for `PgConnection::establish` and for every other program that uses libpq.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Runs all of `migrations`.
    ///
    /// ```
    /// use diesel_locks_harness::TestDatabase;
    /// use diesel_migrations::{EmbeddedMigrations, embed_migrations};
    ///
    /// const MIGRATIONS: EmbeddedMigrations = embed_migrations!();
    ///
    /// let database = TestDatabase::new()?.migrated(MIGRATIONS)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`DatabaseError::Migration`]: one of them failed. The database is dropped then.
    #[cfg(feature = "migrations")]
    pub fn migrated<S>(self, migrations: S) -> Result<Self, DatabaseError>
    where
        S: diesel::migration::MigrationSource<diesel::pg::Pg>,
    {
        use diesel_migrations::MigrationHarness;

        PgConnection::establish(&self.url)
            .map_err(DatabaseError::Unreachable)?
            .run_pending_migrations(migrations)
            .map_err(DatabaseError::Migration)?;
        Ok(self)
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        // Drop has nobody to tell.
        if let Ok(mut conn) = PgConnection::establish(&self.server_url) {
            let _ = conn.batch_execute(&format!("DROP DATABASE {} WITH (FORCE)", self.name));
        }
    }
}

/// The server of this process, started by whoever needs it first.
fn shared_server() -> Result<Arc<TempPostgres>, DatabaseError> {
    static SERVER: Mutex<Option<Arc<TempPostgres>>> = Mutex::new(None);
    // Whoever panicked with it has changed nothing.
    let mut server = SERVER.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(server) = &*server {
        return Ok(Arc::clone(server));
    }
    Ok(Arc::clone(server.insert(Arc::new(TempPostgres::start()?))))
}

/// A name that no other test has, on this machine or another: it needs no quotes in SQL.
fn unique_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    format!(
        "diesel_locks_{}_{:x}_{count}",
        std::process::id(),
        now.as_nanos()
    )
}

/// `server_url`, a URL or a string of libpq's keywords, for another database of the server.
fn with_database(server_url: &str, name: &str) -> String {
    // Of several equal keywords or parameters the last one counts, also before a URL's path.
    let rest = ["postgres://", "postgresql://"]
        .iter()
        .find_map(|scheme| server_url.strip_prefix(scheme));
    let before = match rest.map(after_password) {
        None => " ",
        Some(rest) if !rest.contains('?') => "?",
        Some(rest) if rest.ends_with(['?', '&']) => "",
        Some(_) => "&",
    };
    format!("{server_url}{before}dbname={name}")
}

/// What follows the user and the password, in which a question mark is a letter.
fn after_password(url: &str) -> &str {
    match url.split_once('@') {
        Some((user, rest)) if !user.contains('/') => rest,
        _ => url,
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests {
    use super::with_database;

    #[test]
    fn a_server_url_becomes_that_of_a_database() {
        for (server, database) in [
            ("postgres://localhost", "postgres://localhost?dbname=x"),
            (
                "postgres://me:secret@h:5433/app",
                "postgres://me:secret@h:5433/app?dbname=x",
            ),
            (
                "postgresql://h/app?sslmode=require",
                "postgresql://h/app?sslmode=require&dbname=x",
            ),
            ("postgres://h/app?", "postgres://h/app?dbname=x"),
            (
                "postgres://me:a?b@h/app",
                "postgres://me:a?b@h/app?dbname=x",
            ),
            (
                "postgres:///?host=/tmp&dbname=app",
                "postgres:///?host=/tmp&dbname=app&dbname=x",
            ),
            ("host=/tmp dbname=app", "host=/tmp dbname=app dbname=x"),
            (
                "password=a://b dbname=app",
                "password=a://b dbname=app dbname=x",
            ),
        ] {
            assert_eq!(with_database(server, "x"), database);
        }
    }
}
