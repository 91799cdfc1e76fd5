//! The command `diesel_locks`: flock(1) for everything that shares a PostgreSQL database, and who
//! is in the way.

// They panic when nobody reads any more.
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod arguments;
mod database;
mod duration;
mod failure;
#[cfg(test)]
#[path = "../../tests/support/hostile.rs"]
mod hostile;
mod isolation;
mod key;
mod migrate;
mod observe;
mod output;
#[cfg(unix)]
mod run;
mod shell;
mod top;
mod words;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use arguments::{Arguments, Task};

fn main() -> ExitCode {
    let done = match Arguments::parse().task {
        Task::Isolation(files) => isolation::main(&files),
        Task::Migrate(migrate) => migrate::migrate(&migrate),
        Task::Completions(shell) => shell::completions(&shell, Arguments::command()),
        Task::Man(man) => shell::man(&man, Arguments::command()),
        Task::Key(key) => key::main(&key),
        Task::Ls(list) => observe::ls(&list),
        Task::Waits(waits) => observe::waits(&waits),
        Task::Graph(graph) => observe::graph(&graph),
        Task::Top(top) => top::top(&top),
        Task::Cancel(end) => observe::cancel(&end),
        Task::Terminate(end) => observe::terminate(&end),
        #[cfg(unix)]
        Task::Run(run) => run::main(run),
        #[cfg(unix)]
        Task::Helper(helper) => run::helper(helper),
    };
    match done {
        Ok(status) => status,
        Err(failure) => {
            output::tell(&failure);
            failure.exit_code()
        }
    }
}
