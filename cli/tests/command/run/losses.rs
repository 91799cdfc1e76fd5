//! The lock is lost, or one of the processes is killed.

use std::fs;
use std::io::{BufRead, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use diesel::prelude::*;
use diesel_locks::{OwnedAdvisoryLockGuard, Wait};
use diesel_locks_harness::{TempPostgres, TestDatabase};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serial_test::parallel;

use crate::support::{diesel_locks, directory, soon};

struct Running {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
    backend_pid: i32,
    command: Pid,
}

impl Running {
    /// Runs what says the backend's pid and its own, and then `script`.
    fn start(url: &str, arguments: &[&str], script: &str) -> Self {
        let script = format!("echo $DIESEL_LOCKS_BACKEND_PID; echo $$; {script}");
        let mut process = diesel_locks()
            .args(["run", "lock", "--database-url", url])
            .args(arguments)
            .args(["--", "sh", "-c", &script])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut number = || lines.next().unwrap().unwrap().parse().unwrap();
        let backend_pid = number();
        let command = Pid::from_raw(number());
        Self {
            process,
            lines,
            backend_pid,
            command,
        }
    }

    fn hear(&mut self) -> String {
        self.lines.next().unwrap().unwrap()
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.process.id() as i32)
    }

    fn terminate_session(&self, url: &str) {
        let mut conn = PgConnection::establish(url).unwrap();
        diesel::sql_query(format!("SELECT pg_terminate_backend({})", self.backend_pid))
            .execute(&mut conn)
            .unwrap();
    }

    fn keeper(&self) -> Pid {
        let output = Command::new("pgrep")
            .args(["-P", &self.pid().to_string(), "-f", "helper keep"])
            .output()
            .unwrap();
        let pid = String::from_utf8(output.stdout).unwrap();
        Pid::from_raw(pid.trim().parse().unwrap())
    }

    /// Asserts that nobody is left who could write.
    fn assert_silent(mut self) {
        assert!(self.lines.next().is_none());
    }
}

/// Whether anybody of that group is.
fn is_alive(group: Pid) -> bool {
    let arguments = ["-e", "-o", "pgid=,state="];
    let output = Command::new("ps").args(arguments).output().unwrap();
    let output = String::from_utf8(output.stdout).unwrap();
    output.lines().any(|line| {
        let (of, state) = line.trim().split_once(' ').unwrap();
        of == group.to_string() && !state.trim().starts_with('Z')
    })
}

/// A script that goes on until there is that file.
fn until(go: &Path) -> String {
    format!(
        "while ! test -e '{}'; do sleep 0.01; done; echo done",
        go.display()
    )
}

fn lock(url: &str) {
    let wait = Wait::Timeout(Duration::from_secs(20));
    let guard = OwnedAdvisoryLockGuard::connect(url, "lock", wait).unwrap();
    guard.release().unwrap();
}

#[test]
#[parallel]
fn a_lost_lock_ends_the_command_in_good_order() {
    let database = TestDatabase::new().unwrap();
    let script = "trap 'echo told; exit 0' TERM; while :; do sleep 0.01; done";
    let mut running = Running::start(database.url(), &["--watch", "1s"], script);
    running.terminate_session(database.url());
    assert_eq!(running.hear(), "told");
    let output = running.process.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(76));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(
        told.contains("\"lock\" was lost while the command ran: "),
        "{told}"
    );
}

#[test]
#[parallel]
fn a_command_that_does_not_heed_the_loss_of_its_lock_is_killed_with_all_of_its_group() {
    let database = TestDatabase::new().unwrap();
    let script = "trap '' TERM; sleep 300 & sleep 301 & while :; do sleep 0.01; done";
    let arguments = ["--watch", "1s", "--kill-after", "100ms"];
    let mut running = Running::start(database.url(), &arguments, script);
    running.terminate_session(database.url());
    assert_eq!(running.process.wait().unwrap().code(), Some(76));
    running.assert_silent();
}

#[test]
#[parallel]
fn a_lock_that_was_lost_unnoticed_is_no_success() {
    let database = TestDatabase::new().unwrap();
    let go = directory("unnoticed").join("go");
    let mut running = Running::start(database.url(), &["--watch", "1h"], &until(&go));
    // The watch would notice it in half an hour; the end of the command does.
    running.terminate_session(database.url());
    fs::write(&go, "").unwrap();
    assert_eq!(running.hear(), "done");
    assert_eq!(running.process.wait().unwrap().code(), Some(76));
    running.assert_silent();
}

#[test]
#[parallel]
fn a_server_that_is_silent_is_no_lock() {
    let server = TempPostgres::start().unwrap();
    let arguments = ["--watch", "1s", "--kill-after", "0"];
    let mut running = Running::start(server.url(), &arguments, "sleep 300");
    let backend = Pid::from_raw(running.backend_pid);
    kill(backend, Signal::SIGSTOP).unwrap();
    let begun = Instant::now();
    assert_eq!(running.process.wait().unwrap().code(), Some(76));
    assert!(begun.elapsed() < Duration::from_secs(10));
    kill(backend, Signal::SIGCONT).unwrap();
    running.assert_silent();
}

#[test]
#[parallel]
fn a_killed_diesel_locks_takes_the_command_with_it() {
    let database = TestDatabase::new().unwrap();
    let mut running = Running::start(database.url(), &[], "sleep 300 & sleep 301; :");
    kill(running.pid(), Signal::SIGKILL).unwrap();
    running.process.wait().unwrap();
    lock(database.url());
    assert!(!is_alive(running.command));
    running.assert_silent();
}

/// So the lock of a `diesel_locks` that is killed is held until the command is gone.
#[test]
#[parallel]
#[cfg(target_os = "linux")]
fn the_keeper_has_the_connection_open_too_and_the_command_has_not() {
    let sockets = |process: Pid| -> Vec<_> {
        let open = fs::read_dir(format!("/proc/{process}/fd")).unwrap();
        open.flatten()
            .filter_map(|open| fs::read_link(open.path()).ok())
            .filter(|open| open.to_string_lossy().starts_with("socket:"))
            .collect()
    };
    let database = TestDatabase::new().unwrap();
    let mut running = Running::start(database.url(), &[], "sleep 300 & wait");
    let (ours, its) = (sockets(running.pid()), sockets(running.keeper()));
    assert!(its.iter().any(|socket| ours.contains(socket)));
    assert!(sockets(running.command).is_empty());
    kill(running.pid(), Signal::SIGTERM).unwrap();
    running.process.wait().unwrap();
}

#[test]
#[parallel]
fn a_keeper_that_is_killed_ends_nothing() {
    let database = TestDatabase::new().unwrap();
    let go = directory("keeper").join("go");
    let mut running = Running::start(database.url(), &[], &until(&go));
    kill(running.keeper(), Signal::SIGKILL).unwrap();
    fs::write(&go, "").unwrap();
    assert_eq!(running.hear(), "done");
    assert!(running.process.wait().unwrap().success());
    lock(database.url());
}

#[test]
#[parallel]
#[cfg(target_os = "linux")]
fn the_command_does_not_outlive_both_of_them() {
    let database = TestDatabase::new().unwrap();
    let mut running = Running::start(database.url(), &[], "exec sleep 300");
    kill(running.keeper(), Signal::SIGKILL).unwrap();
    kill(running.pid(), Signal::SIGKILL).unwrap();
    running.process.wait().unwrap();
    soon("the command is gone", || !is_alive(running.command));
    running.assert_silent();
    lock(database.url());
}
