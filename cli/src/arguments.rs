//! What can be asked of the command.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::key::KeyArguments;
use crate::migrate::MigrateArguments;
use crate::observe::{EndArguments, GraphArguments, ListArguments, WaitsArguments};
#[cfg(unix)]
use crate::run::{Helper, Run};
use crate::shell::{CompletionsArguments, ManArguments};
use crate::top::TopArguments;

/// Locks on PostgreSQL: run a command under one, and see who is in the way
#[derive(Debug, Parser)]
#[command(name = "diesel_locks", version, max_term_width = 100)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) task: Task,
}

const EXAMPLES: &str = "\
Examples:
  diesel_locks run --nowait nightly-report -- ./report.sh
  diesel_locks graph
  diesel_locks top --interval 2s
  diesel_locks terminate --yes nightly-report
  diesel_locks migrate --dry-run";

#[derive(Debug, Subcommand)]
pub(crate) enum Task {
    #[cfg(unix)]
    Run(Run),
    Ls(ListArguments),
    Waits(WaitsArguments),
    Graph(GraphArguments),
    Top(TopArguments),
    /// Cancels what a session does, or the holders of a lock
    ///
    /// With pg_cancel_backend: a statement that runs fails. A session that runs none is not
    /// disturbed, and keeps its locks.
    Cancel(EndArguments),
    /// Terminates a session, or the holders of a lock
    ///
    /// With pg_terminate_backend: its transaction is rolled back, and its locks are free. A command
    /// of `diesel_locks run` gets SIGTERM then.
    Terminate(EndArguments),
    Migrate(MigrateArguments),
    Key(KeyArguments),
    Completions(CompletionsArguments),
    Man(ManArguments),
    Isolation(Files),
    #[cfg(unix)]
    #[command(hide = true)]
    Helper(Helper),
}

/// Runs PostgreSQL's isolation-test files, each on a database of its own
///
/// Prints what isolationtester prints, but for rows, notices and notifications.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  diesel_locks isolation deadlock-simple.spec
  diesel_locks isolation --database-url postgres://localhost/postgres specs/*.spec")]
pub(crate) struct Files {
    /// A file in the language of PostgreSQL's isolation tests
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// A database of the server on which those are made, as a URL or in libpq's keywords; else
    /// DATABASE_URL, of the environment or of a file .env here or above; else a private server is
    /// started
    #[arg(long, value_name = "URL")]
    pub(crate) database_url: Option<String>,
}
