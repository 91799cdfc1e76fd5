//! What fails beside the steps, and what is left behind.

use std::sync::Mutex;
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel_locks_harness::{Explorer, ExplorerError, Problem, SeenConnections};
use serial_test::{parallel, serial};

use super::fixture::{balance, deposit, explorer, set_balance};
use crate::support::{connect, connections, database, eventually, pool};

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
    let pool = pool(&database, 1);
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
        conn.batch_execute("BEGIN")?;
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

#[test]
#[parallel]
fn a_setup_waits_for_no_lock_too_long_where_its_connection_cant_be_made_what_it_was() {
    let database = database();
    let role = "explorer_of_less";
    let mut admin = connect(&database);
    admin.batch_execute(&format!("CREATE ROLE {role}")).unwrap();
    admin
        .batch_execute("BEGIN; SELECT pg_advisory_lock(7)")
        .unwrap();
    let connect = || {
        let mut conn = PgConnection::establish(database.url())?;
        conn.batch_execute(&format!(
            "SET session_replication_role = 'replica'; SET SESSION AUTHORIZATION {role}"
        ))
        .map_err(ConnectionError::CouldntSetupConfiguration)?;
        Ok::<_, ConnectionError>(conn)
    };
    let ended = Explorer::new(connect)
        .timeout(Duration::from_secs(1))
        .setup(|conn| {
            // Else it would hang.
            let mut limit = diesel::sql_query("SET statement_timeout = '5s'").execute(conn)?;
            limit += diesel::sql_query("SELECT pg_advisory_lock(7)").execute(conn)?;
            assert_eq!(limit, 0);
            Ok(())
        })
        .code("ada", |conn| balance(conn, 1))
        .explore();
    admin.batch_execute(&format!("DROP ROLE {role}")).unwrap();
    let error = ended.unwrap_err();
    assert!(
        matches!(&error, ExplorerError::Prepare { source, .. }
            if source.to_string().contains("lock timeout")),
        "{error:?}"
    );
}

#[test]
#[parallel]
fn a_connection_whose_role_is_that_of_another_one_from_the_start_is_what_it_was() {
    let database = database();
    let mut admin = connect(&database);
    let (own, other) = ("explorer_with_role", "explorer_by_default");
    admin.batch_execute(&format!(
        "CREATE ROLE {own} LOGIN SUPERUSER; CREATE ROLE {other}; ALTER ROLE {own} SET role = {other}"
    )).unwrap();
    let url = format!("{}&user={own}", database.url());
    let connect = || {
        let mut conn = PgConnection::establish(&url)?;
        conn.batch_execute("SET ROLE NONE; SET session_replication_role = 'replica'")
            .map_err(ConnectionError::CouldntSetupConfiguration)?;
        Ok::<_, ConnectionError>(conn)
    };
    let seen = Mutex::new(Vec::new());
    let ended = Explorer::new(connect)
        .setup(|conn| {
            let names =
                "current_setting('role') || ' ' || current_setting('session_replication_role')";
            let asked = diesel::select(diesel::dsl::sql::<diesel::sql_types::Text>(names));
            seen.lock().unwrap().push(asked.get_result::<String>(conn)?);
            diesel::sql_query("SET session_replication_role = 'local'").execute(conn)?;
            diesel::sql_query(format!("SET ROLE {other}")).execute(conn)?;
            Ok(())
        })
        .code("ada", |conn| balance(conn, 1))
        .code("bob", |conn| set_balance(conn, 1, 2))
        .explore();
    admin
        .batch_execute(&format!("DROP ROLE {own}, {other}"))
        .unwrap();
    ended.unwrap().assert_passed();
    let seen = seen.into_inner().unwrap();
    assert!(
        seen.len() > 1 && seen.iter().all(|seen| seen == "none replica"),
        "{seen:?}"
    );
}
