//! The command `diesel_locks`: flock(1) for everything that shares a PostgreSQL database, and who
//! is in the way.

mod arguments;
mod database;
mod duration;
mod failure;
mod isolation;
mod key;
mod run;

use std::process::ExitCode;

use clap::Parser;

use arguments::{Arguments, Task};

fn main() -> ExitCode {
    let done = match Arguments::parse().task {
        Task::Isolation(files) => isolation::main(&files),
        Task::Key(key) => key::main(&key),
        Task::Run(run) => run::main(run),
        Task::Helper(helper) => run::helper(helper),
    };
    match done {
        Ok(status) => status,
        Err(failure) => failure.tell(),
    }
}
