//! Code that finds its connections itself.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use diesel::connection::{Instrumentation, InstrumentationEvent};
use diesel::prelude::*;
use diesel_locks_harness::{Explorer, ExplorerError, Problem, SeenConnections};
use serial_test::{parallel, serial};

use super::fixture::explorer;
use super::same_ends::assert_same_ends;
use crate::support::schema::accounts;
use crate::support::{PgPool, database, pool};

/// An application's error, which keeps nothing of what Diesel said.
#[derive(Debug)]
struct Failed;

fn increment(conn: &mut PgConnection) -> Result<i64, Failed> {
    let work = |conn: &mut PgConnection| {
        let account = accounts::table.find(1);
        let balance: i64 = account.select(accounts::balance).first(conn)?;
        diesel::update(account)
            .set(accounts::balance.eq(balance + 1))
            .execute(conn)?;
        QueryResult::Ok(balance + 1)
    };
    conn.transaction(work).map_err(|_| Failed)
}

fn pooled(pool: &PgPool) -> Result<i64, Failed> {
    let mut conn = pool.get().map_err(|_| Failed)?;
    increment(&mut conn)
}

#[test]
#[serial]
fn a_pool_of_two_loses_an_update_in_the_orders_in_which_code_does() {
    let database = database();
    let _seen = SeenConnections::new();
    let pool = pool(&database, 2);
    let explorer = explorer(&database)
        .call("ada", || pooled(&pool))
        .call("bob", || pooled(&pool))
        .serializable();
    let exploration = explorer.explore().unwrap();
    assert_eq!(exploration.schedules(), 4, "{:#?}", exploration.list());
    assert_eq!(exploration.failures().len(), 2, "{exploration}");
    assert!(exploration.is_complete());
    let failure = &exploration.failures()[0];
    assert!(
        failure
            .schedule()
            .starts_with("ada.start ada.begin ada.select:accounts bob.start")
    );
    assert_eq!(
        explorer.replay(failure.schedule()).unwrap().schedule(),
        failure.schedule()
    );
}

#[test]
#[serial]
fn a_pool_of_one_leaves_the_serial_orders_and_does_not_hang() {
    let database = database();
    let _seen = SeenConnections::new();
    let pool = pool(&database, 1);
    let exploration = explorer(&database)
        .call("ada", || pooled(&pool))
        .call("bob", || pooled(&pool))
        .serializable()
        .explore()
        .unwrap();
    exploration.assert_passed();
    assert_eq!(exploration.outcomes().len(), 2);
}

#[test]
#[serial]
fn connections_that_are_opened_each_time_are_seen_and_a_mutex_is_waited_for() {
    let database = database();
    let mutex = Mutex::new(());
    let guarded = || {
        let _guard = mutex.lock().unwrap();
        increment(&mut PgConnection::establish(database.url()).map_err(|_| Failed)?)
    };
    let exploration = explorer(&database)
        .call("ada", guarded)
        .call("bob", guarded)
        .serializable()
        .explore()
        .unwrap();
    exploration.assert_passed();
}

#[test]
#[serial]
fn a_pool_that_was_filled_before_is_refused() {
    let database = database();
    let pool = pool(&database, 2);
    let explorer = explorer(&database).call("ada", || pooled(&pool));
    let error = explorer.explore().unwrap_err();
    assert!(
        matches!(&error, ExplorerError::Unseen { session } if session == "ada"),
        "{error:?}"
    );
}

static EVENTS: AtomicUsize = AtomicUsize::new(0);

fn count() -> Option<Box<dyn Instrumentation>> {
    Some(Box::new(|event: InstrumentationEvent<'_>| {
        if matches!(event, InstrumentationEvent::StartQuery { .. }) {
            EVENTS.fetch_add(1, Ordering::Relaxed);
        }
    }))
}

#[test]
#[serial]
fn the_applications_own_default_instrumentation_goes_on_working_when_it_is_told() {
    let database = database();
    diesel::connection::set_default_instrumentation(count).unwrap();
    let increments = || increment(&mut PgConnection::establish(database.url()).unwrap());
    let hidden = Explorer::new(|| PgConnection::establish(database.url())).call("ada", increments);
    assert!(matches!(
        hidden.explore(),
        Err(ExplorerError::Instrumentation)
    ));
    drop(hidden);
    let seen = SeenConnections::with(count);
    let before = EVENTS.load(Ordering::Relaxed);
    let explorer = explorer(&database).call("ada", increments);
    let schedules = explorer.explore().unwrap().schedules();
    assert!(EVENTS.load(Ordering::Relaxed) >= before + 4);
    drop((seen, explorer));
    let before = EVENTS.load(Ordering::Relaxed);
    increments().unwrap();
    assert_eq!(EVENTS.load(Ordering::Relaxed), before + 4);
    assert_eq!(schedules, 1);
    diesel::connection::set_default_instrumentation(|| None).unwrap();
}

#[test]
#[parallel]
fn the_instrumentation_of_a_connection_goes_on_working() {
    let database = database();
    let events = Arc::new(AtomicUsize::new(0));
    let connect = || {
        let mut conn = PgConnection::establish(database.url())?;
        let events = Arc::clone(&events);
        conn.set_instrumentation(move |event: InstrumentationEvent<'_>| {
            if let InstrumentationEvent::StartQuery { query, .. } = event {
                let is_own = query
                    .to_string()
                    .starts_with("UPDATE \"accounts\" SET \"balance\"");
                events.fetch_add(usize::from(is_own), Ordering::Relaxed);
            }
        });
        ConnectionResult::Ok(conn)
    };
    let exploration = Explorer::new(connect)
        .code("ada", increment)
        .explore()
        .unwrap();
    assert_eq!(exploration.schedules(), 1);
    assert_eq!(events.load(Ordering::Relaxed), 1);
}

#[test]
#[serial]
fn a_deadlock_is_one_whatever_the_application_makes_of_it() {
    let database = database();
    let locks = |first: i32, second: i32| {
        move |conn: &mut PgConnection| -> Result<(), Failed> {
            let work = |conn: &mut PgConnection| {
                for id in [first, second] {
                    let account = diesel::update(accounts::table.find(id));
                    account
                        .set(accounts::balance.eq(accounts::balance + 1))
                        .execute(conn)?;
                }
                QueryResult::Ok(())
            };
            conn.transaction(work).map_err(|_| Failed)
        }
    };
    let exploration = explorer(&database)
        .code("ada", locks(1, 2))
        .code("bob", locks(2, 1))
        .explore()
        .unwrap();
    assert_eq!(exploration.failures().len(), 2, "{exploration}");
    for run in exploration.failures() {
        assert!(
            matches!(run.problems(), [Problem::Deadlock { .. }]),
            "{run}"
        );
    }
    let allowed = explorer(&database)
        .code("ada", locks(1, 2))
        .code("bob", locks(2, 1))
        .allow_errors(diesel_locks::LockError::is_retryable)
        .serializable();
    allowed.explore().unwrap().assert_passed();
}

const QUEUE: &str = "
    CREATE EXTENSION \"uuid-ossp\";
    CREATE TYPE mood AS ENUM ('new', 'done');
    CREATE TABLE letters (id uuid PRIMARY KEY DEFAULT uuid_generate_v4(), receiver text NOT NULL,
        mood mood NOT NULL DEFAULT 'new', written timestamptz NOT NULL DEFAULT now());";

#[derive(QueryableByName, Debug)]
struct Letter {
    #[diesel(sql_type = diesel::sql_types::Text)]
    #[expect(dead_code, reason = "it is shown")]
    id: String,
    #[diesel(sql_type = diesel::sql_types::Text)]
    #[expect(dead_code, reason = "it is shown")]
    written: String,
}

/// One letter for each receiver, it is thought.
fn write(pool: &PgPool) -> QueryResult<Letter> {
    let conn = &mut pool.get().unwrap();
    let columns = "id::text, written::text";
    let known = diesel::sql_query(format!(
        "SELECT {columns} FROM letters WHERE receiver = 'ada' AND mood = 'new'"
    ));
    match known.get_result(conn).optional()? {
        Some(letter) => Ok(letter),
        None => {
            let insert = "INSERT INTO letters (receiver) VALUES ('ada')";
            diesel::sql_query(format!("{insert} RETURNING {columns}")).get_result(conn)
        }
    }
}

#[test]
#[serial]
fn a_unique_task_that_is_queued_twice_is_found_though_its_key_and_its_time_are_others_each_time() {
    let database = database();
    let _seen = SeenConnections::new();
    let pool = pool(&database, 2);
    let mut conn = PgConnection::establish(database.url()).unwrap();
    diesel::connection::SimpleConnection::batch_execute(&mut conn, QUEUE).unwrap();
    let explorer = explorer(&database)
        .setup(|conn| {
            diesel::sql_query("DELETE FROM letters").execute(conn)?;
            Ok(())
        })
        .call("ada", || write(&pool))
        .call("bob", || write(&pool))
        .serializable();
    let exploration = explorer.explore().unwrap();
    assert!(exploration.is_complete(), "{exploration}");
    // One after the other, and both at once.
    assert_eq!(exploration.schedules(), 4, "{:#?}", exploration.list());
    assert_eq!(exploration.failures().len(), 2, "{exploration}");
    // Orders too that are no serial ones and end as those do.
    let all = explorer.exhaustive().explore().unwrap();
    assert!(all.schedules() > all.failures().len() + 2, "{all}");
    for run in exploration.failures().iter().chain(all.failures()) {
        assert_eq!(
            run.outcome().matches("\"mood\": \"new\"").count(),
            2,
            "{run}"
        );
    }
}

#[test]
#[serial]
fn calls_that_wait_for_each_other_on_connections_of_a_pool_go_on_and_a_deadlock_is_found() {
    let database = database();
    let _seen = SeenConnections::new();
    let pool = pool(&database, 3);
    let write = |text: &'static str| {
        let pool = &pool;
        move || {
            pool.get().unwrap().transaction(|conn| {
                for row in text.split(' ') {
                    // The server can't tell which row that is.
                    let rows = format!("WHERE abs(id) = {row}");
                    diesel::sql_query(format!("UPDATE accounts SET balance = 7 {rows}"))
                        .execute(conn)?;
                }
                QueryResult::Ok(())
            })
        }
    };
    let waits = explorer(&database)
        .timeout(std::time::Duration::from_secs(5))
        .call("ada", write("1"))
        .call("bob", write("1"))
        .serializable()
        .explore()
        .unwrap();
    waits.assert_passed();
    assert!(waits.is_complete());
    let has_waited = |run: &&String| {
        run.contains("ada.update:accounts bob.start bob.begin bob.update:accounts ada.commit")
    };
    assert!(
        waits.list().iter().any(|run| has_waited(&run)),
        "{:#?}",
        waits.list()
    );
    let deadlock = explorer(&database)
        .timeout(std::time::Duration::from_secs(10))
        .call("ada", write("1 2"))
        .call("bob", write("2 1"))
        .max_failures(1)
        .explore()
        .unwrap();
    let [run] = deadlock.failures() else {
        panic!("{deadlock}");
    };
    assert!(
        matches!(run.problems(), [Problem::Deadlock { .. }]),
        "{run}"
    );
}

/// Reads the second account, and then the first.
fn both(conn: &mut PgConnection) -> QueryResult<(i64, i64)> {
    let balance = |conn: &mut PgConnection, id: i32| {
        let account = accounts::table.find(id);
        account.select(accounts::balance).first(conn)
    };
    Ok((balance(conn, 2)?, balance(conn, 1)?))
}

#[test]
#[serial]
fn a_call_with_a_connection_beside_its_transaction_comes_to_every_end() {
    let database = database();
    let _seen = SeenConnections::new();
    let pool = pool(&database, 2);
    let work = || -> QueryResult<()> {
        let (mut one, mut other) = (pool.get().unwrap(), pool.get().unwrap());
        let set = |conn: &mut PgConnection, id: i32| {
            let account = diesel::update(accounts::table.find(id));
            account.set(accounts::balance.eq(7)).execute(conn)
        };
        one.transaction(|one| {
            set(one, 1)?;
            // It is seen before the transaction is committed.
            set(&mut other, 2)?;
            Ok(())
        })
    };
    let explorer = || {
        explorer(&database)
            .call("ada", work)
            .code("bob", both)
            .allow_results(|_| true)
    };
    let all = assert_same_ends(explorer);
    assert_eq!(all.outcomes().len(), 4, "{:#?}", all.outcomes());
}

#[test]
#[serial]
fn a_call_that_closes_a_connection_lets_go_of_its_locks_there() {
    let database = database();
    let _seen = SeenConnections::new();
    let lock = "SELECT pg_try_advisory_lock(1)";
    let work = || -> QueryResult<()> {
        let connect = || PgConnection::establish(database.url()).unwrap();
        let mut conn = connect();
        diesel::sql_query(lock).execute(&mut conn)?;
        both(&mut conn)?;
        drop(conn);
        both(&mut connect())?;
        Ok(())
    };
    let tries = |conn: &mut PgConnection| -> QueryResult<bool> {
        let tried = diesel::dsl::sql::<diesel::sql_types::Bool>("pg_try_advisory_xact_lock(1)");
        diesel::select(tried).get_result(conn)
    };
    let explorer = || {
        explorer(&database)
            .call("ada", work)
            .code("bob", tries)
            .allow_results(|_| true)
    };
    let all = assert_same_ends(explorer);
    assert_eq!(all.outcomes().len(), 2, "{:#?}", all.outcomes());
}
