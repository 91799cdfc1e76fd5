//! A session that looks at others.

use clap::Args;
use diesel::PgConnection;
use diesel::connection::SimpleConnection;
use diesel_locks::{LockError, LockKey, LockNames};

use crate::database::Database;

/// What each of the commands that look can be told.
#[derive(Debug, Clone, Args)]
pub(crate) struct Look {
    /// A name that a lock may have: its number is shown by it (may be repeated)
    #[arg(long = "name", value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    database: Database,
}

impl Look {
    /// A session that waits for nobody long, not even for a table of the catalogue or a network that
    /// is dead, and that finds operators nowhere else.
    pub(crate) fn connect(&self) -> Result<PgConnection, LockError> {
        Database::read_env_file();
        for name in &self.names {
            // From here on, it is known.
            let _ = LockKey::named(name);
        }
        let mut conn = self.database.connect_with_limits()?;
        conn.batch_execute(
            "SELECT pg_catalog.set_config('statement_timeout', '5s', false), \
             pg_catalog.set_config('lock_timeout', '1s', false), \
             pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', false), CASE WHEN \
             pg_catalog.current_setting('application_name') OPERATOR(pg_catalog.=) '' \
             THEN pg_catalog.set_config('application_name', 'diesel_locks', false) END",
        )?;
        // Without the table of names, or the right to read it, keys are shown as numbers.
        let _ = LockNames::load(&mut conn);
        Ok(conn)
    }
}
