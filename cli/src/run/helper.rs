//! The processes that `diesel_locks run` makes of itself.

use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

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

/// This program again.
pub(super) fn again(part: &str) -> Command {
    let mut command = Command::new(this_program());
    command.arg0("diesel_locks").args(["helper", part]);
    command
}

/// Where a new version has been installed meanwhile, Linux still has this one here.
fn this_program() -> PathBuf {
    let running = Path::new("/proc/self/exe");
    match running.exists() {
        true => running.to_owned(),
        false => env::current_exe().unwrap_or_else(|_| "diesel_locks".into()),
    }
}
