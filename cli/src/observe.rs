//! Who holds, who waits for whom, and how to end them.

mod end;
pub(crate) mod json;
mod look;
mod ls;
mod print;
mod table;

use std::process::ExitCode;

use clap::Args;
use diesel_locks::{ObserveExt, WaitGraph};

use crate::failure::Failure;
use print::{print, print_json};

pub(crate) use end::{EndArguments, cancel, terminate};
pub(crate) use look::Look;
pub(crate) use ls::{ListArguments, interesting_locks, ls};

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
