//! Sessions of SQL statements, and whether they come to the same ends with every order and with
//! those that the Explorer holds for different.

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::Text;
use diesel_locks_harness::{Exploration, Explorer, TestDatabase};

use super::tables::filled;

/// The statements of a session. What a query finds is in its column `shown`.
pub(super) type Session = &'static [&'static str];

#[derive(QueryableByName)]
pub(super) struct Shown {
    #[diesel(sql_type = Text)]
    shown: String,
}

pub(super) fn shown(rows: Vec<Shown>) -> String {
    let rows: Vec<String> = rows.into_iter().map(|row| row.shown).collect();
    rows.join(" ")
}

/// What an error says, without whose process it was: that is not the same twice.
pub(super) fn without_process(error: &diesel::result::Error) -> String {
    let error = error.to_string();
    error.split(" of ").next().unwrap_or_default().to_owned()
}

/// Carries out the statements, up to the first that fails in a transaction and outside a savepoint.
fn run(conn: &mut PgConnection, session: Session) -> Result<String, String> {
    let mut log = Vec::new();
    let mut in_savepoint = false;
    let is_open = session[0].starts_with("BEGIN");
    for sql in session {
        in_savepoint = (in_savepoint || *sql == "SAVEPOINT s") && *sql != "ROLLBACK TO s";
        let done = if sql.contains(';') {
            conn.batch_execute(sql).map(|()| String::new())
        } else if sql.contains("shown") {
            sql_query(*sql).load(conn).map(shown)
        } else {
            sql_query(*sql).execute(conn).map(|rows| rows.to_string())
        };
        match done {
            Ok(shown) => log.push(shown),
            Err(error) => {
                log.push(without_process(&error));
                if is_open && !in_savepoint {
                    let _ = conn.batch_execute("ROLLBACK");
                    return Err(log.join("; "));
                }
            }
        }
    }
    Ok(log.join("; "))
}

/// What else is asked of the explorer.
pub(super) type Also = for<'e> fn(Explorer<'e, PgConnection>) -> Explorer<'e, PgConnection>;

/// The ends with every order and those with fewer, where they are not the same.
pub(super) fn lost_ends(
    database: &TestDatabase,
    fill: &'static str,
    what: &str,
    sessions: &[Session],
    also: Also,
) -> Option<[Vec<String>; 2]> {
    let explorer = || {
        let named = ["ada", "bob", "eve"].into_iter().zip(sessions);
        named.fold(
            also(filled(database, fill).allow_results(|_| true)),
            |explorer, (name, session)| explorer.code(name, move |conn| run(conn, session)),
        )
    };
    let [all, fewer] = explored(explorer);
    println!(
        "{what}: {} of {} orders, {} ends",
        fewer.schedules(),
        all.schedules(),
        all.outcomes().len()
    );
    assert!(all.is_complete() && fewer.is_complete(), "{what}");
    let is_same = all.outcomes() == fewer.outcomes();
    (!is_same).then(|| [all, fewer].map(|exploration| exploration.outcomes().to_vec()))
}

/// What came of every order.
#[track_caller]
pub(super) fn assert_same_ends<'e>(
    explorer: impl Fn() -> Explorer<'e, PgConnection>,
) -> Exploration {
    let [all, fewer] = explored(explorer);
    assert_eq!(all.outcomes(), fewer.outcomes());
    all
}

/// What came of every order, and of fewer.
fn explored<'e>(explorer: impl Fn() -> Explorer<'e, PgConnection>) -> [Exploration; 2] {
    [explorer().exhaustive(), explorer()].map(|explorer| explorer.explore().unwrap())
}
