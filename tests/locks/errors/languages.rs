//! Errors of servers that speak other languages than English.
//!
//! The language is that of a server's environment, so each is a server of another process: a test
//! here starts itself again.

use std::path::{Path, PathBuf};

use diesel::connection::SimpleConnection;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::Text;
use diesel_locks::prelude::*;
use diesel_locks::{LockError, LockTarget, TableLockMode, use_english_messages};
use diesel_locks_harness::{Contention, TempPostgres};
use schema::accounts;
use serial_test::parallel;

use crate::support::second_process::{SecondProcess, second_process, this_test};

mod schema {
    diesel::table! {
        accounts {
            id -> Integer,
        }
    }
}

fn connect(server: &TempPostgres) -> PgConnection {
    let mut conn = PgConnection::establish(server.url()).unwrap();
    // Any locale but `C` itself: the language comes from the environment.
    conn.batch_execute("SET lc_messages = 'C.UTF-8'; SET deadlock_timeout = '10ms'")
        .unwrap();
    conn
}

fn every_error_is_known(language: &str) {
    let server = TempPostgres::start().unwrap();
    let (mut here, mut there) = (connect(&server), connect(&server));
    here.batch_execute(
        "CREATE TABLE accounts (id integer PRIMARY KEY); INSERT INTO accounts VALUES (1)",
    )
    .unwrap();
    let message = here.batch_execute("SELECT 1 / 0").unwrap_err().to_string();
    println!("{language}: {message}");
    let catalogues: String = sql::<Text>("SELECT setting FROM pg_config WHERE name = 'LOCALEDIR'")
        .get_result(&mut here)
        .unwrap();
    let catalogue = PathBuf::from(catalogues)
        .join(language)
        .join("LC_MESSAGES/postgres-15.mo");
    // Where the server has the language, it is that and not English which is put to the test.
    assert!(message != "division by zero" || !catalogue.exists());

    let row = |conn: &mut PgConnection| conn.execute_for_update_nowait(accounts::table);
    here.begin_test_transaction().unwrap();
    row(&mut here).unwrap();
    let error = there.transaction(row).unwrap_err();
    let LockError::NotAvailable { target, .. } = error else {
        panic!("{error:?}");
    };
    let relation = "accounts".to_owned();
    if ["fr", "ko"].contains(&language) && catalogue.exists() {
        assert_eq!(target, LockTarget::Relation { relation });
    } else {
        assert_eq!(target, LockTarget::Row { relation });
    }

    here.lock_table(accounts::table, TableLockMode::AccessExclusive)
        .unwrap();
    let mut fail = |statements: &str| {
        let failed =
            there.transaction::<(), LockError, _>(|conn| Ok(conn.batch_execute(statements)?));
        failed.unwrap_err()
    };
    let error = fail("LOCK TABLE accounts NOWAIT");
    let relation = "accounts".to_owned();
    assert!(matches!(
        error,
        LockError::NotAvailable { target, .. } if target == LockTarget::Relation { relation }
    ));
    let error = fail("SET LOCAL lock_timeout = 1; SELECT FROM accounts");
    assert!(matches!(error, LockError::Timeout { .. }), "{error:?}");
    let error = fail("SET LOCAL statement_timeout = 1; SELECT FROM accounts");
    assert!(
        matches!(error, LockError::StatementTimeout { .. }),
        "{error:?}"
    );
    let error = fail("SELECT pg_cancel_backend(pg_backend_pid())");
    assert!(matches!(error, LockError::Canceled { .. }), "{error:?}");
    let error = there
        .transaction::<(), LockError, _>(|conn| {
            conn.batch_execute("SELECT 1 / 0").unwrap_err();
            Ok(conn.batch_execute("SELECT 1")?)
        })
        .unwrap_err();
    assert!(
        matches!(error, LockError::TransactionAborted { .. }),
        "{error:?}"
    );

    let outcome = Contention::new(|| Ok::<_, ConnectionError>(connect(&server)))
        .run_scoped(|conn, hold| {
            if let Some(mut first) = conn.try_advisory_lock(1)? {
                hold.until_settled();
                return first.advisory_lock(2).map(drop);
            }
            let mut second = conn.advisory_lock_nowait(2)?;
            second.advisory_lock(1).map(drop)
        })
        .unwrap();
    let [LockError::Deadlock { processes, .. }] = &outcome.into_errors()[..] else {
        panic!("no deadlock");
    };
    let [first, second] = &processes[..] else {
        panic!("{processes:?}");
    };
    assert_eq!(
        (first.pid, second.pid),
        (second.blocked_by, first.blocked_by)
    );
    assert_eq!(first.mode, "ExclusiveLock");

    // And it may be asked to speak English.
    assert!(use_english_messages(&mut there).unwrap());
    let message = there.batch_execute("SELECT 1 / 0").unwrap_err().to_string();
    assert_eq!(message, "division by zero");
}

#[test]
#[parallel]
fn servers_of_every_language_are_understood() {
    if let Some(language) = second_process() {
        return every_error_is_known(&language);
    }
    for language in [
        "de", "es", "fr", "it", "ja", "ka", "ko", "ru", "sv", "uk", "zh_CN", "zh_TW", "en",
    ] {
        let environment = [("LANGUAGE", Path::new(language))];
        SecondProcess::start(&this_test!(), language, &environment).succeeds();
    }
}

#[test]
#[parallel]
fn a_role_that_may_not_is_told_so_and_keeps_its_transaction() {
    let server = TempPostgres::start().unwrap();
    let mut conn = PgConnection::establish(server.url()).unwrap();
    conn.batch_execute("CREATE ROLE app; SET SESSION AUTHORIZATION app")
        .unwrap();
    assert!(!use_english_messages(&mut conn).unwrap());
    conn.transaction::<_, LockError, _>(|conn| {
        assert!(!use_english_messages(conn)?);
        Ok(conn.batch_execute("SELECT 1")?)
    })
    .unwrap();
}
