//! Runs the command, and looks after it and the lock.

use std::ffi::OsString;
use std::process::ExitCode;

use crossbeam::channel::{self, Receiver};
use crossbeam::select;
use diesel::PgConnection;
use diesel_locks::{LockError, WatchedAdvisoryLockGuard};
use nix::errno::Errno;
use nix::sys::signal::{Signal, raise};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpgrp};

use super::arguments::Run;
use super::keeper::Keeper;
use super::session::Session;
use super::terminal::Terminal;
use super::{command, group, signals};
use crate::failure::{Failure, chain, status};

pub(super) fn run(
    run: &Run,
    session: Session,
    only_here: &[OsString],
) -> Result<ExitCode, Failure> {
    let no_process = |error| {
        Failure::new("the system gave no process")
            .caused_by(error)
            .status(status::SYSTEM)
    };
    let signals = signals::listen().map_err(no_process)?;
    let mut keeper = Keeper::start(&session.sockets).map_err(no_process)?;
    let guard = session.guard.watch(run.watch)?;
    let command = command::start(run, session.backend_pid, only_here).map_err(no_process)?;
    let ended = command::wait_until_stopped(command).map_err(|error| no_process(error.into()))?;
    let mut supervisor = Supervisor {
        command,
        terminal: Terminal::new(),
        ended,
    };
    if supervisor.ended.is_none() {
        keeper.watch(command);
        command::go(command);
    }
    let lost = supervisor.until_it_ends(run, &signals, &guard);
    // What is left of the group has no lock either.
    if lost.is_some() {
        group::end(command);
    }
    supervisor.terminal_back();
    let lost = lost.or(guard.release().err());
    keeper.dismiss();
    if let Some(lost) = lost {
        let told = format!("{} was lost while the command ran", run.key.key());
        return Err(Failure::new(told)
            .caused_by(chain(&lost))
            .status(status::LOST));
    }
    Ok(ExitCode::from(supervisor.status()))
}

struct Supervisor {
    /// Its pid, and its group.
    command: Pid,
    terminal: Terminal,
    ended: Option<WaitStatus>,
}

impl Supervisor {
    /// Returns why the lock is lost, if it was.
    fn until_it_ends(
        &mut self,
        run: &Run,
        signals: &Receiver<Signal>,
        guard: &WatchedAdvisoryLockGuard<PgConnection>,
    ) -> Option<LockError> {
        let mut lost = None;
        let mut loss = guard.lost().clone();
        let mut patience_is_over = channel::never();
        while self.ended.is_none() {
            select! {
                recv(signals) -> signal => self.heed(signal.ok()?),
                recv(loss) -> reason => {
                    lost = reason.ok();
                    loss = channel::never();
                    patience_is_over = channel::after(run.kill_after);
                    self.ask_to_end();
                }
                recv(patience_is_over) -> _ => group::signal(self.command, Signal::SIGKILL),
            }
        }
        lost
    }

    fn ask_to_end(&self) {
        group::signal(self.command, Signal::SIGTERM);
        // It may be stopped.
        group::signal(self.command, Signal::SIGCONT);
    }

    fn heed(&mut self, signal: Signal) {
        match signal {
            Signal::SIGCHLD => self.look(),
            Signal::SIGTSTP => {
                group::signal(self.command, signal);
                stop();
            }
            Signal::SIGCONT => {
                if self.terminal.is_lent() {
                    self.terminal.lend(self.command);
                }
                group::signal(self.command, signal);
            }
            signal => group::signal(self.command, signal),
        }
    }

    /// What has become of the command.
    fn look(&mut self) {
        let flags = WaitPidFlag::WNOHANG | WaitPidFlag::WUNTRACED;
        while self.ended.is_none() {
            match waitpid(self.command, Some(flags)) {
                Ok(WaitStatus::Stopped(_, signal)) => self.stopped(signal),
                Ok(WaitStatus::StillAlive) => break,
                Err(Errno::EINTR) => {}
                // It is nobody's but ours to wait for.
                Err(_) => break,
                Ok(ended) => self.ended = Some(ended),
            }
        }
    }

    fn stopped(&mut self, by: Signal) {
        let wants_terminal = matches!(by, Signal::SIGTTIN | Signal::SIGTTOU);
        if wants_terminal && self.terminal.lend(self.command) {
            group::signal(self.command, Signal::SIGCONT);
        } else if wants_terminal || self.terminal.is_lent() {
            // By who has the terminal: the shell shall see it stopped.
            stop();
        }
    }

    /// Whoever shares the terminal with this process learns of a Ctrl-C that was the command's.
    fn terminal_back(&mut self) {
        if !self.terminal.is_lent() {
            return;
        }
        self.terminal.take_back(self.command);
        if let Some(WaitStatus::Signaled(_, signal @ (Signal::SIGINT | Signal::SIGQUIT), _)) =
            self.ended
        {
            group::signal(getpgrp(), signal);
        }
    }

    fn status(&self) -> u8 {
        match self.ended {
            Some(WaitStatus::Exited(_, code)) => u8::try_from(code).unwrap_or(status::FAILURE),
            Some(WaitStatus::Signaled(_, signal, _)) => status::SIGNAL + signal as u8,
            _ => status::FAILURE,
        }
    }
}

/// Until somebody sends `SIGCONT`.
fn stop() {
    // No process can be kept from that.
    let _ = raise(Signal::SIGSTOP);
}
