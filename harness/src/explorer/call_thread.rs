//! Threads that a call starts.

use std::fmt;
use std::sync::Arc;

use super::gate::{Gate, shared};

/// A thread that code starts which an [`Explorer`](crate::Explorer) calls: what it sends are steps
/// of the session that has started it.
///
/// It is made on the session's thread, one for each thread or job, and moved there. The session has
/// ended when its [`call`](crate::Explorer::call) has returned and none of these is left. Its
/// threads have to take turns, as where one waits for the other's answer: two that are about to send
/// statements at the same time end the exploration with
/// [`ExplorerError::Overlap`](crate::ExplorerError::Overlap), because they are two sessions. Whether
/// the others wait is seen 10 ms after they have gone to sleep, for each step of the session.
///
/// Where nothing is explored it does nothing.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/support/doctest.rs"));
/// use std::thread;
///
/// use diesel::prelude::*;
/// use diesel_locks_harness::{CallThread, Explorer};
///
/// fn deposit(url: &str) -> QueryResult<usize> {
///     let mut conn = PgConnection::establish(url).map_err(|_| diesel::result::Error::NotFound)?;
///     let account = diesel::update(accounts::table.find(1));
///     account.set(accounts::balance.eq(accounts::balance + 10)).execute(&mut conn)
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let database = database()?;
/// let beside = || {
///     let thread = CallThread::new();
///     thread::scope(|scope| scope.spawn(|| thread.run(|| deposit(database.url()))).join()).unwrap()
/// };
/// Explorer::new(|| PgConnection::establish(database.url()))
///     .call("ada", beside)
///     .call("bob", beside)
///     .serializable()
///     .explore()?
///     .assert_passed();
/// # Ok(())
/// # }
/// ```
#[must_use = "the session waits for the thread until this is dropped"]
pub struct CallThread(Option<Arc<Gate>>);

impl CallThread {
    /// A thread of the session whose thread this is.
    pub fn new() -> Self {
        let gate = shared::current();
        if let Some(gate) = &gate {
            gate.expect_thread();
        }
        Self(gate)
    }

    /// Does this as the session's, on this thread.
    pub fn run<T>(self, work: impl FnOnce() -> T) -> T {
        match &self.0 {
            Some(gate) => shared::within(gate, work),
            None => work(),
        }
    }
}

impl Default for CallThread {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for CallThread {
    fn drop(&mut self) {
        if let Some(gate) = &self.0 {
            gate.expect_no_thread();
        }
    }
}

impl fmt::Debug for CallThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CallThread").finish_non_exhaustive()
    }
}
