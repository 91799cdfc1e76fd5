//! Tests that play both parts: they start themselves again, with the URL or the directory that the
//! second process needs in `SECOND_PROCESS`.

use std::env;
use std::error::Error;
use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;

use diesel_locks_harness::ServerError;

/// What the second process says first: a name that no test has would be no failure.
const BEGUN: &str = "begun";

/// What the first process gave to this one, if this is the second.
pub(crate) fn second_process() -> Option<String> {
    let given = env::var("SECOND_PROCESS").ok()?;
    say(BEGUN);
    Some(given)
}

/// The name of the test in which this stands, with its modules, as the test's harness wants it.
macro_rules! this_test {
    () => {{
        fn here() {}
        $crate::support::second_process::test_around(here)
    }};
}
pub(crate) use this_test;

/// See `this_test`.
pub(crate) fn test_around<F>(_: F) -> String {
    // The program, modules, the test, closures that macros made of its body, and the function.
    let path = std::any::type_name::<F>().split("::").skip(1);
    let mut parts: Vec<_> = path.filter(|part| !part.starts_with('{')).collect();
    parts.pop();
    parts.join("::")
}

/// This test again, as another process.
pub(crate) struct SecondProcess {
    running: Running,
    words: Words,
}

impl SecondProcess {
    pub(crate) fn start(test: &str, given: &str, environment: &[(&str, &Path)]) -> Self {
        let program = Command::new(env::current_exe().unwrap());
        Self::run(program, test, given, environment)
    }

    /// The same, by a command to which the test's name is added.
    pub(crate) fn run<P: AsRef<OsStr>>(
        mut program: Command,
        test: &str,
        given: &str,
        environment: &[(&str, P)],
    ) -> Self {
        let mut child = program
            .args(["--exact", test, "--nocapture", "--test-threads=1"])
            .env("SECOND_PROCESS", given)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let words = Words(BufReader::new(child.stdout.take().unwrap()));
        let running = Running(child);
        let mut process = Self { running, words };
        assert_eq!(process.hear(), BEGUN);
        process
    }

    /// The next word that it says.
    pub(crate) fn hear(&mut self) -> String {
        self.words.next().expect("the second process has ended")
    }

    /// The process, and what it says, for a thread of its own.
    pub(crate) fn split(self) -> (Running, Words) {
        (self.running, self.words)
    }

    pub(crate) fn kill(self) {
        drop(self);
    }

    /// Waits for its end.
    pub(crate) fn succeeds(mut self) {
        // What it prints at its end has to go somewhere.
        let mut rest = String::new();
        self.words.0.read_to_string(&mut rest).unwrap();
        assert!(self.running.0.wait().unwrap().success(), "{rest}");
    }
}

/// A process that ends with its value.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    /// Writes a line on its standard input, unless it has ended.
    pub(crate) fn tell(&mut self, line: &str) -> io::Result<()> {
        writeln!(self.0.stdin.as_mut().unwrap(), "{line}")
    }
}

impl Drop for Running {
    /// Also when the test has failed: whoever waits for its output would wait for ever.
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a second process says, until it ends.
pub(crate) struct Words(BufReader<ChildStdout>);

impl Iterator for Words {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            // The test's harness begins the first line.
            if let Some((_, word)) = line.split_once("second process: ") {
                return Some(word.strip_suffix('\n').unwrap_or(word).to_owned());
            }
        }
    }
}

/// Tells the first process.
pub(crate) fn say(word: &str) {
    println!("second process: {word}");
}

/// Holds still until the first process ends this one.
pub(crate) fn hold_still() -> ! {
    loop {
        thread::park();
    }
}

/// The whole story of the error that a start ends with in a process with that environment.
pub(crate) fn start_fails(test: &str, environment: &[(&str, &Path)]) -> String {
    let mut child = SecondProcess::start(test, "", environment);
    let mut story = String::new();
    loop {
        match child.hear().as_str() {
            "the end" => break,
            line => story += &format!("{line}\n"),
        }
    }
    child.succeeds();
    story
}

pub(crate) fn tell_story(error: &ServerError) {
    say(match error {
        ServerError::NoServerBinaries { .. } => "NoServerBinaries",
        ServerError::PermissionDenied { .. } => "PermissionDenied",
        ServerError::ServerFailed { .. } => "ServerFailed",
        _ => "another error",
    });
    // Which is what a test shows that returns it.
    assert!(format!("{error:?}").starts_with(&error.to_string()));
    let mut cause: Option<&dyn Error> = Some(error);
    while let Some(error) = cause {
        error.to_string().lines().for_each(say);
        cause = error.source();
    }
    say("the end");
}
