//! `diesel_locks run`: a command under a lock.
//!
//! Three processes see to it that the command never runs without the lock. The first takes the
//! lock, starts the command in a process group of its own, and waits for its end, or for that of
//! the lock. The second, the keeper, has the connection's socket too: if the first is killed, it
//! kills the command's group, and only then lets the server know that the session is over. The
//! third waits before it becomes the command, until the keeper knows of it.

mod again;
mod arguments;
mod command;
mod group;
mod helper;
mod keeper;
mod session;
mod signals;
mod supervisor;
mod terminal;

use std::process::ExitCode;

use crate::database::Database;
use crate::failure::Failure;

pub(crate) use arguments::Run;
pub(crate) use helper::{Helper, main as helper};

pub(crate) fn main(run: Run) -> Result<ExitCode, Failure> {
    let only_here = Database::read_env_file();
    let session = match session::take(&run) {
        Ok(session) => session,
        Err(refused) if refused.is_contention() => {
            if !run.quiet {
                refused.tell();
            }
            return Ok(ExitCode::from(run.conflict_exit_code));
        }
        Err(refused) => return Err(refused.into()),
    };
    supervisor::run(&run, session, &only_here)
}
