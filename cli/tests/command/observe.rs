//! Who holds and who waits.

use std::process::{Output, Stdio};
use std::thread;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel_locks::{LockError, WaitGraph, prelude::*};
use diesel_locks_harness::TempPostgres;
use serde_json::Value;
use serial_test::parallel;

use crate::support::{diesel_locks, soon, stderr, stdout};
#[cfg(unix)]
use crate::terminal::Terminal;

fn command(server: &TempPostgres, arguments: &[&str]) -> Output {
    diesel_locks()
        .args(arguments)
        .args(["--database-url", server.url()])
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn connect(server: &TempPostgres, role: &str) -> PgConnection {
    let mut conn = PgConnection::establish(server.url()).unwrap();
    conn.batch_execute(&format!("SET application_name = '{role}'"))
        .unwrap();
    conn
}

/// Has one session hold a lock and another one wait for it, and runs `look` meanwhile.
fn in_a_jam(look: impl FnOnce(&TempPostgres)) {
    let server = TempPostgres::start().unwrap();
    let mut holder = connect(&server, "holder");
    let guard = holder.advisory_lock("invoices").unwrap();
    thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let mut conn = connect(&server, "waiter");
            conn.advisory_lock("invoices").map(drop)
        });
        let mut observer = connect(&server, "observer");
        soon("it waits", || {
            !WaitGraph::load(&mut observer).unwrap().is_empty()
        });
        look(&server);
        drop(guard);
        // It may have been terminated.
        let _: Result<(), LockError> = waiter.join().unwrap();
    });
}

#[test]
#[parallel]
fn holders_and_waiters_are_shown_by_name_as_a_table_and_for_programs() {
    in_a_jam(|server| {
        let list = command(server, &["ls", "--name", "invoices"]);
        let list = stdout(&list);
        assert!(list.contains("advisory lock \"invoices\""), "{list}");
        assert!(list.contains("held") && list.contains("waits"), "{list}");

        let waits = command(server, &["waits", "--name", "invoices", "--json"]);
        let waits: Value = serde_json::from_str(stdout(&waits)).unwrap();
        assert_eq!(waits[0]["session"]["application"], "waiter");
        assert_eq!(waits[0]["object"]["text"], "advisory lock \"invoices\"");

        let graph = command(server, &["graph", "--json"]);
        let graph: Value = serde_json::from_str(stdout(&graph)).unwrap();
        assert_eq!(graph["edges"][0]["blocker"], waits[0]["blockers"][0]);
        assert_eq!(graph["roots"][0]["sessions"][0], waits[0]["blockers"][0]);
        assert_eq!(graph["roots"][0]["holds_up"], 1);
        assert!(stdout(&command(server, &["graph", "--dot"])).starts_with("digraph"));
        assert!(stdout(&command(server, &["graph"])).contains("└─"));
    });
}

#[test]
#[parallel]
fn nobody_is_ended_without_a_yes() {
    in_a_jam(|server| {
        let asked = command(server, &["terminate", "invoices"]);
        assert_eq!(asked.status.code(), Some(1));
        assert!(stderr(&asked).contains("--yes"), "{asked:?}");
        let waits = command(server, &["waits"]);
        assert_eq!(stdout(&waits).lines().count(), 2, "{waits:?}");
    });
}

#[test]
#[parallel]
fn a_session_is_ended_by_its_pid_and_a_superusers_is_spared() {
    let server = TempPostgres::start().unwrap();
    let mut admin = connect(&server, "admin");
    admin.batch_execute("CREATE ROLE app LOGIN").unwrap();
    let url = server.url().replace("postgres@", "app@");
    let mut holder = PgConnection::establish(&url).unwrap();
    let mut guard = holder.advisory_lock("invoices").unwrap();
    let ended = command(&server, &["terminate", "--yes", "invoices"]);
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert!(stdout(&ended).starts_with("terminated pid "), "{ended:?}");
    assert!(matches!(
        guard.is_held(),
        Err(LockError::ConnectionLost { .. })
    ));

    let pid: i32 = diesel::dsl::sql::<diesel::sql_types::Integer>("SELECT pg_backend_pid()")
        .get_result(&mut admin)
        .unwrap();
    let spared = command(&server, &["terminate", "--yes", &pid.to_string()]);
    assert_eq!(spared.status.code(), Some(1));
    assert!(stdout(&spared).starts_with("spared pid "), "{spared:?}");
    admin.batch_execute("SELECT 1").unwrap();
    let nobody = command(&server, &["cancel", "--yes", "nobody has this"]);
    assert_eq!(nobody.status.code(), Some(1));
}

#[test]
#[cfg(unix)]
#[parallel]
fn there_is_colour_on_a_terminal_unless_it_is_unwanted_and_never_in_a_pipe() {
    let in_colour = |text: &str| text.contains("\u{1b}[");
    in_a_jam(|server| {
        for arguments in [&["ls"][..], &["waits"]] {
            let shown = |variable: Option<(&str, &str)>| {
                let mut command = diesel_locks();
                command
                    .args(arguments)
                    .args(["--database-url", server.url()]);
                for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"] {
                    command.env_remove(name);
                }
                let mut terminal = Terminal::run(command.envs(variable));
                assert!(terminal.ends().success());
                // It is written before the end, and read soon after.
                terminal.shows("waiter");
                terminal.written()
            };
            let text = shown(None);
            assert!(in_colour(&text), "{text}");
            let text = shown(Some(("NO_COLOR", "1")));
            assert!(!in_colour(&text), "{text}");
            let piped = command(server, arguments);
            assert!(!in_colour(stdout(&piped)), "{piped:?}");
        }
    });
}
