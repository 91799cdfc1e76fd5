//! Actors and the hand for a while, and the judge's word on it.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use diesel_locks_harness::TempPostgres;

use super::actor::Actor;
use super::hand::Hand;
use super::judge::{self, Section, Tally};
use super::process::Process;
use super::stage::{Record, Stage};
use crate::support::chance::Chance;
use crate::support::proxy::Proxy;

const ACTORS: usize = 6;
const PROCESSES: usize = 2;

/// How long it may take until everybody has ended: nobody waits longer for a lock than 30 s.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a round has brought to light.
#[derive(Default)]
struct Collected {
    sections: Vec<Section>,
    findings: Vec<String>,
    operations: Vec<String>,
    idle: usize,
}

/// Returns what must not be.
pub(crate) fn run(
    server: &TempPostgres,
    proxy: &Proxy,
    seed: u64,
    length: Duration,
    tally: &mut Tally,
) -> Vec<String> {
    let (begun, (records, collected)) = (Instant::now(), mpsc::channel());
    let stage = Arc::new(Stage::new([server.url().to_owned(), proxy.url()], records));
    let mut actors = Vec::new();
    for n in 0..ACTORS {
        let actor = Actor::new(format!("actor {n}"), seed, Arc::clone(&stage));
        actors.push((actor.operations(), thread::spawn(|| actor.act())));
    }
    let mut started = 0;
    let mut start = || {
        started += 1;
        Process::start(&format!("process {started}"), seed, &stage)
    };
    let mut processes: Vec<_> = (0..PROCESSES).map(|_| start()).collect();

    let mut hand = Hand::new(&stage, proxy, Chance::new(seed, "hand"));
    while begun.elapsed() < length && !stage.is_over() {
        hand.act(|whom| processes[whom as usize % PROCESSES] = start());
    }
    drop(hand);
    stage.end();
    processes.iter_mut().for_each(Process::end_actors);

    let mut all = Collected::default();
    let ending = Instant::now();
    while all.idle < PROCESSES || actors.iter().any(|(_, actor)| !actor.is_finished()) {
        collect(&collected, &mut all, tally);
        if ending.elapsed() > PATIENCE {
            all.findings.push("somebody waits for ever".to_owned());
            // Those who have ended have told already.
            for (operations, actor) in actors.iter().filter(|(_, actor)| !actor.is_finished()) {
                all.operations.push(format!("{operations:#?} {actor:?}"));
            }
            break;
        }
        thread::sleep(Duration::from_millis(5));
    }
    collect(&collected, &mut all, tally);
    all.findings.extend(judge::overlaps(&all.sections));
    if all.findings.is_empty() {
        // All pools are idle, and still there.
        all.findings.extend(judge::locks_left(server.url()));
    }
    if !all.findings.is_empty() {
        all.findings.push(format!(
            "what they did last:\n{}",
            all.operations.join("\n")
        ));
    }
    all.findings
}

fn collect(records: &Receiver<Record>, all: &mut Collected, tally: &mut Tally) {
    for record in records.try_iter() {
        let mut count = |what: &str| *tally.entry(what.to_owned()).or_default() += 1;
        match record {
            Record::Section(section) => {
                count("section");
                all.sections.push(section);
            }
            Record::Count(what) => count(&what),
            Record::Finding(finding) => all.findings.push(finding),
            Record::Operations(operations) => all.operations.push(operations),
            Record::Idle => all.idle += 1,
        }
    }
}
