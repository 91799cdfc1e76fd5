//! A standby takes over while a command runs under a lock.

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Stdio};

use serial_test::parallel;

use crate::standby::Pair;
use crate::support::diesel_locks;

struct Running {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

/// A command that says when it runs, and when it is told to end.
fn run(pair: &Pair, script: &str) -> Running {
    let script = format!("trap 'echo told; exit 0' TERM; echo runs; {script}");
    let mut process = diesel_locks()
        .args(["run", "lock", "--nowait", "--watch", "1s"])
        .args(["--database-url", &pair.url(), "--", "sh", "-c", &script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let mut running = Running { process, lines };
    assert_eq!(running.hear(), "runs");
    running
}

impl Running {
    fn hear(&mut self) -> String {
        self.lines.next().unwrap().unwrap()
    }
}

#[test]
#[parallel]
fn a_command_whose_primary_is_dead_is_ended_and_the_next_one_runs_at_the_new_primary() {
    let pair = Pair::start();
    let mut first = run(&pair, "while :; do sleep 0.01; done");
    pair.fail_over();
    let mut next = run(&pair, "exit 3");
    assert_eq!(next.process.wait().unwrap().code(), Some(3));
    assert_eq!(first.hear(), "told");
    assert_eq!(first.process.wait().unwrap().code(), Some(76));
}

#[test]
#[parallel]
fn a_command_whose_primary_lives_on_runs_on_beside_one_of_the_new_primary() {
    let pair = Pair::start();
    let mut first = run(&pair, "read -r line; echo $line; exit 4");
    pair.standby.promote();
    let status = diesel_locks()
        .args([
            "run",
            "lock",
            "--nowait",
            "--database-url",
            &pair.standby.url,
        ])
        .args(["--", "true"])
        .status()
        .unwrap();
    assert!(status.success());
    std::io::Write::write_all(&mut first.process.stdin.take().unwrap(), b"on\n").unwrap();
    assert_eq!(first.hear(), "on");
    assert_eq!(first.process.wait().unwrap().code(), Some(4));
}
