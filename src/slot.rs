//! The one place in a Diesel connection where state can travel with it: its instrumentation.
//!
//! [`Slot`] keeps there what this crate has to know of the connection's session, and passes every
//! event on to the application's own instrumentation. On a connection whose application has set
//! its own by Diesel's `set_instrumentation`, there is no slot, and [`UNCOUNTED`] has the little
//! that can be known.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::iter;
use std::ptr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use diesel::connection::{
    Connection, Instrumentation, InstrumentationEvent, get_default_instrumentation,
};

use crate::AdvisoryLock;

/// The sessions with guards that no slot counts, once for each guard.
static UNCOUNTED: Mutex<Vec<i32>> = Mutex::new(Vec::new());

/// What is known of a connection's session.
struct Slot {
    /// None where the connection may have had another slot before, and with it another name.
    owner: Option<Owner>,
    /// Known from the first lock on.
    backend_pid: Option<i32>,
    /// What the guards on this connection hold, once for each guard.
    held: Vec<AdvisoryLock>,
    guards: usize,
    in_doubt: bool,
    application: Option<Box<dyn Instrumentation>>,
    /// The statements that are sent, while somebody wants to know them.
    #[cfg(feature = "migrations")]
    sent: Option<Vec<String>>,
}

/// Names the connection, to whoever else may find itself in the same session of the server.
#[derive(Debug, Clone)]
pub(crate) struct Owner(Arc<str>);

impl Owner {
    fn new() -> Self {
        // Each `RandomState` hashes in its own way.
        Self(format!("{:016x}", RandomState::new().build_hasher().finish()).into())
    }

    /// Sixteen hexadecimal digits.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// How many guards hold each of some locks.
#[derive(Debug, Clone)]
pub(crate) struct Guards {
    /// In the order of the locks.
    pub(crate) counts: Vec<i32>,
    /// The sessions for which the counts may be too low.
    pub(crate) uncounted: Vec<i32>,
    /// The session for which they are right, if that is known.
    pub(crate) backend_pid: Option<i32>,
}

impl Slot {
    fn new(owner: Option<Owner>, application: Option<Box<dyn Instrumentation>>) -> Self {
        Self {
            owner,
            backend_pid: None,
            held: Vec::new(),
            guards: 0,
            in_doubt: false,
            application,
            #[cfg(feature = "migrations")]
            sent: None,
        }
    }

    /// Notes one guard less, if it was noted here.
    fn remove(&mut self, locks: &[AdvisoryLock]) -> bool {
        let before = self.held.len();
        // What was taken last is mostly given back first.
        for lock in locks.iter().rev() {
            if let Some(at) = self.held.iter().rposition(|held| held == lock) {
                self.held.swap_remove(at);
            }
        }
        let is_noted = self.held.len() < before;
        self.guards -= usize::from(is_noted);
        is_noted
    }
}

impl Instrumentation for Slot {
    fn on_connection_event(&mut self, event: InstrumentationEvent<'_>) {
        #[cfg(feature = "migrations")]
        if let (Some(sent), InstrumentationEvent::StartQuery { query, .. }) =
            (&mut self.sent, &event)
        {
            sent.push(query.to_string());
        }
        if let Some(application) = &mut self.application {
            application.on_connection_event(event);
        }
    }
}

impl Drop for Slot {
    /// The application has set its own instrumentation over it, or the connection is gone.
    fn drop(&mut self) {
        if let Some(pid) = self.backend_pid {
            uncounted().extend(iter::repeat_n(pid, self.guards));
        }
    }
}

/// Sets the application's own instrumentation of a connection, as
/// [`Connection::set_instrumentation`] does, and keeps what this crate has in the same place.
///
/// Diesel has one place in a connection for instrumentation, and this crate counts its guards
/// there. Whoever is there first, stays: on a connection with an instrumentation by Diesel's
/// `set_instrumentation` or `set_default_instrumentation`, locks work as well, but where a
/// statement is cancelled while it takes a lock that another guard on the same connection has,
/// the connection is closed, because nothing tells what that guard held; and a session that a
/// pooler shares is not noticed. With this function, on a connection that is new, nothing of that
/// is lost.
///
/// No round trip.
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicUsize, Ordering};
///
/// use diesel::connection::InstrumentationEvent;
/// use diesel::prelude::*;
/// use diesel_locks::prelude::*;
/// use diesel_locks_harness::TestDatabase;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let database = TestDatabase::new()?;
/// let mut conn = PgConnection::establish(database.url())?;
/// let events = Arc::new(AtomicUsize::new(0));
/// let count = Arc::clone(&events);
/// diesel_locks::set_instrumentation(&mut conn, move |_: InstrumentationEvent<'_>| {
///     count.fetch_add(1, Ordering::Relaxed);
/// });
/// drop(conn.advisory_lock("gold_leader")?);
/// assert!(events.load(Ordering::Relaxed) > 0);
/// # Ok(())
/// # }
/// ```
pub fn set_instrumentation<C: Connection>(conn: &mut C, instrumentation: impl Instrumentation) {
    let instrumentation = Box::new(instrumentation);
    match of(conn) {
        Some(slot) => slot.application = Some(instrumentation),
        None => conn.set_instrumentation(Slot::new(None, Some(instrumentation))),
    }
}

/// Puts a slot into a connection that nobody has used yet.
pub(crate) fn install(conn: &mut impl Connection) {
    conn.set_instrumentation(Slot::new(Some(Owner::new()), get_default_instrumentation()));
}

/// The connection's slot, unless the application has set an instrumentation of its own.
fn of<C: Connection>(conn: &mut C) -> Option<&mut Slot> {
    if is_empty(conn.instrumentation()) {
        conn.set_instrumentation(Slot::new(Some(Owner::new()), None));
    }
    slot(conn)
}

fn slot<C: Connection>(conn: &mut C) -> Option<&mut Slot> {
    conn.instrumentation().downcast_mut()
}

/// Whether nobody has set an instrumentation.
///
/// Diesel answers with a value of no size then, which is a part of the connection. One that was
/// set is in a box, and a box has no place in memory for what has no size.
fn is_empty(instrumentation: &dyn Instrumentation) -> bool {
    size_of_val(instrumentation) == 0
        && ptr::from_ref(instrumentation).addr() != align_of_val(instrumentation)
}

/// What names the connection, if anything does.
pub(crate) fn owner(conn: &mut impl Connection) -> Option<Owner> {
    of(conn).and_then(|slot| slot.owner.clone())
}

/// Notes that a guard has taken its locks, and says whether it did so in the session in which all
/// guards before have: a connection of one's own stays with its session.
pub(crate) fn taken(conn: &mut impl Connection, backend_pid: i32, locks: &[AdvisoryLock]) -> bool {
    match of(conn) {
        Some(slot) => {
            slot.held.extend_from_slice(locks);
            slot.guards += usize::from(!locks.is_empty());
            *slot.backend_pid.get_or_insert(backend_pid) == backend_pid
        }
        None => {
            uncounted().extend(locks.first().map(|_| backend_pid));
            true
        }
    }
}

/// Notes that a guard lets its locks go.
pub(crate) fn given_back(conn: &mut impl Connection, backend_pid: i32, locks: &[AdvisoryLock]) {
    if locks.is_empty() || slot(conn).is_some_and(|slot| slot.remove(locks)) {
        return;
    }
    let mut uncounted = uncounted();
    if let Some(at) = uncounted.iter().rposition(|&pid| pid == backend_pid) {
        uncounted.swap_remove(at);
    }
}

/// How many guards on this connection hold each of the locks.
pub(crate) fn guards(conn: &mut impl Connection, locks: &[AdvisoryLock]) -> Guards {
    let mut counts: HashMap<&AdvisoryLock, i32> = HashMap::new();
    let slot = of(conn);
    for lock in slot.iter().flat_map(|slot| &slot.held) {
        *counts.entry(lock).or_default() += 1;
    }
    Guards {
        counts: (locks.iter())
            .map(|lock| counts.get(lock).copied().unwrap_or_default())
            .collect(),
        // A slot may have been put in the place of another one that knew more.
        uncounted: uncounted().clone(),
        backend_pid: slot.and_then(|slot| slot.backend_pid),
    }
}

/// Notes that the session may have locks that no guard holds.
pub(crate) fn doubt(conn: &mut impl Connection) {
    if let Some(slot) = of(conn) {
        slot.in_doubt = true;
    }
}

/// Whether the session has locks, as far as is known, or may have some.
#[cfg(feature = "r2d2")]
pub(crate) fn may_have_locks(conn: &mut impl Connection) -> bool {
    slot(conn).is_some_and(|slot| slot.in_doubt || !slot.held.is_empty())
}

/// Notes the statements that are sent from now on.
#[cfg(feature = "migrations")]
pub(crate) fn record(conn: &mut impl Connection) {
    if let Some(slot) = of(conn) {
        slot.sent = Some(Vec::new());
    }
}

/// The statements that were sent meanwhile, unless there is no slot.
#[cfg(feature = "migrations")]
pub(crate) fn recorded(conn: &mut impl Connection) -> Option<Vec<String>> {
    slot(conn)?.sent.take()
}

fn uncounted() -> MutexGuard<'static, Vec<i32>> {
    // Nothing panics that has it.
    UNCOUNTED.lock().unwrap_or_else(PoisonError::into_inner)
}
