//! Whether a run has ended as some serial order does.

use std::collections::HashMap;
use std::sync::Mutex;

use diesel::connection::LoadConnection;
use diesel::pg::Pg;

use super::differences::differences;
use super::ends::{Content, Ending};
use super::error::ExplorerError;
use super::explain::explain;
use super::model::Knowledge;
use super::problem::Problem;
use super::program::Program;
use super::ran::{Ran, lock};
use super::runner::Runner;
use super::schedule::Schedule;

/// The ends of serial orders.
#[derive(Default)]
pub(super) struct Serial {
    /// Of these sessions.
    ends: Mutex<HashMap<Vec<usize>, Vec<Ending>>>,
}

impl Serial {
    /// Takes note of a serial order.
    pub(super) fn add(&self, ran: &Ran) {
        let mut sessions = ran.run.only.clone().unwrap_or_default();
        sessions.sort_unstable();
        let mut ends = lock(&self.ends);
        let known = ends.entry(sessions).or_default();
        if !known.contains(&ran.ending) {
            known.push(ran.ending.clone());
        }
    }

    /// Adds what is wrong with a run, unless something else is wrong with it already.
    pub(super) fn judge<'r, 's, C>(
        &self,
        program: &Program<'r, C>,
        runner: &mut Runner<'r, 's, '_, C>,
        knowledge: &Mutex<Knowledge>,
        ran: &mut Ran,
    ) -> Result<(), ExplorerError>
    where
        C: LoadConnection<Backend = Pg> + Send + 'static,
        'r: 's,
    {
        if !ran.run.problems().is_empty() {
            return Ok(());
        }
        let sessions: Vec<usize> = (0..program.sessions.len())
            .filter(|session| !ran.excused.contains(session))
            .collect();
        // One that was ended may have done all or nothing, and nobody knows what it returned.
        let answered = |session: &usize| Some(*session) != ran.crashed;
        let answered: Vec<usize> = sessions.iter().copied().filter(answered).collect();
        let own = ran.ending.text();
        let mut others: Vec<Ending> = Vec::new();
        // One that has run again has done all, unless it has failed as it may: the first time may
        // have done it.
        let crashed = ran.crashed.filter(|_| program.retries);
        let has_done = |session: &usize| sessions.contains(session) || Some(*session) == crashed;
        let done: Vec<usize> = (0..program.sessions.len()).filter(has_done).collect();
        let may_have_done_nothing = crashed.is_none_or(|crashed| !sessions.contains(&crashed));
        let took_parts = [Some(&done), may_have_done_nothing.then_some(&answered)];
        for took_part in took_parts.into_iter().flatten() {
            if !lock(&self.ends).contains_key(took_part) {
                for order in permutations(took_part) {
                    let serial = runner.run(Schedule::serial(order))?;
                    self.add(&serial);
                }
            }
            let ends = lock(&self.ends);
            let ends = ends.get(took_part).map_or(&[][..], Vec::as_slice);
            let texts: Vec<String> = ends.iter().map(Ending::text).collect();
            let is_in = |value: &str, but: Option<usize>| {
                let mut others = texts.iter().enumerate();
                others.any(|(at, text)| Some(at) != but && text.contains(value))
            };
            let end = ran.ending.compared(&answered, |value| is_in(value, None));
            for (at, serial) in ends.iter().enumerate() {
                let is_known = |value: &str| own.contains(value) || is_in(value, Some(at));
                if serial.compared(&answered, is_known) == end {
                    return Ok(());
                }
            }
            let new = ends.iter().filter(|end| !others.contains(end));
            let new: Vec<Ending> = new.cloned().collect();
            others.extend(new);
        }
        let names: Vec<&str> = (program.sessions.iter())
            .map(|session| session.name.as_str())
            .collect();
        let (mut anomaly, cycle) = explain(&ran.record, &lock(knowledge).shapes, &names);
        if crashed.is_some() && cycle.is_empty() {
            anomaly = Some("not idempotent");
        }
        ran.run.problems.push(Problem::NotSerializable {
            anomaly,
            cycle,
            ends: differences(&compared(&ran.ending, &others, &answered)),
        });
        Ok(())
    }
}

/// What is compared of an end, and of the ends of serial orders, each different one once.
fn compared(own: &Ending, serial: &[Ending], answered: &[usize]) -> Vec<Vec<Content>> {
    let all = || [own].into_iter().chain(serial);
    let texts: Vec<String> = all().map(Ending::text).collect();
    // What one end alone has tells nothing.
    let is_known = |value: &str| {
        let having = texts.iter().filter(|text| text.contains(value));
        having.take(2).count() == 2
    };
    let mut ends = vec![own.compared(answered, is_known)];
    for serial in serial {
        let end = serial.compared(answered, is_known);
        if !ends[1..].contains(&end) {
            ends.push(end);
        }
    }
    ends
}

/// All orders of some sessions.
pub(super) fn permutations(sessions: &[usize]) -> Vec<Vec<usize>> {
    if sessions.is_empty() {
        return vec![Vec::new()];
    }
    let first = |&first: &usize| {
        let rest: Vec<usize> = sessions
            .iter()
            .copied()
            .filter(|&other| other != first)
            .collect();
        permutations(&rest).into_iter().map(move |rest| {
            let order = [first].into_iter().chain(rest);
            order.collect()
        })
    };
    sessions.iter().flat_map(first).collect()
}
