//! What can be asked of `diesel_locks run`.

use std::ffi::OsString;
use std::time::Duration;

use clap::Args;

use crate::database::Database;
use crate::duration;
use crate::failure::status;
use crate::key::Key;

/// Runs a command under an advisory lock: flock(1) for everything that shares the database
///
/// Waits for the lock, runs COMMAND, lets go of the lock, and ends with the status of COMMAND.
/// Signals go to COMMAND. If the lock is lost meanwhile, because the session was ended or the server
/// does not answer, COMMAND gets SIGTERM, and SIGKILL after --kill-after.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(super) key: Key,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(super) command: Vec<OsString>,
    /// Does not wait: ends at once if another session holds the lock
    #[arg(long, short, visible_alias = "nonblock", conflicts_with = "timeout")]
    pub(super) nowait: bool,
    /// Waits no longer than this, such as 30s, 500ms or 5m
    #[arg(long, short = 'w', value_name = "TIME", value_parser = duration::parse)]
    pub(super) timeout: Option<Duration>,
    /// Takes the lock in shared mode: with others who do so, and not beside an exclusive one
    #[arg(long, short)]
    pub(super) shared: bool,
    /// The exit status if the lock is held by another session
    #[arg(long, short = 'E', value_name = "N", default_value_t = status::CONFLICT)]
    pub(super) conflict_exit_code: u8,
    /// Tells who holds the lock, before it is waited for
    #[arg(long)]
    pub(super) wait_message: bool,
    /// Says nothing if the lock is held by another session
    #[arg(long, short, conflicts_with = "wait_message")]
    pub(super) quiet: bool,
    /// How long the command has to end after SIGTERM, if the lock is lost
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration::parse)]
    pub(super) kill_after: Duration,
    /// How soon the loss of the lock is noticed; the server has half of it for an answer
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration::parse)]
    pub(super) watch: Duration,
    #[command(flatten)]
    pub(super) database: Database,
}

const EXAMPLES: &str = "\
Exit status:
  that of COMMAND; 128 + N if signal N has ended it
  69   the database could not be reached, or gave no lock, or is a standby
  75   another session holds the lock (--conflict-exit-code)
  76   the lock was lost while COMMAND ran
  71   the system gave no process
  126  COMMAND cannot be run
  127  there is no such COMMAND

The environment of COMMAND has DIESEL_LOCKS_NAME and DIESEL_LOCKS_BACKEND_PID.

Examples:
  diesel_locks run --nowait nightly-report -- ./report.sh --all
  diesel_locks run --timeout 30s --wait-message deploy -- sh -c 'make && make deploy'
  diesel_locks run --key sqlx:queue --shared -- ./worker";
