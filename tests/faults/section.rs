//! What is done with a lock in hand.

use diesel::RunQueryDsl;
use diesel::connection::{LoadConnection, SimpleConnection};
use diesel::pg::Pg;
use diesel::result::{Error, QueryResult};
use diesel_locks::{AdvisoryLock, LockError};

use super::actor::Actor;
use super::judge::{READ_CLOCK, Reading, Section};
use super::stage::Record;
use super::turn::{Fate, Limit, is_judged};

impl Actor {
    /// A section, and then the fate of what it is in.
    pub(super) fn work<C>(
        &mut self,
        conn: &mut C,
        held: Vec<(String, bool)>,
        fate: Fate,
    ) -> Result<(), LockError>
    where
        C: LoadConnection<Backend = Pg>,
    {
        let section = self.enter(conn, held);
        let done = dwell(conn);
        self.leave(section, conn);
        done?;
        end(conn, fate)
    }

    /// Reads the clock, through the connection that has the locks.
    pub(super) fn enter<C>(&mut self, conn: &mut C, held: Vec<(String, bool)>) -> Option<Section>
    where
        C: LoadConnection<Backend = Pg>,
    {
        let entered = diesel::sql_query(READ_CLOCK).get_result::<Reading>(conn);
        let entered = self.judged("entry", entered.map_err(LockError::from))?;
        self.say(format!("entered: {entered:?}"));
        Some(Section {
            actor: self.name.clone(),
            entered,
            left: None,
            held,
        })
    }

    pub(super) fn leave<C>(&mut self, section: Option<Section>, conn: &mut C)
    where
        C: LoadConnection<Backend = Pg>,
    {
        let Some(mut section) = section else { return };
        let left = diesel::sql_query(READ_CLOCK).get_result::<Reading>(conn);
        if let Some(left) = self.judged("exit", left.map_err(LockError::from)) {
            if (left.era, left.pid) != (section.entered.era, section.entered.pid) {
                self.find(format!(
                    "another session: {left:?} after {:?}",
                    section.entered
                ));
            }
            section.left = Some(left.clock);
        }
        self.stage.record(Record::Section(section));
    }
}

pub(super) fn held(locks: &[AdvisoryLock]) -> Vec<(String, bool)> {
    let judged = locks.iter().filter(|lock| is_judged(lock));
    judged
        .map(|lock| (format!("{:?}", lock.key()), !lock.is_shared()))
        .collect()
}

pub(super) fn set_timeouts<C: SimpleConnection>(
    conn: &mut C,
    limit: Option<Limit>,
) -> QueryResult<()> {
    let (statement, lock) = match limit {
        Some(Limit::Statement(time)) => (time.to_string(), "DEFAULT".to_owned()),
        Some(Limit::Lock(time)) => ("DEFAULT".to_owned(), time.to_string()),
        None => ("DEFAULT".to_owned(), "DEFAULT".to_owned()),
    };
    conn.batch_execute(&format!(
        "SET lock_timeout TO {lock}; SET statement_timeout TO {statement}"
    ))
}
/// Gives others, and the hand, an opportunity.
pub(super) fn dwell<C: SimpleConnection>(conn: &mut C) -> Result<(), LockError> {
    Ok(conn.batch_execute("SELECT pg_sleep(0.01 * random())")?)
}

pub(super) fn abort<C: SimpleConnection>(conn: &mut C) -> Result<(), LockError> {
    Ok(conn.batch_execute("SELECT 1 / 0")?)
}

pub(super) fn end<C: SimpleConnection>(conn: &mut C, fate: Fate) -> Result<(), LockError> {
    match fate {
        Fate::Commit => Ok(()),
        Fate::Rollback => Err(Error::RollbackTransaction.into()),
        Fate::Abort => abort(conn),
        Fate::AbortUnnoticed => {
            // That it is aborted already is as good.
            let _ = abort(conn);
            Ok(())
        }
    }
}
