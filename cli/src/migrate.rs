//! Diesel's migrations, by one process at a time.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use diesel::{Connection, PgConnection};
use diesel_locks::{End, MigrationLock, Retry, Tried};
use diesel_migrations::FileBasedMigrations;

use crate::database::{Database, leave_no_waiter_behind};
use crate::duration;
use crate::failure::Failure;
use crate::output;

/// Runs the pending migrations of Diesel's directory, by one process at a time
///
/// As `diesel migration run` does, but under a lock: of N that are started at once, one runs them,
/// and the others find nothing left to do.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  diesel_locks migrate
  diesel_locks migrate --dry-run --markdown > locks.md
  diesel_locks migrate --migration-dir db/migrations --lock-timeout 2s
  diesel_locks migrate --prioritize 5s")]
pub(crate) struct MigrateArguments {
    /// The directory of the migrations; else MIGRATION_DIRECTORY, or the `migrations` here or in a
    /// directory above
    #[arg(long, value_name = "DIRECTORY")]
    migration_dir: Option<PathBuf>,
    /// Runs them in a transaction that is rolled back, and prints what they would lock
    #[arg(long)]
    dry_run: bool,
    /// Prints the dry run as a table in Markdown
    #[arg(long, requires = "dry_run")]
    markdown: bool,
    /// How long to wait for whoever runs migrations now
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = duration::parse)]
    timeout: Duration,
    /// How long a migration may wait for each of its locks, before it is tried again
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    lock_timeout: Option<Duration>,
    /// Terminates whoever is in the way of a migration for longer than this, from a second
    /// connection, and says whom; not superusers' sessions. A shorter --lock-timeout gives up first
    #[arg(long, value_name = "TIME", value_parser = duration::parse, conflicts_with = "dry_run")]
    prioritize: Option<Duration>,
    /// How often a migration is tried that is refused a lock, or is ended to resolve a deadlock
    #[arg(long, value_name = "N", default_value_t = 100)]
    attempts: u32,
    /// Drops an invalid index that an interrupted CREATE INDEX CONCURRENTLY has left in the way, and
    /// builds it again
    #[arg(long, conflicts_with = "dry_run")]
    drop_invalid_indexes: bool,
    #[command(flatten)]
    database: Database,
}

pub(crate) fn migrate(arguments: &MigrateArguments) -> Result<ExitCode, Failure> {
    Database::read_env_file();
    let directory = arguments
        .migration_dir
        .clone()
        .or_else(|| std::env::var_os("MIGRATION_DIRECTORY").map(PathBuf::from));
    let migrations = match directory {
        Some(directory) => FileBasedMigrations::from_path(&directory)
            .map_err(|error| Failure::new(directory.display().to_string()).caused_by(error))?,
        None => FileBasedMigrations::find_migrations_directory().map_err(Failure::new)?,
    };
    let mut lock = MigrationLock::new()
        .timeout(arguments.timeout)
        .attempts(retry(arguments.attempts))
        .drop_invalid_indexes(arguments.drop_invalid_indexes)
        .print_progress();
    if let Some(timeout) = arguments.lock_timeout {
        lock = lock.lock_timeout(timeout);
    }
    if let Some(after) = arguments.prioritize {
        let url = arguments.database.url()?;
        let connect = move || PgConnection::establish(&url);
        lock = lock.prioritize(connect, End::Terminate, after);
    }
    let mut conn = arguments.database.connect()?;
    leave_no_waiter_behind(&mut conn);
    if arguments.dry_run {
        let report = lock.dry_run(&mut conn, migrations).map_err(Failure::new)?;
        match arguments.markdown {
            true => output::print(report.to_markdown())?,
            false => output::print(&report)?,
        }
        let failed = |tried: &Tried| matches!(tried, Tried::Failed { .. });
        return Ok(
            match report.migrations.iter().any(|one| failed(&one.tried)) {
                true => ExitCode::FAILURE,
                false => ExitCode::SUCCESS,
            },
        );
    }
    let done = lock.run_pending(&mut conn, migrations);
    let done = done.map_err(Failure::new)?;
    let versions: String = done.iter().map(|version| format!("{version}\n")).collect();
    output::print(versions)?;
    Ok(ExitCode::SUCCESS)
}

/// With pauses in which whoever is in the way has time to end.
fn retry(attempts: u32) -> Retry {
    Retry::new()
        .attempts(attempts)
        .backoff(Duration::from_millis(50), Duration::from_secs(2))
}
