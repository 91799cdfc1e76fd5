//! What is done with a lock in hand.

use diesel::RunQueryDsl;
use diesel::connection::LoadConnection;
use diesel::pg::Pg;
use diesel_locks::LockError;

use super::actor::Actor;
use super::judge::{READ_CLOCK, Reading, Section};
use super::stage::Record;
use super::statements::{dwell, end};
use super::turn::Fate;

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
