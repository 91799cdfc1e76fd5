use std::fs;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::error::ServerError;
use super::user::ServerUser;

/// How long a server may take until it accepts connections. It takes a tenth of a second.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// How often the server's own word is looked up while it starts.
const POLL: Duration = Duration::from_millis(2);

/// Nothing outlives the server, so it need not be safe on the disk; and nothing but the tests
/// should take locks.
const SETTINGS: [&str; 9] = [
    "listen_addresses=",
    "unix_socket_permissions=0700",
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
    "autovacuum=off",
    "shared_buffers=16MB",
    "max_connections=200",
    // None may be prepared by default.
    "max_prepared_transactions=20",
];

/// The shell that runs the server until its standard input ends.
#[derive(Debug)]
pub(super) struct ServerProcess {
    shell: Child,
    /// Open as long as the server is wanted.
    wanted: Option<ChildStdin>,
}

impl ServerProcess {
    pub(super) fn spawn(
        binaries: &Path,
        directory: &Path,
        user: &ServerUser,
    ) -> Result<Self, ServerError> {
        let settings = SETTINGS.iter().flat_map(|setting| ["-c", setting]);
        let spawned = user
            .command(Path::new("/bin/sh"), directory)
            .args(["-c", include_str!("process.sh"), "diesel_locks"])
            .arg(directory)
            .arg(binaries.join("postgres"))
            .args(["-D", "data", "-p", "5432", "-k"])
            .arg(directory)
            .args(settings)
            // A signal for this process and its group is not for the server.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut shell = spawned.map_err(ServerError::io("run the server in", directory))?;
        let wanted = shell.stdin.take();
        Ok(Self { shell, wanted })
    }

    pub(super) fn start_server(&mut self, directory: &Path) -> Result<(), ServerError> {
        if let Some(wanted) = &mut self.wanted {
            wanted
                .write_all(b"start\n")
                .map_err(ServerError::io("start the server in", directory))?;
        }
        let begun = Instant::now();
        while !is_ready(directory) {
            let ended = self
                .shell
                .try_wait()
                .map_err(ServerError::io("wait for the server in", directory))?;
            if ended.is_some() {
                return Err(ServerError::ServerFailed {
                    program: "postgres",
                    output: self.output(),
                });
            }
            if begun.elapsed() > START_TIMEOUT {
                self.stop();
                return Err(ServerError::ServerNotReady {
                    timeout: START_TIMEOUT,
                    output: self.output(),
                });
            }
            thread::sleep(POLL);
        }
        Ok(())
    }

    /// The end of the log, which the shell prints when the server has ended.
    fn output(&mut self) -> String {
        let mut output = Vec::new();
        if let Some(stdout) = &mut self.shell.stdout {
            // What cannot be read is missing from the error, which is no reason for another one.
            let _ = stdout.read_to_end(&mut output);
        }
        last_lines(&output)
    }

    fn stop(&mut self) {
        drop(self.wanted.take());
        // The shell ends when the server has ended and the directory is gone.
        let _ = self.shell.wait();
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Whether the server says that it is ready, in the eighth line of its lock file.
fn is_ready(directory: &Path) -> bool {
    fs::read_to_string(directory.join("data/postmaster.pid")).is_ok_and(|lines| {
        lines
            .lines()
            .nth(7)
            .is_some_and(|status| status.trim() == "ready")
    })
}

/// The end of what a program of the server has written.
pub(super) fn last_lines(output: &[u8]) -> String {
    let output = String::from_utf8_lossy(output);
    let lines: Vec<_> = output.lines().collect();
    lines[lines.len().saturating_sub(10)..].join("\n")
}
