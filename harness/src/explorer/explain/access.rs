//! What the statements of committed transactions have read and written.

use crate::explorer::footprint::{Kind, Shapes, Thing, Touch};
use crate::explorer::model::{CRASH, Next, Taken};
use crate::explorer::program::full_name;
use crate::explorer::ran::Record;
use crate::sessions::IsolationLevel;

/// What a statement of a committed transaction read or wrote.
#[derive(Debug)]
pub(super) struct Access {
    pub(super) session: usize,
    pub(super) step: String,
    pub(super) thing: Thing,
    pub(super) writes: bool,
    /// Its row is new.
    pub(super) inserts: bool,
    /// The statement writes nothing: what it reads is what the session gets to see, and not what a
    /// foreign key asks for.
    pub(super) is_shown: bool,
    /// When it saw what it read.
    pub(super) seen: usize,
    /// When it had ended.
    pub(super) at: usize,
    pub(super) committed: usize,
}

/// A session on its way.
#[derive(Debug, Default)]
struct Session {
    transaction: Option<Transaction>,
    /// What its transaction has read and written.
    pending: Vec<Access>,
}

#[derive(Debug)]
struct Transaction {
    keeps_snapshot: bool,
    /// When it saw for the first time.
    snapshot: Option<usize>,
}

impl Session {
    fn begin(&mut self, level: IsolationLevel) {
        self.transaction = Some(Transaction {
            keeps_snapshot: level != IsolationLevel::ReadCommitted,
            snapshot: None,
        });
    }

    fn end(&mut self) -> Vec<Access> {
        self.transaction = None;
        std::mem::take(&mut self.pending)
    }

    /// When a statement that began and ended then saw what it read.
    fn saw(&mut self, at: usize, end: usize) -> usize {
        match &mut self.transaction {
            Some(open) if open.keeps_snapshot => *open.snapshot.get_or_insert(at),
            _ => end,
        }
    }
}

pub(super) fn accesses(record: &Record, shapes: &Shapes, names: &[&str]) -> Vec<Access> {
    let mut sessions: Vec<Session> = Vec::new();
    sessions.resize_with(record.start.len(), Session::default);
    let mut done = Vec::new();
    for (at, taken) in record.taken.iter().enumerate() {
        let Some(statement) = &taken.next.statement else {
            continue;
        };
        let session = &mut sessions[taken.session];
        if taken.next.label == CRASH {
            session.end();
        }
        let (end, fails) = end(record, at, taken);
        for part in statement.split() {
            match part.kind() {
                Kind::Begin(level) => session.begin(level.unwrap_or(shapes.default_level())),
                Kind::Commit | Kind::Rollback => {
                    let own = session.end();
                    if part.kind() == Kind::Commit && !fails {
                        done.extend(own.into_iter().map(|access| Access {
                            committed: end,
                            ..access
                        }));
                    }
                }
                Kind::Query if !fails => {
                    let Some(touch) = shapes.touch(&part) else {
                        continue;
                    };
                    let seen = session.saw(at, end);
                    let access = |thing: &Thing, writes| Access {
                        session: taken.session,
                        step: full_name(names[taken.session], &taken.next.label),
                        thing: thing.clone(),
                        writes,
                        inserts: inserts(&taken.next, &part.sql),
                        is_shown: touch.writes.is_empty(),
                        seen,
                        at: end,
                        committed: end,
                    };
                    let own = of_touch(&touch, access);
                    match session.transaction {
                        Some(_) => session.pending.extend(own),
                        None => done.extend(own),
                    }
                }
                _ => {}
            }
        }
    }
    done
}

/// When a statement had ended, and whether it had failed. One that waits has ended when it was let
/// go on.
fn end(record: &Record, at: usize, taken: &Taken) -> (usize, bool) {
    if taken.effect.waits.is_none() {
        return (at, taken.effect.fails);
    }
    let resumed = |(end, later): (usize, &Taken)| {
        let mut resumed = later.effect.resumes.iter();
        let (_, fails) = resumed.find(|(session, _)| *session == taken.session)?;
        Some((end, *fails))
    };
    // By itself, where the wait has ended so.
    let mut later = record.taken.iter().enumerate().skip(at);
    later.find_map(resumed).unwrap_or((usize::MAX, true))
}

/// An upsert may write over what is there.
fn inserts(next: &Next, sql: &str) -> bool {
    next.label.starts_with("insert") && !sql.to_lowercase().contains(" do update ")
}

fn of_touch(touch: &Touch, access: impl Fn(&Thing, bool) -> Access) -> Vec<Access> {
    // What it writes itself it has seen as it was then.
    let read = (touch.reads.iter()).filter(|thing| !touch.writes.contains(thing));
    let read = read.map(|thing| access(thing, false));
    let written = touch.writes.iter().map(|thing| access(thing, true));
    read.chain(written).collect()
}
