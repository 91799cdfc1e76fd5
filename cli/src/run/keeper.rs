//! The process that outlives a `diesel_locks run` which was killed, for as long as the command does.
//!
//! It has the connection's socket, with which it does nothing: the server keeps the session, and so
//! the lock, until the command is gone.

use std::io::{self, BufRead, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use nix::unistd::Pid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};

use super::again::again;
use super::group;
use super::session::Sockets;
use crate::failure::Failure;

const DONE: &str = "done";

/// The keeper, for who has started it.
pub(super) struct Keeper(Child);

impl Keeper {
    pub(super) fn start(sockets: &Sockets) -> io::Result<Self> {
        let mut keeper = again("keep");
        keeper
            // What ends the group of this process shall not end the keeper.
            .process_group(0)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Ok(Self(sockets.shared(|| keeper.spawn())?))
    }

    /// From now on, the command is killed if this process is.
    pub(super) fn watch(&mut self, command: Pid) {
        self.say(&command.to_string());
    }

    /// There is nothing to keep any more.
    pub(super) fn dismiss(mut self) {
        self.say(DONE);
        let _ = self.0.wait();
    }

    fn say(&mut self, word: &str) {
        if let Some(input) = &mut self.0.stdin {
            // It may have been killed, which is no reason to end the command.
            let _ = writeln!(input, "{word}");
        }
    }
}

pub(super) fn main() -> Result<ExitCode, Failure> {
    // What ends a service, all of its processes at once, is for the command to heed.
    for signal in [SIGHUP, SIGINT, SIGQUIT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)))
            .map_err(Failure::new)?;
    }
    let mut command = None;
    for word in io::stdin().lock().lines().map_while(Result::ok) {
        if word == DONE {
            return Ok(ExitCode::SUCCESS);
        }
        command = word.parse().ok().map(Pid::from_raw);
    }
    if let Some(command) = command {
        group::end(command);
    }
    Ok(ExitCode::SUCCESS)
}
