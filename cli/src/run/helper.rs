//! The processes that `diesel_locks run` makes of itself.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{command, keeper};
use crate::failure::Failure;

#[derive(Debug, Args)]
pub(crate) struct Helper {
    #[command(subcommand)]
    part: Part,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// Waits for the end of who has started it, and kills the command then
    Keep,
    /// Becomes the command, as soon as the keeper knows of it
    Become {
        parent: i32,
        #[arg(last = true)]
        command: Vec<OsString>,
    },
}

pub(crate) fn main(helper: Helper) -> Result<ExitCode, Failure> {
    match helper.part {
        Part::Keep => keeper::main(),
        Part::Become { parent, command } => command::main(parent, &command),
    }
}
