//! The processes of a server: itself, and those that end it when this process is gone.

use std::fs::{self, File};
use std::io::{self, PipeWriter};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::directory::ServerDirectory;
use super::error::ServerError;
use super::user::ServerUser;

/// How long a server may take until it accepts connections. It takes a tenth of a second.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// How often the server's own word is looked up while it starts.
const POLL: Duration = Duration::from_millis(2);

/// How long the end of a server may take when each signal has its time, and when none has.
const END_TIMEOUT: Duration = Duration::from_secs(4);
const KILL_TIMEOUT: Duration = Duration::from_secs(1);

/// How often `end.sh` looks, a hundredth of a second apart, before it takes to the next signal.
const PATIENCE: &str = "60";
const NO_PATIENCE: &str = "0";

/// What the server writes into its log when it does.
const READY: &str = "database system is ready to accept connections";

/// Nothing outlives the server, so it need not be safe on the disk; and nothing but the tests
/// should take locks.
const SETTINGS: [&str; 10] = [
    "listen_addresses=",
    "unix_socket_permissions=0700",
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
    "autovacuum=off",
    "shared_buffers=16MB",
    // In the data directory, where a server that is killed leaves nothing behind.
    "dynamic_shared_memory_type=mmap",
    "max_connections=200",
    // None may be prepared by default.
    "max_prepared_transactions=20",
];

/// A directory, whatever runs in it, and the keepers, which end both when this process is gone.
///
/// There are two keepers, so that one of them can be killed. All are in one process group, whose
/// number is that of the first keeper.
#[derive(Debug)]
pub(super) struct Processes {
    user: ServerUser,
    directory: ServerDirectory,
    /// The server, as this process's child: its number is nobody else's until it is waited for.
    postmaster: Option<Child>,
    keepers: Vec<Child>,
    /// Open as long as the server is wanted.
    wanted: Option<PipeWriter>,
}

impl Processes {
    pub(super) fn new(user: ServerUser, directory: ServerDirectory) -> Result<Self, ServerError> {
        let mut processes = Self {
            user,
            directory,
            postmaster: None,
            keepers: Vec::new(),
            wanted: None,
        };
        let spawned = processes.spawn_keepers();
        spawned.map_err(ServerError::io("run the keepers of", processes.path()))?;
        Ok(processes)
    }

    fn spawn_keepers(&mut self) -> io::Result<()> {
        let (end, wanted) = io::pipe()?;
        self.wanted = Some(wanted);
        for _ in 0..2 {
            let keeper = end_command(&self.user, self.path(), PATIENCE)
                .process_group(self.group())
                .stdin(end.try_clone()?)
                // It writes nothing: this is how it holds the lock.
                .stdout(self.directory.lock.try_clone()?)
                .spawn()?;
            self.keepers.push(keeper);
        }
        Ok(())
    }

    pub(super) fn path(&self) -> &Path {
        &self.directory.path
    }

    /// A command of the server's user that ends with the server at the latest.
    pub(super) fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = self.user.command(program, self.path());
        command.process_group(self.group()).stdin(Stdio::null());
        command
    }

    /// The first keeper's, or a new one: a signal for this process's group is not for the server.
    fn group(&self) -> i32 {
        self.keepers.first().map_or(0, Child::id).cast_signed()
    }

    pub(super) fn start(&mut self, binaries: &Path) -> Result<(), ServerError> {
        let postgres = binaries.join("postgres");
        let begun = Instant::now();
        self.postmaster = Some(
            self.spawn(&postgres)
                .map_err(ServerError::io("run", &postgres))?,
        );
        loop {
            // First this, so that the last word has been written when it is read.
            let has_ended = self.has_ended();
            let output = self.last_lines();
            if has_ended {
                return Err(ServerError::ServerFailed {
                    program: "postgres",
                    output,
                });
            }
            if output.contains(READY) {
                return Ok(());
            }
            if begun.elapsed() > START_TIMEOUT {
                return Err(ServerError::ServerNotReady {
                    timeout: START_TIMEOUT,
                    output,
                });
            }
            thread::sleep(POLL);
        }
    }

    fn spawn(&self, postgres: &Path) -> io::Result<Child> {
        self.command(postgres)
            .args(["-D", "data", "-p", "5432", "-k"])
            .arg(self.path())
            .args(SETTINGS.iter().flat_map(|setting| ["-c", setting]))
            .stdout(self.directory.log.try_clone()?)
            .stderr(self.directory.log.try_clone()?)
            .spawn()
    }

    fn has_ended(&mut self) -> bool {
        match &mut self.postmaster {
            Some(postmaster) => !matches!(postmaster.try_wait(), Ok(None)),
            None => true,
        }
    }

    /// The end of the log.
    fn last_lines(&self) -> String {
        let log = &self.directory.log;
        let mut end = [0; 4000];
        // What cannot be read is missing from an error, which is no reason for another one.
        let length = log.metadata().map_or(0, |metadata| metadata.len());
        let read = log.read_at(&mut end, length.saturating_sub(4000));
        last_lines(&end[..read.unwrap_or(0)])
    }

    /// Whether neither the server nor the directory is there any more.
    fn is_gone(&mut self) -> bool {
        self.has_ended() && !exists(self.path())
    }

    /// Ends the server and removes the directory, or gives up after some time.
    fn end(&mut self, patience: &str, timeout: Duration) {
        let mut command = end_command(&self.user, self.path(), patience);
        let Ok(mut end) = command
            .process_group(self.group())
            .stdin(Stdio::null())
            .spawn()
        else {
            return;
        };
        wait(&mut end, timeout);
    }
}

impl Drop for Processes {
    /// Whatever has become of the server and the keepers: both may have been killed or stopped.
    fn drop(&mut self) {
        if !self.has_ended() {
            self.end(PATIENCE, END_TIMEOUT);
        }
        if !self.is_gone() {
            if let Some(postmaster) = &mut self.postmaster {
                let _ = postmaster.kill();
                let _ = postmaster.wait();
            }
            self.end(NO_PATIENCE, KILL_TIMEOUT);
        }
        // What could not be done, for want of a process, is left to the keepers.
        drop(self.wanted.take());
        if self.is_gone() {
            for keeper in &mut self.keepers {
                let _ = keeper.kill();
                let _ = keeper.wait();
            }
        }
    }
}

/// Ends the server that was left behind in `directory`, if it is there, and removes the directory,
/// which `lock` keeps from others who would do the same.
pub(super) fn clear_away(directory: &Path, lock: &File, user: &ServerUser) {
    let is_own = lock
        .metadata()
        .is_ok_and(|metadata| metadata.uid() == user.own_uid);
    if is_own && user.is_another() {
        // It was never handed over: nobody else has been in it.
        let _ = fs::remove_dir_all(directory);
        return;
    }
    let mut command = end_command(user, directory, NO_PATIENCE);
    if let Ok(mut end) = command.process_group(0).stdin(Stdio::null()).spawn() {
        wait(&mut end, END_TIMEOUT);
    }
}

/// The command that ends the server in `directory` and removes that, as soon as its input ends.
fn end_command(user: &ServerUser, directory: &Path, patience: &str) -> Command {
    let mut command = user.command("/bin/sh", directory);
    command
        .args(["-c", include_str!("end.sh"), "diesel_locks"])
        .arg(directory)
        .arg(patience)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// Waits for the end of `child`, and brings it about when the time is over.
fn wait(child: &mut Child, timeout: Duration) {
    let begun = Instant::now();
    while matches!(child.try_wait(), Ok(None)) {
        if begun.elapsed() > timeout {
            let _ = child.kill();
            let _ = child.wait();
            return;
        }
        thread::sleep(POLL);
    }
}

fn exists(path: &Path) -> bool {
    // A directory that can't be looked at is there.
    fs::symlink_metadata(path)
        .map_or_else(|error| error.kind() != io::ErrorKind::NotFound, |_| true)
}

/// The end of what a program of the server has written.
pub(super) fn last_lines(output: &[u8]) -> String {
    let output = String::from_utf8_lossy(output);
    let lines: Vec<_> = output.lines().collect();
    lines[lines.len().saturating_sub(10)..].join("\n")
}
