//! Why sessions have waited for each other in a circle.

use std::collections::BTreeSet;

use super::explain::plain;
use super::footprint::{Kind, Lock, Shapes, Statement};
use super::program::full_name;
use super::ran::Record;
use super::report::RunStep;

/// What each of the sessions in the circle has waited for, one a line, when `victim` was ended for
/// it.
pub(super) fn circle(
    record: &Record,
    steps: &[RunStep],
    shapes: &Shapes,
    names: &[&str],
    victim: usize,
) -> Vec<String> {
    let stand = stand(record, names.len(), victim);
    let step = |at: usize| {
        let taken = &record.taken[at];
        full_name(names[taken.session], &taken.next.label)
    };
    let mut lines = Vec::new();
    for &(session, at) in &stand {
        for &(holder, until) in stand.iter().filter(|(holder, _)| *holder != session) {
            let wanted = locks(record, shapes, at);
            let held = held(record, holder, until).rev().find_map(|held| {
                let tables = shared(&wanted, &locks(record, shapes, held));
                (!tables.is_empty()).then_some((held, tables))
            });
            if let Some((held, tables)) = held {
                // The server tells of one that has waited a while.
                let seen = steps.get(at).and_then(|step| step.wanted.as_deref());
                let seen = seen.and_then(|lock| Some(lock.rsplit_once("a row of ")?.1));
                let tables: Vec<&str> = match seen.filter(|table| tables.contains(*table)) {
                    Some(table) => vec![table],
                    None => tables.iter().map(String::as_str).collect(),
                };
                lines.push(format!(
                    "{} waits for {}, which has locked what it wants of {} with {}",
                    step(at),
                    names[holder],
                    tables.join(" or "),
                    step(held)
                ));
            }
        }
    }
    lines
}

/// The sessions that stood in a circle when `victim` was ended for it, and at what.
fn stand(record: &Record, sessions: usize, victim: usize) -> Vec<(usize, usize)> {
    let mut waiting: Vec<Option<usize>> = vec![None; sessions];
    let mut last = None;
    let mut found = Vec::new();
    for (at, taken) in record.taken.iter().enumerate() {
        if taken.session == victim {
            last = Some(at);
        }
        if taken.effect.waits.is_some() {
            waiting[taken.session] = Some(at);
        }
        let is_over = (taken.session == victim && taken.effect.fails)
            || taken.effect.resumes.contains(&(victim, true));
        if let (true, Some(last)) = (is_over, last) {
            waiting[victim] = Some(last);
            // One that was let go on by this has waited until now.
            found = waiting.clone();
        }
        for (resumed, _) in &taken.effect.resumes {
            waiting[*resumed] = None;
        }
        if is_over {
            waiting[victim] = None;
        }
    }
    let stand = found.into_iter().enumerate();
    stand
        .filter_map(|(session, at)| Some((session, at?)))
        .collect()
}

/// What a session has done in the transaction in which it waits.
fn held(
    record: &Record,
    session: usize,
    until: usize,
) -> impl DoubleEndedIterator<Item = usize> + '_ {
    let kind = move |at: usize| {
        let taken = &record.taken[at];
        let statement = taken.next.statement.as_ref();
        let own = statement.filter(|_| taken.session == session);
        own.map(Statement::kind)
    };
    let ends = |at: &usize| matches!(kind(*at), Some(Kind::Commit | Kind::Rollback));
    let from = (0..until).rev().find(ends).unwrap_or(0);
    (from..until).filter(move |&at| kind(at) == Some(Kind::Query))
}

fn locks(record: &Record, shapes: &Shapes, at: usize) -> Vec<Lock> {
    let statement = record.taken[at].next.statement.as_ref();
    let touch = statement.and_then(|statement| shapes.touch(statement));
    touch.map_or_else(Vec::new, |touch| touch.locks)
}

/// The tables in which one lock is in another's way.
fn shared(wanted: &[Lock], held: &[Lock]) -> BTreeSet<String> {
    let conflicts = |lock: &&Lock| held.iter().any(|held| held.conflicts(lock));
    let shared = wanted.iter().filter(conflicts);
    shared.map(|lock| plain(&lock.thing.of)).collect()
}
