//! A jam of several sessions, in each form that programs read.

use std::collections::BTreeSet;
use std::thread::{self, JoinHandle};

use diesel::connection::SimpleConnection;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::{Array, Integer};
use diesel_locks::LockKey;
use diesel_locks_harness::TempPostgres;
use serde_json::Value;
use serial_test::parallel;

use crate::support::{diesel_locks, soon, stdout};

fn connect(server: &TempPostgres) -> PgConnection {
    PgConnection::establish(server.url()).unwrap()
}

/// What the server says itself; 0 stands for a prepared transaction.
fn blockers(observer: &mut PgConnection, pid: i32) -> Vec<i32> {
    sql::<Array<Integer>>("SELECT pg_blocking_pids(")
        .bind::<Integer, _>(pid)
        .sql(")")
        .get_result(observer)
        .unwrap()
}

/// Sessions over a row, a table and two advisory locks, and a prepared transaction. They end with
/// the server.
fn jam(server: &TempPostgres) -> Vec<(i32, JoinHandle<()>)> {
    let mut observer = connect(server);
    for statements in [
        "CREATE TABLE jobs (); CREATE TABLE accounts (id int); INSERT INTO accounts VALUES (1); \
         CREATE ROLE nobody LOGIN",
        "BEGIN; LOCK TABLE jobs IN ROW EXCLUSIVE MODE; SELECT pg_advisory_xact_lock(7, -42); \
         PREPARE TRANSACTION 'payout \"7\"'",
    ] {
        observer.batch_execute(statements).unwrap();
    }
    let LockKey::Single(gold) = LockKey::named("gold") else {
        unreachable!("a name is a number");
    };
    let update = "UPDATE accounts SET id = 1";
    [
        (
            format!("BEGIN; {update}"),
            "SELECT 1 FROM pg_sleep(600)".to_owned(),
        ),
        (
            format!("BEGIN; SELECT pg_advisory_lock({gold})"),
            update.to_owned(),
        ),
        (
            "BEGIN".to_owned(),
            format!("SELECT pg_advisory_lock_shared({gold})"),
        ),
        (
            "BEGIN".to_owned(),
            "SELECT pg_advisory_lock(7, -42)".to_owned(),
        ),
        (
            "BEGIN".to_owned(),
            "LOCK TABLE jobs IN SHARE MODE".to_owned(),
        ),
    ]
    .into_iter()
    .enumerate()
    .map(|(nth, (first, then))| {
        let mut conn = connect(server);
        conn.batch_execute(&first).unwrap();
        let pid = sql::<Integer>("SELECT pg_backend_pid()")
            .get_result(&mut conn)
            .unwrap();
        let thread = thread::spawn(move || {
            // In the end all are terminated, and some may get their lock before it is their turn.
            let _ = conn.batch_execute(&then);
        });
        soon("it waits", || {
            nth == 0 || !blockers(&mut observer, pid).is_empty()
        });
        (pid, thread)
    })
    .collect()
}

#[test]
#[parallel]
fn json_and_dot_have_the_edges_that_the_server_says_whatever_the_role_may_see() {
    let server = TempPostgres::start().unwrap();
    let sessions = jam(&server);
    let mut observer = connect(&server);
    let said: BTreeSet<(i32, i32)> = sessions
        .iter()
        .flat_map(|(pid, _)| {
            blockers(&mut observer, *pid)
                .into_iter()
                .map(|by| (*pid, by))
        })
        .collect();
    assert_eq!(said.len(), 4, "{said:?}");

    let pid = |id: &Value| id["pid"].as_i64().map_or(0, |pid| pid as i32);
    for role in ["postgres", "nobody"] {
        let look = |arguments: &[&str]| {
            let url = server.url().replace("postgres@", &format!("{role}@"));
            let mut command = diesel_locks();
            let output = command
                .args(arguments)
                .args(["--database-url", &url])
                .output();
            stdout(&output.unwrap()).to_owned()
        };
        let graph: Value = serde_json::from_str(&look(&["graph", "--json"])).unwrap();
        let edges = graph["edges"].as_array().unwrap().iter();
        let edges: BTreeSet<_> = edges
            .map(|edge| (pid(&edge["waiter"]), pid(&edge["blocker"])))
            .collect();
        assert_eq!(edges, said, "{role}");

        let waits: Value = serde_json::from_str(&look(&["waits", "--json"])).unwrap();
        let waits: BTreeSet<_> = waits
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|wait| {
                let blockers = wait["blockers"].as_array().unwrap().iter();
                blockers.map(|blocker| (pid(&wait["session"]), pid(blocker)))
            })
            .collect();
        assert_eq!(waits, said, "{role}");

        assert_eq!(look(&["graph", "--dot"]).matches("->").count(), said.len());
        assert!(look(&["graph", "--mermaid"]).starts_with("flowchart LR"));
        let hidden = |session: &Value| session["hidden"] == true;
        let sessions = graph["sessions"].as_array().unwrap();
        assert_eq!(
            sessions.iter().any(hidden),
            role == "nobody",
            "{sessions:?}"
        );
        let prepared = |session: &Value| session["prepared"] == "payout \"7\"";
        assert!(sessions.iter().any(prepared), "{sessions:?}");
        let keys: Value =
            serde_json::from_str(&look(&["ls", "--kind", "advisory", "--json"])).unwrap();
        let pair = |lock: &Value| lock["object"]["key"] == serde_json::json!(["7", "-42"]);
        assert_eq!(
            keys.as_array()
                .unwrap()
                .iter()
                .filter(|lock| pair(lock))
                .count(),
            2
        );
    }
    let pids: Vec<i32> = sessions.iter().map(|(pid, _)| *pid).collect();
    diesel::sql_query("SELECT pg_terminate_backend(pid) FROM unnest($1) pid")
        .bind::<Array<Integer>, _>(pids)
        .execute(&mut observer)
        .unwrap();
    for (_, thread) in sessions {
        thread.join().unwrap();
    }
}
