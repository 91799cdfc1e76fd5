//! What a real server reports, by type.

use std::error::Error as _;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error};
use diesel_locks::prelude::*;
use diesel_locks::{LockError, LockTarget, is_contention, is_retryable};
use diesel_locks_harness::{Contention, Outcome, TestDatabase};
use serial_test::parallel;

use crate::support::schema::accounts;
use crate::support::{backend_pid, connect, database, terminate, two_sessions};

fn classified(conn: &mut PgConnection, statements: &str) -> LockError {
    let error = conn
        .transaction::<(), Error, _>(|conn| conn.batch_execute(statements))
        .unwrap_err();
    let text = error.to_string();
    let error = LockError::from(error);
    // Nothing is lost, and nothing is told twice.
    assert_eq!(error.source().unwrap().to_string(), text);
    assert_ne!(error.to_string(), text);
    // Whoever asks in whatever way is told the same.
    assert_eq!(is_contention(&error), error.is_contention());
    assert_eq!(is_retryable(&error), error.is_retryable());
    error
}

#[test]
#[parallel]
fn a_lock_timeout_is_no_nowait_though_they_share_a_code() {
    let (_database, mut holder, mut conn) = two_sessions(database());
    holder.begin_test_transaction().unwrap();
    holder
        .batch_execute("LOCK TABLE accounts IN ACCESS EXCLUSIVE MODE")
        .unwrap();

    let error = classified(
        &mut conn,
        "SET LOCAL lock_timeout = 1; SELECT FROM accounts",
    );
    assert!(matches!(error, LockError::Timeout { .. }));
    assert!(error.is_contention() && !error.is_retryable());

    let error = classified(&mut conn, "LOCK TABLE accounts IN SHARE MODE NOWAIT");
    let LockError::NotAvailable { ref target, .. } = error else {
        panic!("{error:?}");
    };
    let relation = "accounts".to_owned();
    assert_eq!(*target, LockTarget::Relation { relation });
    assert!(error.is_contention() && !error.is_retryable());

    let error = classified(
        &mut conn,
        "SET LOCAL statement_timeout = 1; SELECT FROM accounts",
    );
    assert!(matches!(error, LockError::StatementTimeout { .. }));
    assert!(!error.is_contention() && !error.is_retryable());
}

#[test]
#[parallel]
fn a_cancelled_statement_says_so() {
    let database = TestDatabase::new().unwrap();
    let error = classified(
        &mut connect(&database),
        "SELECT pg_cancel_backend(pg_backend_pid())",
    );
    assert!(matches!(error, LockError::Canceled { .. }));
}

#[test]
#[parallel]
fn an_aborted_transaction_says_so() {
    let database = TestDatabase::new().unwrap();
    let error = connect(&database)
        .transaction::<(), LockError, _>(|conn| {
            conn.batch_execute("SELECT 1 / 0").unwrap_err();
            Ok(conn.batch_execute("SELECT 1")?)
        })
        .unwrap_err();
    assert!(matches!(error, LockError::TransactionAborted { .. }));
    assert!(!error.is_contention() && !error.is_retryable());
}

#[test]
#[parallel]
fn a_serialization_failure_is_retryable() {
    let (_database, mut first, mut second) = two_sessions(database());
    let error = first
        .build_transaction()
        .repeatable_read()
        .run(|first| {
            accounts::table.count().get_result::<i64>(first)?;
            second.batch_execute("UPDATE accounts SET balance = 0")?;
            first.execute_for_update_nowait(accounts::table.find(1))
        })
        .unwrap_err();
    assert!(matches!(error, LockError::SerializationFailure { .. }));
    assert!(error.is_retryable() && !error.is_contention());
}

#[test]
#[parallel]
fn a_deadlock_is_retryable_and_names_its_processes() {
    let database = TestDatabase::new().unwrap();
    let outcome: Outcome<LockError> = Contention::new(|| PgConnection::establish(database.url()))
        .run_scoped(|conn, hold| {
            // The second contender waits for the first key, and so is seen to wait; then the
            // first one asks for the second key.
            conn.batch_execute("SET deadlock_timeout = '10ms'")?;
            if let Some(mut first) = conn.try_advisory_lock("first")? {
                hold.until_settled();
                return first.advisory_lock("second").map(drop);
            }
            let mut second = conn.advisory_lock_nowait("second")?;
            second.advisory_lock("first").map(drop)
        })
        .unwrap();
    assert_eq!((outcome.granted(), outcome.waited()), (1, 1));
    let errors = outcome.into_errors();
    let [
        LockError::Deadlock {
            processes, source, ..
        },
    ] = &errors[..]
    else {
        panic!("{errors:?}");
    };
    assert!(errors[0].is_retryable() && !errors[0].is_contention());
    let [first, second] = &processes[..] else {
        panic!("{processes:?}");
    };
    assert_eq!(
        (first.pid, second.pid),
        (second.blocked_by, first.blocked_by)
    );
    for process in processes {
        assert_eq!(process.mode, "ExclusiveLock");
        assert!(
            process.object.starts_with("advisory lock ["),
            "{processes:?}"
        );
    }
    assert!(matches!(source, Error::DatabaseError(_, _)));
}

#[test]
#[parallel]
fn a_killed_session_is_a_lost_connection_however_it_is_noticed() {
    let database = database();
    type Statement = fn(&mut PgConnection) -> Result<(), LockError>;
    let statements: [Statement; 4] = [
        |conn| Ok(conn.batch_execute("SELECT 1")?),
        |conn| Ok(diesel::sql_query("SELECT 1").execute(conn).map(drop)?),
        |conn| Ok(accounts::table.count().get_result::<i64>(conn).map(drop)?),
        |conn| conn.transaction(|_| Ok(())),
    ];
    for statement in statements {
        let mut conn = connect(&database);
        let pid = backend_pid(&mut conn);
        terminate(&database, pid);
        for _ in 0..2 {
            let error = statement(&mut conn).unwrap_err();
            assert!(
                matches!(error, LockError::ConnectionLost { .. }),
                "{error:?}"
            );
        }
    }
}

#[test]
#[parallel]
fn what_is_not_about_locks_comes_through_untouched() {
    let database = database();
    let mut conn = connect(&database);
    let error = classified(&mut conn, "INSERT INTO accounts VALUES (1, 'Eve', 0)");
    let LockError::Database(Error::DatabaseError(kind, information)) = &error else {
        panic!("{error:?}");
    };
    assert!(matches!(kind, DatabaseErrorKind::UniqueViolation));
    assert_eq!(information.constraint_name(), Some("accounts_pkey"));
    assert!(!error.is_contention() && !error.is_retryable());
    for statement in [
        "SELEC 1",
        "DO $$ BEGIN RAISE 'deadlock detected, perhaps'; END $$",
    ] {
        let error = classified(&mut conn, statement);
        assert!(matches!(error, LockError::Database(_)), "{error:?}");
    }
    let error = LockError::from(Error::NotFound);
    assert!(matches!(error, LockError::Database(Error::NotFound)));
}

#[test]
#[parallel]
fn a_server_that_is_gone_is_a_lost_connection() {
    let server = diesel_locks_harness::TempPostgres::start().unwrap();
    let mut conn = PgConnection::establish(server.url()).unwrap();
    let guard = conn.advisory_lock("x").unwrap();
    drop(server);
    let error = guard.release().unwrap_err();
    assert!(
        matches!(error, LockError::ConnectionLost { .. }),
        "{error:?}"
    );
}
