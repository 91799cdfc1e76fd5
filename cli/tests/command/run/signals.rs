//! Signals are for the command.

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};

use diesel_locks_harness::TestDatabase;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serial_test::parallel;

use crate::support::{diesel_locks, soon};

struct Running {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, lines }
    }

    fn hear(&mut self) -> String {
        self.lines.next().unwrap().unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.process.id() as i32), signal).unwrap();
    }
}

fn run(database: &TestDatabase, script: &str) -> Command {
    let mut command = diesel_locks();
    command.args(["run", "lock", "--database-url", database.url(), "--"]);
    command.args(["sh", "-c", script]);
    command
}

/// A script that says which signal it gets, and ends at its end.
const SAYS: &str = "for signal in HUP INT QUIT TERM USR1 USR2; do trap \"echo $signal\" $signal; done; \
                    trap 'exit 9' WINCH; echo ready; while :; do sleep 0.01; done";

#[test]
#[parallel]
fn each_signal_goes_to_the_command_which_ends_as_it_likes() {
    let database = TestDatabase::new().unwrap();
    let mut running = Running::start(run(&database, SAYS));
    assert_eq!(running.hear(), "ready");
    for signal in ["HUP", "INT", "QUIT", "TERM", "USR1", "USR2"] {
        running.signal(format!("SIG{signal}").parse().unwrap());
        assert_eq!(running.hear(), signal);
    }
    running.signal(Signal::SIGWINCH);
    assert_eq!(running.process.wait().unwrap().code(), Some(9));
}

#[test]
#[parallel]
fn a_signal_that_the_command_does_not_heed_ends_it_and_the_status_says_so() {
    let database = TestDatabase::new().unwrap();
    let mut running = Running::start(run(&database, "echo ready; sleep 300 & wait"));
    assert_eq!(running.hear(), "ready");
    running.signal(Signal::SIGTERM);
    assert_eq!(running.process.wait().unwrap().code(), Some(143));
    // Its child got the signal as well: else it would have the output open still.
    assert!(running.lines.next().is_none());
}

#[test]
#[parallel]
fn under_nohup_the_command_does_not_get_what_it_would_ignore() {
    let database = TestDatabase::new().unwrap();
    let inner = run(&database, "echo ready; read line; echo $line");
    let mut command = Command::new("sh");
    command
        .args(["-c", "trap '' HUP; exec \"$@\"", "sh"])
        .arg(inner.get_program())
        .args(inner.get_args())
        .stdin(Stdio::piped());
    let mut running = Running::start(command);
    assert_eq!(running.hear(), "ready");
    running.signal(Signal::SIGHUP);
    let mut input = running.process.stdin.take().unwrap();
    std::io::Write::write_all(&mut input, b"still there\n").unwrap();
    assert_eq!(running.hear(), "still there");
    assert!(running.process.wait().unwrap().success());
}

#[test]
#[parallel]
fn a_stop_stops_both_and_going_on_is_for_both() {
    let database = TestDatabase::new().unwrap();
    let mut command = run(&database, "echo $$; read line");
    command.stdin(Stdio::piped());
    let mut running = Running::start(command);
    let command: i32 = running.hear().parse().unwrap();
    let ours = running.process.id() as i32;
    running.signal(Signal::SIGTSTP);
    soon("both are stopped", || {
        [ours, command].into_iter().all(|pid| state(pid) == 'T')
    });
    running.signal(Signal::SIGCONT);
    soon("both go on", || {
        [ours, command].into_iter().all(|pid| state(pid) != 'T')
    });
    running.signal(Signal::SIGTERM);
    running.process.wait().unwrap();
}

/// The state of a process, as ps(1) has it.
fn state(pid: i32) -> char {
    let output = Command::new("ps")
        .args(["-o", "state=", "-p", &pid.to_string()])
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout)
        .chars()
        .next()
        .unwrap_or('-')
}
