//! A second process with actors: this test again.

use std::env;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;

use super::actor::Actor;
use super::judge::Section;
use super::stage::{Record, Stage};

/// The test that is the second process too.
const TEST: &str = "faults_give_no_second_holder_and_leave_no_lock";

/// What the first process gives to the second one.
const GIVEN: &str = "DIESEL_LOCKS_FAULTS_GIVEN";

/// A second process, as the first one sees it.
pub(crate) struct Process {
    child: Child,
    /// Open as long as it is wanted.
    stdin: Option<ChildStdin>,
}

impl Process {
    pub(crate) fn start(name: &str, seed: u64, stage: &Arc<Stage>) -> Self {
        let [direct, proxied] = stage.urls();
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", TEST, "--nocapture", "--test-threads=1"])
            .env(GIVEN, [name, &seed.to_string(), direct, proxied].join("\t"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        let stage = Arc::clone(stage);
        thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                if let Some(record) = parse(&line) {
                    stage.record(record);
                }
            }
        });
        let stdin = child.stdin.take();
        Self { child, stdin }
    }

    /// Has its actors end. It says when they have, and stays with its pools.
    pub(crate) fn end_actors(&mut self) {
        // One that was killed needs no telling.
        let _ = self.stdin.as_mut().unwrap().write_all(b"end\n");
    }
}

/// At once, as at its kill.
impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Plays the second process, if this is one.
pub(crate) fn is_second() -> bool {
    let Ok(given) = env::var(GIVEN) else {
        return false;
    };
    let given: Vec<_> = given.split('\t').collect();
    let [name, seed, direct, proxied] = given[..] else {
        panic!("{given:?}");
    };
    let (records, collected) = mpsc::channel();
    let stage = Arc::new(Stage::new([direct.into(), proxied.into()], records));
    thread::spawn(move || {
        for record in collected {
            say(&record);
        }
    });
    let actors: Vec<_> = (0..3)
        .map(|n| {
            Actor::new(
                format!("{name}.{n}"),
                seed.parse().unwrap(),
                Arc::clone(&stage),
            )
        })
        .map(|actor| thread::spawn(|| actor.act()))
        .collect();
    let mut line = String::new();
    io::stdin().read_line(&mut line).unwrap();
    stage.end();
    for actor in actors {
        actor.join().unwrap();
    }
    stage.record(Record::Idle);
    // Until the first process has looked for locks.
    io::stdin().read_line(&mut line).unwrap();
    true
}

/// Tells the first process, in one line.
fn say(record: &Record) {
    let (kind, text) = match record {
        Record::Section(section) => ("section", section.to_string()),
        Record::Count(what) => ("count", what.clone()),
        Record::Finding(finding) => ("finding", finding.replace('\n', "\r")),
        Record::Operations(operations) => ("operations", operations.replace('\n', "\r")),
        Record::Idle => ("idle", String::new()),
    };
    println!("second process: {kind}: {text}");
}

fn parse(line: &str) -> Option<Record> {
    // The test's harness begins the first line.
    let (_, said) = line.split_once("second process: ")?;
    let (kind, text) = said.split_once(": ")?;
    match kind {
        "section" => Section::parse(text).map(Record::Section),
        "count" => Some(Record::Count(text.to_owned())),
        "finding" => Some(Record::Finding(text.replace('\r', "\n"))),
        "operations" => Some(Record::Operations(text.replace('\r', "\n"))),
        "idle" => Some(Record::Idle),
        _ => None,
    }
}
