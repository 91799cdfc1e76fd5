//! The command on a standby.

use std::process::Output;
use std::thread;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel_locks::{LockError, WaitGraph, prelude::*};
use diesel_locks_harness::TempPostgres;
use serde_json::Value;
use serial_test::parallel;

use crate::standby::Standby;
use crate::support::{diesel_locks, directory, soon, stderr, stdout};
use crate::terminal::Terminal;

#[test]
#[parallel]
fn a_standby_is_looked_at_and_its_sessions_are_ended_but_nothing_is_run_on_it() {
    let primary = TempPostgres::start().unwrap();
    PgConnection::establish(primary.url())
        .unwrap()
        .batch_execute("CREATE ROLE app LOGIN")
        .unwrap();
    let standby = Standby::of(&primary);
    let command = |arguments: &[&str]| -> Output {
        let mut command = diesel_locks();
        command.args(arguments).env("DATABASE_URL", &standby.url);
        command.output().unwrap()
    };
    let url = standby.url.replace("postgres@", "app@");
    let mut holder = PgConnection::establish(&url).unwrap();
    let mut guard = holder.advisory_lock("invoices").unwrap();
    thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let mut conn = standby.connect();
            conn.advisory_lock("invoices").map(drop)
        });
        let mut observer = standby.connect();
        soon("it waits", || {
            !WaitGraph::load(&mut observer).unwrap().is_empty()
        });
        let list = command(&["ls", "--name", "invoices"]);
        assert_eq!(stdout(&list).matches("\"invoices\"").count(), 2, "{list:?}");
        let waits = command(&["waits", "--json"]);
        let waits: Value = serde_json::from_str(stdout(&waits)).unwrap();
        let blocker = waits[0]["blockers"][0]["pid"].as_i64().unwrap();
        assert!(stdout(&command(&["graph"])).contains("holds up 1"));

        let arguments = ["top", "--database-url", &standby.url];
        let mut top = Terminal::run(diesel_locks().args(arguments));
        top.shows(&blocker.to_string());
        top.press("q");
        assert!(top.ends().success());

        let ended = command(&["terminate", "--yes", &blocker.to_string()]);
        assert!(stdout(&ended).starts_with("terminated pid "), "{ended:?}");
        assert_eq!(ended.status.code(), Some(0));
        let _: Result<(), LockError> = waiter.join().unwrap();
    });
    let lost = guard.is_held();
    assert!(
        matches!(lost, Err(LockError::ConnectionLost { .. })),
        "{lost:?}"
    );

    let run = command(&["run", "--nowait", "invoices", "--", "echo", "done"]);
    assert_eq!(run.status.code(), Some(69), "{run:?}");
    assert_eq!(stdout(&run), "");
    assert!(stderr(&run).contains("the server is a standby"), "{run:?}");
    let migrations = directory("standby");
    let migrated = command(&["migrate", "--migration-dir", migrations.to_str().unwrap()]);
    assert_eq!(migrated.status.code(), Some(1), "{migrated:?}");
    assert!(stderr(&migrated).contains("read-only"), "{migrated:?}");
}
