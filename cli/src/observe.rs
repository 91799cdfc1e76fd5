//! Who holds, who waits for whom, and how to end them.

mod end;
pub(crate) mod json;
mod ls;
mod table;

use std::process::ExitCode;

use clap::Args;
use diesel::PgConnection;
use diesel::connection::SimpleConnection;
use diesel_locks::{LockError, LockKey, LockNames, ObserveExt, WaitGraph};
use serde_json::Value;

use crate::database::Database;
use crate::failure::Failure;
use crate::output;

pub(crate) use end::{EndArguments, cancel, terminate};
pub(crate) use ls::{ListArguments, interesting_locks, ls};

/// What each of these commands can be told.
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

/// Prints who waits for a lock, the longest wait first
///
/// One line for each wait, with whom it is behind, as pg_blocking_pids says. The exit status is 0
/// if the question was answered, whatever the answer is.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  diesel_locks waits --name nightly-report
  diesel_locks waits --json | jq '.[] | select(.waiting > 60) | .blockers'")]
pub(crate) struct WaitsArguments {
    /// Prints an array of objects
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    look: Look,
}

pub(crate) fn waits(arguments: &WaitsArguments) -> Result<ExitCode, Failure> {
    let waits = arguments.look.connect()?.lock_waits()?;
    match arguments.json {
        true => print_json(&waits.iter().map(json::wait).collect()),
        false => print(&table::waits(&waits)),
    }
}

/// Prints who waits for whom: as a tree, or for Graphviz or Mermaid
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  diesel_locks graph
  diesel_locks graph --dot | dot -Tsvg > waits.svg
  diesel_locks graph --json | jq '.roots[0]'")]
pub(crate) struct GraphArguments {
    /// Prints a graph for Graphviz
    #[arg(long, group = "form")]
    dot: bool,
    /// Prints a diagram for Mermaid
    #[arg(long, group = "form")]
    mermaid: bool,
    /// Prints an object: sessions, edges, roots and cycles
    #[arg(long, group = "form")]
    json: bool,
    #[command(flatten)]
    look: Look,
}

pub(crate) fn graph(arguments: &GraphArguments) -> Result<ExitCode, Failure> {
    let graph = WaitGraph::load(&mut arguments.look.connect()?)?;
    match arguments {
        GraphArguments { json: true, .. } => print_json(&json::graph(&graph)),
        GraphArguments { dot: true, .. } => print(&graph.to_dot()),
        GraphArguments { mermaid: true, .. } => print(&graph.to_mermaid()),
        _ => print(&graph.to_string()),
    }
}

fn print_json(value: &Value) -> Result<ExitCode, Failure> {
    print(&format!("{value:#}"))
}

/// Prints lines.
fn print(text: &str) -> Result<ExitCode, Failure> {
    output::print(format_args!("{}\n", text.trim_end()))?;
    Ok(ExitCode::SUCCESS)
}
