//! The command: a process that waits until it may become it.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use nix::sys::signal::{SigSet, Signal, kill, raise};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpid, getppid};

use super::again::again;
use super::arguments::Run;
use crate::failure::{Failure, status};

/// Starts the command, stopped before its first instruction, as the leader of a new group.
pub(super) fn start(run: &Run, backend_pid: i32, only_here: &[OsString]) -> io::Result<Pid> {
    let mut process = again("become");
    process
        .arg(getpid().to_string())
        .arg("--")
        .args(&run.command)
        .env("DIESEL_LOCKS_NAME", run.key.text())
        .env("DIESEL_LOCKS_BACKEND_PID", backend_pid.to_string())
        .process_group(0);
    for variable in only_here {
        process.env_remove(variable);
    }
    let id = process.spawn()?.id();
    Ok(Pid::from_raw(i32::try_from(id).map_err(io::Error::other)?))
}

/// Waits until the process is stopped. Returns how it has ended, if it has.
pub(super) fn wait_until_stopped(command: Pid) -> nix::Result<Option<WaitStatus>> {
    match waitpid(command, Some(WaitPidFlag::WUNTRACED))? {
        WaitStatus::Stopped(..) => Ok(None),
        ended => Ok(Some(ended)),
    }
}

/// Lets it become the command.
pub(super) fn go(command: Pid) {
    // A process that has been killed meanwhile is there until it is waited for.
    let _ = kill(command, Signal::SIGCONT);
}

pub(super) fn main(parent: i32, command: &[OsString]) -> Result<ExitCode, Failure> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(Failure::new("there is no command"));
    };
    // The command does not outlive its parent, even if the keeper is killed too.
    #[cfg(target_os = "linux")]
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(Failure::new)?;
    let has_parent = || getppid() == Pid::from_raw(parent);
    if has_parent() {
        raise(Signal::SIGSTOP).map_err(Failure::new)?;
    }
    if !has_parent() {
        return Ok(ExitCode::from(status::SYSTEM));
    }
    let error = Command::new(program).args(arguments).exec();
    // The command would have had that signal's default: telling nobody must not end this.
    let _ = SigSet::from(Signal::SIGPIPE).thread_block();
    let status = match error.kind() {
        io::ErrorKind::NotFound => status::NOT_FOUND,
        _ => status::NOT_EXECUTABLE,
    };
    let program = program.to_string_lossy().into_owned();
    Err(Failure::new(program).caused_by(error).status(status))
}
