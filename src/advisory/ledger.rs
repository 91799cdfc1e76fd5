//! What a pool's manager knows of the locks on a connection.
//!
//! Diesel connections have one slot for state that travels with them: the instrumentation. A
//! [`LockAwareManager`](crate::LockAwareManager) puts a ledger there; on all other connections
//! nothing is noted.

use diesel::connection::{
    Connection, Instrumentation, InstrumentationEvent, get_default_instrumentation,
};

/// Counts the guards on a connection, and forwards everything to Diesel's default.
#[cfg_attr(
    not(feature = "r2d2"),
    expect(dead_code, reason = "no manager puts one up")
)]
pub(crate) struct Ledger {
    guards: usize,
    default: Option<Box<dyn Instrumentation>>,
}

impl Ledger {
    pub(crate) fn open(conn: &mut impl Connection) {
        conn.set_instrumentation(Self {
            guards: 0,
            default: get_default_instrumentation(),
        });
    }

    /// Whether a guard has not given its locks back.
    pub(crate) fn is_open(conn: &mut impl Connection) -> bool {
        of(conn).is_some_and(|ledger| ledger.guards > 0)
    }
}

impl Instrumentation for Ledger {
    fn on_connection_event(&mut self, event: InstrumentationEvent<'_>) {
        if let Some(default) = &mut self.default {
            default.on_connection_event(event);
        }
    }
}

fn of(conn: &mut impl Connection) -> Option<&mut Ledger> {
    conn.instrumentation().downcast_mut()
}

/// Notes that a guard has taken its locks.
pub(crate) fn taken(conn: &mut impl Connection) {
    if let Some(ledger) = of(conn) {
        ledger.guards += 1;
    }
}

/// Notes that a guard's locks are gone.
pub(crate) fn given_back(conn: &mut impl Connection) {
    if let Some(ledger) = of(conn) {
        ledger.guards = ledger.guards.saturating_sub(1);
    }
}
