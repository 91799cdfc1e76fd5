//! What must never happen, by the server's own evidence.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use diesel::prelude::*;
use diesel::result::Error;
use diesel::sql_types::{BigInt, Integer, Text};
use diesel_locks::LockError;

use super::turn::Limit;

/// A reading of the server's clock, a sequence, through the connection that holds a lock.
///
/// A crash of the server may set the sequence back, but nothing lives through a crash: each has an
/// era of its own.
pub(crate) const READ_CLOCK: &str = "SELECT (SELECT (extract(epoch FROM backend_start) \
     * 1000000)::bigint FROM pg_stat_activity WHERE backend_type = 'checkpointer') AS era, \
     pg_backend_pid() AS pid, nextval('clock') AS clock";

#[derive(Debug, Clone, Copy, PartialEq, QueryableByName)]
pub(crate) struct Reading {
    #[diesel(sql_type = BigInt)]
    pub(crate) era: i64,
    #[diesel(sql_type = Integer)]
    pub(crate) pid: i32,
    #[diesel(sql_type = BigInt)]
    pub(crate) clock: i64,
}

/// A time in which an actor held locks, by the server's word.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Section {
    pub(crate) actor: String,
    pub(crate) entered: Reading,
    /// `None` if the session ended, or the transaction failed, before.
    pub(crate) left: Option<i64>,
    /// What was held, and whether for itself alone.
    pub(crate) held: Vec<(String, bool)>,
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Reading { era, pid, clock } = self.entered;
        let left = self.left.unwrap_or(-1);
        write!(f, "{}\t{era}\t{pid}\t{clock}\t{left}", self.actor)?;
        for (what, alone) in &self.held {
            write!(f, "\t{}{what}", if *alone { '!' } else { ' ' })?;
        }
        Ok(())
    }
}

impl Section {
    /// What `Display` has written; `None` if a killed process has written half of it.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('\t');
        let mut part = || parts.next();
        let actor = part()?.to_owned();
        let entered = Reading {
            era: part()?.parse().ok()?,
            pid: part()?.parse().ok()?,
            clock: part()?.parse().ok()?,
        };
        let left: i64 = part()?.parse().ok()?;
        let held = |part: &str| Some((part.get(1..)?.to_owned(), part.starts_with('!')));
        Some(Self {
            actor,
            entered,
            left: (left > 0).then_some(left),
            held: parts.map(held).collect::<Option<_>>()?,
        })
    }
}

/// The entries of one session within a section of another one that had to be alone.
pub(crate) fn overlaps(sections: &[Section]) -> Vec<String> {
    let mut by_lock: HashMap<_, Vec<(&Section, bool)>> = HashMap::new();
    for section in sections {
        for (what, alone) in &section.held {
            let of_lock = by_lock.entry((section.entered.era, what)).or_default();
            of_lock.push((section, *alone));
        }
    }
    let mut found = Vec::new();
    for ((_, what), mut of_lock) in by_lock {
        of_lock.sort_by_key(|(section, _)| section.entered.clock);
        for (n, (section, alone)) in of_lock.iter().enumerate() {
            let Some(left) = section.left else { continue };
            let later = of_lock[n + 1..].iter();
            found.extend(
                later
                    .take_while(|(other, _)| other.entered.clock < left)
                    .filter(|(other, too)| {
                        (*alone || *too) && other.entered.pid != section.entered.pid
                    })
                    .map(|(other, _)| format!("{what} was held twice:\n  {section}\n  {other}")),
            );
        }
    }
    found
}

/// Whether an error is what the faults and the other actors may lead to.
pub(crate) fn is_expected(error: &LockError, limit: Option<Limit>) -> bool {
    match error {
        LockError::NotAvailable { .. }
        | LockError::Timeout { .. }
        | LockError::Deadlock { .. }
        | LockError::Canceled { .. }
        | LockError::TransactionAborted { .. }
        | LockError::ConnectionLost { .. }
        | LockError::Connection(_)
        | LockError::Pool(_) => true,
        LockError::StatementTimeout { .. } => matches!(limit, Some(Limit::Statement(_))),
        LockError::Database(Error::RollbackTransaction) => true,
        LockError::Database(Error::DatabaseError(_, information)) => {
            // An actor aborts its transaction, and the hand fills the table of locks.
            ["division by zero", "out of shared memory"].contains(&information.message())
        }
        _ => false,
    }
}

/// The kind of an error, and what Diesel's says, without what differs each time.
pub(crate) fn kind(error: &LockError) -> String {
    let debug = format!("{error:?}");
    let kind: String = debug.chars().take_while(|c| c.is_alphanumeric()).collect();
    let mut source = std::error::Error::source(error);
    let mut words = String::new();
    while let Some(cause) = source {
        words = cause.to_string();
        source = cause.source();
    }
    let words = words.lines().next().unwrap_or_default();
    let same: String = words
        .chars()
        .map(|c| if c.is_ascii_digit() { '#' } else { c })
        .collect();
    format!("{kind}: {same}")
}

/// How often each thing happened.
pub(crate) type Tally = BTreeMap<String, usize>;

/// Which advisory locks sessions have after all guards are gone. A session whose client is gone
/// ends when the server notices, which is given time.
pub(crate) fn locks_left(url: &str) -> Vec<String> {
    let begun = Instant::now();
    loop {
        let held = PgConnection::establish(url).map_err(|error| error.to_string());
        let held = held.and_then(|mut conn| {
            diesel::dsl::sql::<Text>(
                "SELECT concat_ws(' ', pid, application_name, state, mode, classid, objid, \
                 objsubid, count(*) OVER (PARTITION BY pid), 'locks; last query:', query) \
                 FROM pg_locks JOIN pg_stat_activity USING (pid) \
                 WHERE locktype = 'advisory' LIMIT 20",
            )
            .load::<String>(&mut conn)
            .map_err(|error| error.to_string())
        });
        match held {
            Ok(held) if held.is_empty() => return held,
            Ok(held) if begun.elapsed() > Duration::from_secs(20) => {
                let left = held.into_iter();
                return left
                    .map(|lock| format!("left without a guard: {lock}"))
                    .collect();
            }
            Err(error) if begun.elapsed() > Duration::from_secs(60) => return vec![error],
            _ => thread::sleep(Duration::from_millis(50)),
        }
    }
}

#[test]
fn two_holders_are_found_and_sharers_are_not() {
    let section = |pid, clock, left, alone| Section {
        actor: "a".to_owned(),
        entered: Reading { era: 1, pid, clock },
        left,
        held: vec![("advisory lock 1".to_owned(), alone)],
    };
    let found = |sections: &[Section]| overlaps(sections).len();
    let outer = section(1, 1, Some(9), true);
    assert_eq!(found(&[section(2, 3, None, true), outer.clone()]), 1);
    assert_eq!(found(&[outer.clone(), section(2, 3, Some(12), false)]), 1);
    assert_eq!(
        found(&[section(2, 3, Some(12), true), section(3, 4, None, false)]),
        1
    );
    // It entered afterwards; or is the same session; or both share.
    assert_eq!(found(&[outer.clone(), section(2, 10, Some(12), true)]), 0);
    assert_eq!(found(&[outer.clone(), section(1, 3, Some(4), true)]), 0);
    let sharer = section(1, 1, Some(9), false);
    assert_eq!(found(&[sharer, section(2, 3, Some(4), false)]), 0);
    // A session that has ended may have lost the lock before the other one got it.
    assert_eq!(
        found(&[section(1, 1, None, true), section(2, 3, Some(4), true)]),
        0
    );
    assert_eq!(Section::parse(&outer.to_string()), Some(outer));
}
