//! Where the actors get their connections.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::Duration;

use diesel::pg::PgConnection;
use diesel::r2d2::{ConnectionManager, HandleError, ManageConnection, Pool};
use diesel_locks::LockAwareManager;

use super::judge::Section;

/// What an actor has to tell.
#[derive(Debug)]
pub(crate) enum Record {
    Section(Section),
    /// Something that happened, for the tally.
    Count(String),
    /// Something that must never happen.
    Finding(String),
    /// What an actor has done last.
    Operations(String),
    /// All actors of a second process have ended.
    Idle,
}

pub(crate) type Aware = LockAwareManager<PgConnection>;
pub(crate) type Diesels = ConnectionManager<PgConnection>;

/// What the actors of a process share.
pub(crate) struct Stage {
    urls: [String; 2],
    pub(crate) aware: Pool<Aware>,
    pub(crate) diesels: Pool<Diesels>,
    is_over: AtomicBool,
    records: Mutex<Sender<Record>>,
}

impl Stage {
    /// The URL of the server, and that through the proxy.
    pub(crate) fn new(urls: [String; 2], records: Sender<Record>) -> Self {
        let [direct, proxied] = &urls;
        Self {
            aware: pool(LockAwareManager::new(Diesels::new(named(direct, "aware")))),
            diesels: pool(Diesels::new(named(proxied, "diesels"))),
            urls,
            is_over: AtomicBool::new(false),
            records: Mutex::new(records),
        }
    }

    pub(crate) fn url(&self, through_proxy: bool) -> String {
        named(&self.urls[usize::from(through_proxy)], "plain")
    }

    /// The hand's own URL.
    pub(crate) fn hands_url(&self) -> String {
        named(&self.urls[0], "hand")
    }

    pub(crate) fn urls(&self) -> [&str; 2] {
        [&self.urls[0], &self.urls[1]]
    }

    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    pub(crate) fn end(&self) {
        self.is_over.store(true, Ordering::SeqCst);
    }

    pub(crate) fn record(&self, record: Record) {
        if matches!(record, Record::Finding(_)) {
            // One is enough, and what follows may follow from it.
            self.end();
        }
        // Whoever has ended the round need not know.
        let _ = self.records.lock().unwrap().send(record);
    }
}

/// What the server has to know of a session. Nobody waits for ever, not even for a lock that was
/// left without a guard.
fn named(url: &str, name: &str) -> String {
    let options = "-c%20lock_timeout%3D30s%20-c%20client_min_messages%3Derror";
    format!("{url}&application_name={name}&options={options}")
}

fn pool<M: ManageConnection>(manager: M) -> Pool<M> {
    #[derive(Debug)]
    struct Ignore;
    impl<E> HandleError<E> for Ignore {
        fn handle_error(&self, _: E) {}
    }
    Pool::builder()
        .max_size(3)
        .min_idle(Some(0))
        .connection_timeout(Duration::from_secs(5))
        .error_handler(Box::new(Ignore))
        .build_unchecked(manager)
}
