//! A second process with actors: this test again.

use std::io;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;

use super::actor::Actor;
use super::judge::Section;
use super::stage::{Record, Stage};
use crate::support::second_process::{Running, SecondProcess, say, second_process};

/// The test that is the second process too.
const TEST: &str = "faults_give_no_second_holder_and_leave_no_lock";

/// A second process, as the first one sees it.
pub(crate) struct Process(Running);

impl Process {
    pub(crate) fn start(name: &str, seed: u64, stage: &Arc<Stage>) -> Self {
        let [direct, proxied] = stage.urls();
        let given = [name, &seed.to_string(), direct, proxied].join("\t");
        let (running, words) = SecondProcess::start(TEST, &given, &[]).split();
        let stage = Arc::clone(stage);
        thread::spawn(move || {
            for record in words.filter_map(|word| parse(&word)) {
                stage.record(record);
            }
        });
        Self(running)
    }

    /// Has its actors end. It says when they have, and stays with its pools.
    pub(crate) fn end_actors(&mut self) {
        // One that was killed needs no telling.
        let _ = self.0.tell("end");
    }
}

/// Plays the second process, if this is one.
pub(crate) fn is_second() -> bool {
    let Some(given) = second_process() else {
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
            say(&word(&record));
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

/// What tells the first process, in one line.
fn word(record: &Record) -> String {
    let (kind, text) = match record {
        Record::Section(section) => ("section", section.to_string()),
        Record::Count(what) => ("count", what.clone()),
        Record::Finding(finding) => ("finding", finding.replace('\n', "\r")),
        Record::Operations(operations) => ("operations", operations.replace('\n', "\r")),
        Record::Idle => ("idle", String::new()),
    };
    format!("{kind}: {text}")
}

fn parse(word: &str) -> Option<Record> {
    let (kind, text) = word.split_once(": ")?;
    match kind {
        "section" => Section::parse(text).map(Record::Section),
        "count" => Some(Record::Count(text.to_owned())),
        "finding" => Some(Record::Finding(text.replace('\r', "\n"))),
        "operations" => Some(Record::Operations(text.replace('\r', "\n"))),
        "idle" => Some(Record::Idle),
        _ => None,
    }
}
