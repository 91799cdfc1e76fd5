//! What sessions leave behind when they end, and those that come to no end.

use std::panic;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use diesel::connection::{Instrumentation, InstrumentationEvent, SimpleConnection};
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::r2d2::{self, ConnectionManager, CustomizeConnection, Pool, PooledConnection};
use diesel::sql_types::Text;
use diesel_locks_harness::{Explorer, StepResult};
use serial_test::parallel;

use super::fixture::{balance, explorer};
use crate::support::{connections, database, eventually, pool};

type Pooled = PooledConnection<ConnectionManager<PgConnection>>;

const SHORT: Duration = Duration::from_millis(500);
const LONG: Duration = Duration::from_secs(6);

#[test]
#[parallel]
fn a_session_that_the_teardown_lets_go_ends() {
    let database = database();
    let (is_open, changed) = (Mutex::new(false), Condvar::new());
    let begun = Instant::now();
    let exploration = explorer(&database)
        .timeout(SHORT)
        .teardown(|_| {
            *is_open.lock().unwrap() = true;
            changed.notify_all();
            Ok(())
        })
        .code("ada", |conn| {
            let read = balance(conn, 1)?;
            let guard = is_open.lock().unwrap();
            let waited = changed.wait_timeout_while(guard, LONG, |is_open| !*is_open);
            drop(waited.unwrap());
            QueryResult::Ok(read)
        })
        .explore()
        .unwrap();
    assert_eq!(exploration.failures().len(), 1, "{exploration}");
    assert!(begun.elapsed() < LONG);
    eventually(|| connections(&database) == 0);
}

#[test]
#[parallel]
fn a_session_that_waits_for_the_end_of_another_ones_connection_ends() {
    let database = database();
    let begun = Instant::now();
    let exploration = explorer(&database)
        .timeout(SHORT)
        .max_schedules(1)
        .code("ada", |conn| {
            let read = balance(conn, 1)?;
            // The two of the Explorer are left: its own is ended when it is late.
            while begun.elapsed() < LONG && connections(&database) > 2 {
                thread::sleep(Duration::from_millis(10));
            }
            QueryResult::Ok(read)
        })
        .code("bob", |conn| balance(conn, 2))
        .explore()
        .unwrap();
    assert_eq!(exploration.failures().len(), 1, "{exploration}");
    assert!(begun.elapsed() < LONG);
}

/// What the Explorer sets in connections.
fn settings(conn: &mut PgConnection) -> String {
    let names = ["deadlock_timeout", "lock_timeout", "jit"];
    let names = names.map(|name| format!("current_setting('{name}')"));
    let asked = diesel::select(sql::<Text>(&names.join(" || ' ' || ")));
    asked.get_result(conn).unwrap()
}

/// What an application sets in the connections of its pool.
#[derive(Debug)]
struct Sets;

impl CustomizeConnection<PgConnection, r2d2::Error> for Sets {
    fn on_acquire(&self, conn: &mut PgConnection) -> Result<(), r2d2::Error> {
        conn.batch_execute("SET deadlock_timeout = '3s'; SET lock_timeout = '7s'")
            .map_err(r2d2::Error::QueryError)
    }
}

#[test]
#[parallel]
fn a_pool_gets_its_connections_back_with_the_settings_that_they_had() {
    let reads = |conn: &mut Pooled| balance(conn, 1);
    let changes = |conn: &mut Pooled| {
        conn.transaction(|conn| diesel::sql_query("UPDATE accounts SET balance = 1").execute(conn))
    };
    let sets_role = |conn: &mut Pooled| {
        conn.batch_execute("SET ROLE pg_monitor")?;
        QueryResult::Ok(())
    };
    let database = database();
    for what in ["twice", "role", "again", "refused"] {
        let manager = ConnectionManager::<PgConnection>::new(database.url());
        let builder = Pool::builder().max_size(8);
        let builder = builder.connection_customizer(Box::new(Sets));
        let pool = builder.build(manager).unwrap();
        let usual = settings(&mut pool.get().unwrap());
        let opened = AtomicUsize::new(0);
        let lend = || -> StepResult<Pooled> {
            let is_refused = opened.fetch_add(1, Ordering::Relaxed) >= 3 && what == "refused";
            match is_refused {
                true => Err("no more".into()),
                false => Ok(pool.get()?),
            }
        };
        let explorer = Explorer::new(lend).allow_results(|_| true);
        let explored = match what {
            "twice" => explorer.code("ada", reads).code("ada", reads).explore(),
            "role" => explorer.code("ada", sets_role).explore(),
            "again" => explorer.code("ada", changes).retries().explore(),
            _ => explorer.code("ada", reads).code("bob", reads).explore(),
        };
        assert_eq!(
            explored.is_ok(),
            ["role", "again"].contains(&what),
            "{what}"
        );
        let number = pool.state().idle_connections;
        assert!(number >= 3, "{what}");
        let mut lent: Vec<Pooled> = (0..number).map(|_| pool.get().unwrap()).collect();
        for conn in &mut lent {
            assert_eq!(settings(conn), usual, "{what}");
        }
    }
}

#[test]
#[parallel]
fn a_pool_of_as_many_connections_as_an_exploration_takes_serves_one_after_the_other() {
    let database = database();
    let pool = pool(&database, 4);
    for _ in 0..3 {
        let explorer = Explorer::new(|| pool.get());
        let explorer = explorer.code("ada", |conn| balance(conn, 1));
        let exploration = explorer.code("bob", |conn| balance(conn, 2)).explore();
        assert!(exploration.unwrap().is_complete());
    }
}

/// Panics when it sees some statement.
struct Panics(&'static str);

impl Instrumentation for Panics {
    fn on_connection_event(&mut self, event: InstrumentationEvent<'_>) {
        if let InstrumentationEvent::StartQuery { query, .. } = event {
            assert!(!query.to_string().contains(self.0), "{}", self.0);
        }
    }
}

#[test]
#[parallel]
fn an_instrumentation_that_panics_ends_the_exploration_and_leaves_nothing() {
    for word in [
        "RESET ALL",
        "RESET deadlock_timeout",
        "lock_timeout",
        "accounts",
    ] {
        let database = database();
        let connect = || {
            let mut conn = PgConnection::establish(database.url())?;
            conn.set_instrumentation(Panics(word));
            Ok::<_, ConnectionError>(conn)
        };
        let explored = panic::catch_unwind(|| {
            let explorer = Explorer::new(connect).allow_results(|_| true);
            let explorer = explorer.code("ada", |conn| balance(conn, 1));
            explorer.code("bob", |conn| balance(conn, 2)).explore()
        });
        let is_told = match &explored {
            Ok(Ok(exploration)) => !exploration.failures().is_empty(),
            Ok(Err(_)) => false,
            Err(_) => true,
        };
        assert_eq!(is_told, word != "RESET deadlock_timeout", "{word}");
        drop(explored);
        eventually(|| connections(&database) == 0);
    }
}
