//! Where a run is: what has happened, and what may come next.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use super::local::{Foreseen, Local};
use crate::explorer::footprint::{Footprint, Kind, Lock, Shapes, Statement};

/// What a session does next.
#[derive(Debug, Clone)]
pub(crate) struct Next {
    pub(crate) label: String,
    /// None is a step of the test's own, of which nothing is known.
    pub(crate) statement: Option<Statement>,
    /// Other connections of the session have transactions open.
    pub(crate) is_mixed: bool,
    /// The statement without values.
    words: String,
}

/// The values may be other ones each time, such as the time or a random key: what the session does
/// is the same.
impl PartialEq for Next {
    fn eq(&self, other: &Self) -> bool {
        (&self.label, &self.words) == (&other.label, &other.words)
    }
}

impl Hash for Next {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        (&self.label, &self.words).hash(hasher);
    }
}

/// The labels of a session's end before a statement, and between a COMMIT and its answer.
pub(crate) const CRASH: &str = "crash";
pub(crate) const UNANSWERED: &str = "commit_without_answer";
const CRASHES: [&str; 2] = [CRASH, UNANSWERED];

impl Next {
    pub(crate) fn new(label: &str, statement: Option<Statement>) -> Self {
        Self {
            label: label.to_owned(),
            is_mixed: false,
            words: statement
                .as_ref()
                .map_or_else(String::new, Statement::words),
            statement,
        }
    }

    /// How the session can end here, by the labels of that.
    pub(crate) fn crashes(&self) -> Vec<Self> {
        if self.statement.is_none() {
            return Vec::new();
        }
        let commits = self
            .statement
            .as_ref()
            .is_some_and(|known| known.kind() == Kind::Commit);
        let crash = Self::new(CRASH, Some(Statement::default()));
        let unanswered = commits.then(|| Self::new(UNANSWERED, self.statement.clone()));
        [crash].into_iter().chain(unanswered).collect()
    }
}

/// What came of an event.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Effect {
    pub(crate) fails: bool,
    /// It waits for these sessions, or for somebody outside of the server if there are none.
    pub(crate) waits: Option<Vec<usize>>,
    /// It has the lock for which it might have waited.
    pub(crate) holds: bool,
    /// The sessions that it has let go on, and whether what they waited with has failed.
    pub(crate) resumes: Vec<(usize, bool)>,
    /// Nothing went on.
    pub(crate) is_stuck: bool,
    /// A connection was closed after it, with what it had.
    pub(crate) closes: bool,
}

/// An event of a run, and what each session that has gone on does next; none has ended.
#[derive(Debug, Clone)]
pub(crate) struct Taken {
    pub(crate) session: usize,
    pub(crate) next: Arc<Next>,
    pub(crate) effect: Effect,
    pub(crate) after: Vec<(usize, Option<Arc<Next>>)>,
}

/// An event with what it touches, and a number that is the same in all orders in which what it
/// depends on is the same.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) session: usize,
    pub(crate) footprint: Footprint,
    pub(crate) number: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct State {
    locals: Vec<Local>,
    /// The number of the last event by which the session has gone on.
    keys: Vec<u64>,
    /// For whom it waits.
    waiting: Vec<Option<Vec<usize>>>,
    pub(crate) events: Vec<Arc<Event>>,
    is_exhaustive: bool,
    is_lost: bool,
    /// Whether somebody may see who waits.
    is_watched: bool,
    pub(crate) is_stuck: bool,
    pub(crate) has_crashed: bool,
}

/// What an event will be, before its effect is known.
#[derive(Debug, Clone)]
pub(crate) struct Coming {
    session: usize,
    /// It ends the session.
    crashes: bool,
    foreseen: Option<Foreseen>,
    /// What decides its effect.
    pub(crate) number: u64,
}

impl Coming {
    /// Whether it sees what is there now, and not what a snapshot has.
    pub(crate) fn sees_now(&self) -> bool {
        self.foreseen
            .as_ref()
            .is_some_and(|foreseen| !foreseen.footprint.sees.is_empty())
    }

    fn may_wait_for(&self, other: &Local) -> bool {
        let foreseen = self.foreseen.as_ref();
        foreseen.is_none_or(|foreseen| other.may_hold_up(&foreseen.footprint))
    }

    /// The lock for which it may have to wait, where a wait is as good as coming later.
    pub(crate) fn waits_for(&self) -> Option<&Lock> {
        self.foreseen.as_ref()?.waits_for.as_ref()
    }

    /// Whether the session has that lock anyway.
    pub(crate) fn has_lock(&self) -> bool {
        let has = |foreseen: &Foreseen| {
            let waits_for = foreseen.waits_for.as_ref();
            waits_for.is_some_and(|lock| foreseen.has(lock))
        };
        self.foreseen.as_ref().is_some_and(has)
    }
}

impl State {
    pub(crate) fn new(sessions: usize, is_exhaustive: bool, is_watched: bool) -> Self {
        let start = |session| number(&("start", session));
        Self {
            locals: vec![Local::default(); sessions],
            keys: (0..sessions).map(start).collect(),
            waiting: vec![None; sessions],
            events: Vec::new(),
            is_exhaustive,
            is_watched,
            is_lost: false,
            is_stuck: false,
            has_crashed: false,
        }
    }

    pub(crate) fn is_exhaustive(&self) -> bool {
        self.is_exhaustive
    }

    /// Whether what is there may be other than what the statements say.
    pub(crate) fn is_lost(&self) -> bool {
        self.is_lost
    }

    /// What decides what the session does next.
    pub(crate) fn key(&self, session: usize) -> u64 {
        self.keys[session]
    }

    pub(crate) fn is_waiting(&self, session: usize) -> bool {
        self.waiting[session].is_some()
    }

    /// All events, whatever their order.
    pub(crate) fn trace(&self) -> u64 {
        let numbers = self.events.iter().map(|event| event.number);
        numbers.fold(0, u64::wrapping_add)
    }

    pub(crate) fn coming(&self, session: usize, next: &Next, shapes: &Shapes) -> Coming {
        let crashes = CRASHES.contains(&next.label.as_str());
        let known = next.statement.as_ref().filter(|_| !next.is_mixed);
        let foreseen = known.map(|statement| {
            let mut foreseen = match next.label.as_str() {
                CRASH => self.locals[session].crash(),
                UNANSWERED => self.locals[session].commit_and_crash(statement, shapes),
                _ => self.locals[session].foresee(statement, shapes),
            };
            foreseen.footprint.unknown |= self.is_exhaustive || self.is_lost;
            foreseen
        });
        let footprint = match &foreseen {
            Some(foreseen) => foreseen.footprint.clone(),
            None => Footprint::unknown(),
        };
        let past = self.past(session, &footprint);
        let number = number(&("foreseen", session, self.keys[session], next, past));
        Coming {
            session,
            crashes,
            foreseen,
            number,
        }
    }

    /// The events of others on which it depends.
    fn past(&self, session: usize, footprint: &Footprint) -> BTreeSet<u64> {
        let others = self.events.iter().filter(|event| event.session != session);
        let past = others.filter(|event| event.footprint.depends(footprint));
        past.map(|event| event.number).collect()
    }

    /// The event, and the session afterwards.
    fn ended(&self, coming: &Coming, effect: &Effect) -> (Event, Local) {
        let session = coming.session;
        let before = &self.locals[session];
        let (mut footprint, local) = match &coming.foreseen {
            Some(foreseen) if !effect.closes => {
                foreseen.clone().end(before, effect.fails, effect.holds)
            }
            _ => (Footprint::unknown(), Local::lost()),
        };
        footprint.unknown |=
            effect.waits.is_some() || !effect.resumes.is_empty() || effect.is_stuck;
        let past = self.past(session, &footprint);
        let event = Event {
            session,
            number: number(&("event", coming.number, effect, past)),
            footprint,
        };
        (event, local)
    }

    /// What the event touches if it has this effect.
    pub(crate) fn footprint(&self, coming: &Coming, effect: &Effect) -> Footprint {
        self.ended(coming, effect).0.footprint
    }

    pub(crate) fn take(&mut self, coming: &Coming, effect: &Effect) {
        let (event, local) = self.ended(coming, effect);
        let session = coming.session;
        self.locals[session] = local;
        self.keys[session] = event.number;
        self.waiting[session].clone_from(&effect.waits);
        for &(other, has_failed) in &effect.resumes {
            self.waiting[other] = None;
            if has_failed {
                self.locals[other].fail();
            }
            self.keys[other] = number(&("resumed", other, event.number, self.keys[other]));
        }
        self.is_lost |= coming
            .foreseen
            .as_ref()
            .is_some_and(|foreseen| foreseen.is_lost);
        self.is_stuck |= effect.is_stuck;
        self.has_crashed |= coming.crashes;
        self.events.push(Arc::new(event));
    }

    /// The session has gone on by itself.
    pub(crate) fn wake(&mut self, session: usize) {
        self.waiting[session] = None;
    }

    /// Whether the session has done anything.
    pub(crate) fn has_begun(&self, session: usize) -> bool {
        self.events.iter().any(|event| event.session == session)
    }

    /// Which of these sessions, with what they do next, can go on in a way that is not the same as
    /// going on later.
    pub(crate) fn enabled(&self, coming: &[(usize, Coming)]) -> Vec<usize> {
        let mut edges: Vec<(usize, usize)> = Vec::new();
        let (mut enabled, mut later) = (Vec::new(), Vec::new());
        for (session, coming) in coming {
            let wanted = coming.waits_for();
            let holders = wanted.map_or_else(Vec::new, |lock| self.holders(*session, lock));
            let waits = self.is_exhaustive || self.is_lost || self.is_watched;
            match holders.is_empty() || waits {
                true => enabled.push(*session),
                false => later.push(*session),
            }
            let may_wait_for = (self.locals.iter().enumerate())
                .filter(|(other, local)| other != session && coming.may_wait_for(local));
            edges.extend(may_wait_for.map(|(other, _)| (*session, other)));
        }
        for (session, waits) in self.waiting.iter().enumerate() {
            let holders = waits.iter().flatten();
            edges.extend(holders.map(|holder| (session, *holder)));
        }
        let circle = later
            .iter()
            .filter(|session| is_in_circle(**session, &edges));
        enabled.extend(circle.copied());
        if enabled.is_empty() {
            enabled = later;
        }
        enabled.sort_unstable();
        enabled
    }

    fn holders(&self, session: usize, wanted: &Lock) -> Vec<usize> {
        let others = self.locals.iter().enumerate();
        let holds = |local: &Local| local.held().any(|held| held.conflicts(wanted));
        others
            .filter(|(other, local)| *other != session && holds(local))
            .map(|(other, _)| other)
            .collect()
    }
}

fn is_in_circle(session: usize, edges: &[(usize, usize)]) -> bool {
    let mut reached = vec![session];
    let mut at = 0;
    while let Some(&from) = reached.get(at) {
        for &(_, to) in edges.iter().filter(|(of, _)| *of == from) {
            if to == session {
                return true;
            }
            if !reached.contains(&to) {
                reached.push(to);
            }
        }
        at += 1;
    }
    false
}

/// The same for the same, in every run.
fn number(of: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}
