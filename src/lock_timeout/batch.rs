//! Limits that are set and put back in one batch with what they are for.

use std::time::Duration;

use super::limits::{BEFORE, SET};
use super::milliseconds::{milliseconds, with_unit};

/// The SQL of one call under a `lock_timeout` of its own, in a single statement: its parts, between
/// which the milliseconds as text and the call belong. It gives one row, with what the call gives.
///
/// The subqueries are done from the inside to the outside, because `OFFSET` keeps the planner from
/// making one of them.
pub(crate) const CALL_WITHIN: [&str; 3] = [
    "SELECT CASE WHEN pg_catalog.set_config('lock_timeout', before, true) IS NOT NULL \
     THEN called END FROM (SELECT before, ",
    " AS called FROM (SELECT pg_catalog.current_setting('lock_timeout') AS before, \
     pg_catalog.set_config('lock_timeout', ",
    ", true) AS started OFFSET 0) AS started WHERE started IS NOT NULL OFFSET 0) AS called",
];

/// One call under a `lock_timeout` of its own, as a batch inside a transaction. To parse two short
/// statements takes the server half as long as [`CALL_WITHIN`].
pub(crate) fn batch_call_within(timeout: Duration, call: &str) -> String {
    format!(
        "SELECT pg_catalog.set_config('diesel_locks.lock_timeout', \
         pg_catalog.current_setting('lock_timeout'), true), \
         pg_catalog.set_config('lock_timeout', '{}', true); SELECT {call}, \
         pg_catalog.set_config('lock_timeout', \
         pg_catalog.current_setting('diesel_locks.lock_timeout'), true)",
        milliseconds(timeout),
    )
}

/// The first statement of a batch inside a transaction, that limits what follows it until
/// [`RESTORE`]. What the limits were waits in settings of this crate's own.
pub(super) fn limit(timeout: Duration, whole: bool) -> String {
    let [from, as_timeout, end] = BEFORE;
    format!(
        "SELECT pg_catalog.set_config('diesel_locks.lock_timeout', lock_timeout, true), \
         pg_catalog.set_config('diesel_locks.statement_timeout', statement_timeout, true), \
         {SET}{from}'{}'::pg_catalog.text{as_timeout}{whole}{end}",
        with_unit(timeout)
    )
}

/// The last statement of what [`limit`] begins.
pub(super) const RESTORE: &str = "SELECT pg_catalog.set_config('lock_timeout', \
     pg_catalog.current_setting('diesel_locks.lock_timeout'), true), \
     pg_catalog.set_config('statement_timeout', \
     pg_catalog.current_setting('diesel_locks.statement_timeout'), true)";

/// `statement` as a batch, inside a transaction, for at most `timeout`.
pub(crate) fn batch_within(timeout: Duration, statement: &str) -> String {
    format!("{}; {statement}; {RESTORE}", limit(timeout, true))
}
