//! What fails, hangs or panics in some order.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use diesel::prelude::*;
use diesel::r2d2::{ConnectionManager, Pool};
use diesel_locks::LockError;
use diesel_locks_harness::{
    Explorer, ExplorerError, IsolationLevel, Problem, SeenConnections, StepProblem, Steps,
};
use serial_test::{parallel, serial};

use super::fixture::{balance, deposit, explorer, set_balance};
use crate::support::{connections, database, eventually};

#[test]
#[parallel]
fn an_error_that_is_not_allowed_ends_its_session_and_is_a_problem() {
    let database = database();
    let explorer = explorer(&database)
        .session(
            "first",
            Steps::transaction(IsolationLevel::ReadCommitted)
                .step("fill", |conn, ()| set_balance(conn, 1, 500))
                .step("overdraw", |conn, ()| set_balance(conn, 1, -1))
                .step("never", |_, ()| panic!("after an error")),
        )
        .invariant("nothing was written", |conn, sessions| {
            Ok(balance(conn, 1)? == 100 && sessions[0].failed)
        });
    let run = explorer.replay("").unwrap();
    assert_eq!(run.schedule(), "first.fill first.overdraw");
    assert!(matches!(run.problems(), [Problem::Failed { step, .. }] if step == "first.overdraw"));
    assert!(
        run.to_string().contains("violates check constraint"),
        "{run}"
    );
}

#[test]
#[parallel]
fn a_session_that_fails_is_in_nobodys_way() {
    let database = database();
    let fails = Steps::transaction(IsolationLevel::ReadCommitted)
        .step("write", |conn, ()| set_balance(conn, 1, 7))
        .step("fail", |_, ()| Err(LockError::NotInTransaction.into()));
    let exploration = explorer(&database)
        .timeout(Duration::from_secs(2))
        .session("first", fails)
        .session(
            "second",
            Steps::new().step("write", |conn, ()| set_balance(conn, 1, 8)),
        )
        .invariant("the second one's is left", |conn, _| {
            Ok(balance(conn, 1)? == 8)
        })
        .allow_errors(|error| matches!(error, LockError::NotInTransaction))
        .explore()
        .unwrap();
    exploration.assert_passed();
    assert_eq!(exploration.schedules(), 3);
}

#[test]
#[parallel]
fn a_step_that_panics_and_an_invariant_that_does_are_problems() {
    let database = database();
    let explorer = explorer(&database)
        .session(
            "first",
            Steps::new().step("panic", |_, ()| panic!("in the step")),
        )
        .invariant("looked at", |_, _| panic!("in the invariant"));
    let run = explorer.replay("").unwrap();
    assert!(
        matches!(run.problems(), [
            Problem::Broken { problem: StepProblem::Panicked { message }, .. },
            Problem::Invariant { reason: Some(reason), .. },
        ] if message == "in the step" && reason == "in the invariant"),
        "{run}"
    );
    let exploration = explorer.explore().unwrap();
    let text = catch_unwind(AssertUnwindSafe(|| exploration.assert_passed())).unwrap_err();
    let text = text.downcast_ref::<String>().unwrap();
    assert!(text.contains("replay(\"first.panic\")"), "{text}");
}

#[test]
#[parallel]
fn a_step_that_hangs_is_a_problem_and_the_next_schedule_goes_well() {
    let database = database();
    let hangs = AtomicUsize::new(0);
    let hangs: &'static AtomicUsize = Box::leak(Box::new(hangs));
    let exploration = explorer(&database)
        .timeout(Duration::from_secs(2))
        .session(
            "first",
            Steps::new().step("sleep", |conn, ()| {
                if hangs.fetch_add(1, Ordering::Relaxed) == 0 {
                    diesel::sql_query("SELECT pg_sleep(3600)").execute(conn)?;
                }
                Ok(())
            }),
        )
        .session("second", Steps::new().step("read", |_, ()| Ok(())))
        .explore()
        .unwrap();
    assert_eq!(exploration.schedules(), 2);
    let [run] = exploration.failures() else {
        panic!("{exploration}");
    };
    assert!(
        matches!(
            run.problems(),
            [Problem::Broken {
                problem: StepProblem::TimedOut { .. },
                ..
            }]
        ),
        "{run}"
    );
}

#[test]
#[parallel]
fn a_connection_that_is_killed_is_a_problem_and_the_next_schedule_goes_well() {
    let database = database();
    let kills: &'static AtomicUsize = Box::leak(Box::default());
    let exploration = explorer(&database)
        .session(
            "first",
            Steps::new().step("kill", |conn, ()| {
                if kills.fetch_add(1, Ordering::Relaxed) == 0 {
                    diesel::sql_query("SELECT pg_terminate_backend(pg_backend_pid())")
                        .execute(conn)?;
                }
                Ok(())
            }),
        )
        .session("second", Steps::new().step("read", |_, ()| Ok(())))
        .explore()
        .unwrap();
    assert_eq!(exploration.schedules(), 2);
    let [run] = exploration.failures() else {
        panic!("{exploration}");
    };
    assert!(matches!(run.problems(), [Problem::Failed { step, .. }] if step == "first.kill"));
}

#[test]
#[parallel]
fn a_setup_that_fails_ends_the_exploration_and_leaves_nothing() {
    let (one, two) = (database(), database());
    let explorer = explorer(&one)
        .database(|| PgConnection::establish(two.url()))
        .session("first", deposit())
        .setup(|_| Err("no tables".into()));
    let error = explorer.explore().unwrap_err();
    assert!(
        matches!(&error, ExplorerError::Prepare { what, source }
            if what == "setup" && source.to_string() == "no tables"),
        "{error:?}"
    );
    let panics = explorer.setup(|_| panic!("no tables at all"));
    let error = panics.replay("").unwrap_err();
    assert!(matches!(&error, ExplorerError::Prepare { source, .. }
        if source.to_string() == "no tables at all"));
    for database in [&one, &two] {
        eventually(|| connections(database) == 0);
    }
}

#[test]
#[parallel]
fn what_a_setup_or_an_invariant_leaves_in_its_connection_is_gone_in_the_next_schedule() {
    let database = database();
    let connect = || {
        let mut conn = PgConnection::establish(database.url())?;
        diesel::sql_query("SET search_path = public, pg_temp")
            .execute(&mut conn)
            .map_err(ConnectionError::CouldntSetupConfiguration)?;
        Ok::<_, ConnectionError>(conn)
    };
    let setting = |conn: &mut PgConnection, name: &str| {
        let setting = diesel::dsl::sql::<diesel::sql_types::Text>(&format!(
            "SELECT current_setting('{name}')"
        ));
        setting.get_result::<String>(conn)
    };
    let seen = Mutex::new(Vec::new());
    let exploration = Explorer::new(connect)
        .setup(|conn| {
            let settings = ["search_path", "role", "TimeZone", "statement_timeout"];
            let settings = settings.map(|name| setting(conn, name).unwrap());
            seen.lock().unwrap().push(settings);
            diesel::sql_query("CREATE TEMPORARY TABLE left_behind ()").execute(conn)?;
            diesel::sql_query("SET search_path = nowhere").execute(conn)?;
            diesel::sql_query("SET statement_timeout = '1h'").execute(conn)?;
            Ok(())
        })
        .session("first", deposit())
        .session("second", deposit())
        .invariant("the role is another one", |conn, _| {
            diesel::sql_query("SET ROLE pg_monitor").execute(conn)?;
            diesel::sql_query("SET TimeZone = 'Asia/Tokyo'").execute(conn)?;
            Ok(true)
        })
        .explore()
        .unwrap();
    exploration.assert_passed();
    let seen = seen.into_inner().unwrap();
    assert!(seen.len() > 2);
    for settings in seen {
        assert_eq!(settings, ["public, pg_temp", "none", "UTC", "0"]);
    }
}

#[test]
#[serial]
fn a_teardown_that_waits_for_what_a_pool_has_kept_is_an_error_and_no_hang() {
    let database = database();
    let _seen = SeenConnections::new();
    let manager = ConnectionManager::<PgConnection>::new(database.url());
    let pool = Pool::builder().max_size(1).build(manager).unwrap();
    let error = explorer(&database)
        .timeout(Duration::from_secs(2))
        .call("ada", || {
            diesel::sql_query("SELECT pg_advisory_lock(7)").execute(&mut pool.get().unwrap())
        })
        .teardown(|conn| {
            diesel::sql_query("SELECT pg_advisory_lock(7)").execute(conn)?;
            Ok(())
        })
        .explore()
        .unwrap_err();
    assert!(
        matches!(&error, ExplorerError::Prepare { what, source }
            if what == "teardown" && source.to_string().contains("lock timeout")),
        "{error:?}"
    );
}

#[test]
#[parallel]
fn an_error_that_panics_when_it_is_shown_is_a_problem_and_no_hang() {
    #[derive(Debug)]
    struct Bad;
    impl std::fmt::Display for Bad {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            panic!("can't be shown")
        }
    }
    impl std::error::Error for Bad {}
    let database = database();
    let run = explorer(&database)
        .session("first", Steps::new().step("fail", |_, ()| Err(Bad.into())))
        .replay("")
        .unwrap();
    assert!(
        matches!(run.problems(), [Problem::Broken { problem: StepProblem::Panicked { message }, .. }]
            if message == "can't be shown"),
        "{run}"
    );
}

#[test]
#[parallel]
fn a_lock_that_a_session_has_left_is_told_at_once() {
    let database = database();
    let lock =
        |conn: &mut PgConnection| diesel::sql_query("SELECT pg_advisory_lock(7)").execute(conn);
    let begun = std::time::Instant::now();
    let exploration = explorer(&database)
        .code("ada", lock)
        .code("bob", lock)
        .explore()
        .unwrap();
    assert_eq!(exploration.failures().len(), 2, "{exploration}");
    for run in exploration.failures() {
        assert!(
            matches!(run.problems(), [Problem::Stuck { blocked, .. }] if blocked.by().len() == 1),
            "{run}"
        );
    }
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[test]
#[parallel]
fn code_that_leaves_a_transaction_open_is_in_nobodys_way() {
    let database = database();
    let leaves = |conn: &mut PgConnection| {
        diesel::connection::SimpleConnection::batch_execute(conn, "BEGIN")?;
        diesel::sql_query("UPDATE accounts SET balance = 1 WHERE id = 1").execute(conn)
    };
    let run = explorer(&database)
        .timeout(Duration::from_secs(5))
        .code("ada", leaves)
        .code("bob", |conn| set_balance(conn, 1, 2))
        .explore()
        .unwrap();
    run.assert_passed();
    assert!(
        run.list().iter().any(|run| run.contains("ada.rollback")),
        "{:?}",
        run.list()
    );
}
