//! Which database, and a connection to it.

use std::collections::HashSet;
use std::env;
use std::ffi::OsString;

use clap::Args;
use diesel::{Connection, PgConnection};
use diesel_locks::LockError;

/// Which database.
#[derive(Debug, Clone, Args)]
pub(crate) struct Database {
    /// The database, as a URL or in libpq's keywords; else DATABASE_URL, of the environment or of
    /// a file .env here or above; else libpq's own variables, such as PGHOST and PGSERVICE
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
}

impl Database {
    /// Reads `.env`, as Diesel's own command does: here or in a directory above, and without
    /// overruling the environment.
    ///
    /// Returns the names of the variables that it has added.
    pub(crate) fn read_env_file() -> Vec<OsString> {
        let before: HashSet<OsString> = env::vars_os().map(|(name, _)| name).collect();
        // There need not be one; what is wrong in it is what is missing then.
        let _ = dotenvy::dotenv();
        env::vars_os()
            .map(|(name, _)| name)
            .filter(|name| !before.contains(name))
            .collect()
    }

    /// What to connect to; libpq knows what an empty one is.
    pub(crate) fn url(&self) -> String {
        match &self.database_url {
            Some(url) => url.clone(),
            None => env::var("DATABASE_URL").unwrap_or_default(),
        }
    }

    pub(crate) fn connect(&self) -> Result<PgConnection, LockError> {
        Ok(PgConnection::establish(&self.url())?)
    }
}
