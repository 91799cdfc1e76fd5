//! PostgreSQL's own isolation tests, run by this crate, against the output that PostgreSQL expects.
//!
//! It is run when it is asked for by name, with the directory `src/test/isolation` of PostgreSQL's
//! source, of the server's own version:
//! `PG_ISOLATION=… cargo test --all-features --test isolation_specs`

use std::path::Path;
use std::{env, fs};

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel_locks_harness::{Spec, TestDatabase};

/// Needs notices, which Diesel does not show.
const REFUSED: &str = "insert-conflict-specconflict";

/// The only line that Diesel keeps to itself: what a server says when it ends a session.
const UNSEEN: &str = "FATAL:  terminating connection due to administrator command\n";

#[test]
fn the_lines_are_those_that_postgresql_expects() {
    let directory = env::var("PG_ISOLATION").expect("PG_ISOLATION names src/test/isolation");
    let directory = Path::new(&directory);
    let mut names: Vec<String> = fs::read_dir(directory.join("specs"))
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .filter_map(|file| file.strip_suffix(".spec").map(str::to_owned))
        .filter(|name| name != REFUSED)
        .collect();
    names.sort();
    assert!(!names.is_empty());
    let different: Vec<_> = names
        .iter()
        .filter(|name| !is_as_expected(directory, name))
        .collect();
    assert!(different.is_empty(), "of {}: {different:?}", names.len());
}

fn is_as_expected(directory: &Path, name: &str) -> bool {
    let database = TestDatabase::new().unwrap();
    // The settings under which the expected output was made.
    let mut conn = PgConnection::establish(database.url()).unwrap();
    let own = diesel::dsl::sql::<diesel::sql_types::Text>("SELECT current_database()");
    let own: String = own.get_result(&mut conn).unwrap();
    conn.batch_execute(&format!(
        "ALTER DATABASE {own} SET lc_messages = 'C'; \
         ALTER DATABASE {own} SET datestyle = 'Postgres, MDY'; \
         ALTER DATABASE {own} SET timezone = 'PST8PDT'; \
         ALTER DATABASE {own} SET intervalstyle = 'postgres_verbose';"
    ))
    .unwrap();
    let read = |file: String| fs::read_to_string(directory.join(file)).ok();
    let text = read(format!("specs/{name}.spec")).unwrap();
    let text = text.replace("isolation_regression", &own);
    let connect = || PgConnection::establish(database.url());
    let printed = match Spec::parse(&text).unwrap().run(connect) {
        Ok(transcript) => transcript.to_string().replace(&own, "isolation_regression"),
        Err(error) => panic!("{name}: {error}"),
    };
    let variants = (1..10).map(|variant| format!("expected/{name}_{variant}.out"));
    [format!("expected/{name}.out")]
        .into_iter()
        .chain(variants)
        .filter_map(read)
        .any(|expected| without_rows(&expected).replace(UNSEEN, "") == printed)
}

/// The lines without the tables of rows, the notices and the notifications.
fn without_rows(expected: &str) -> String {
    let lines: Vec<&str> = expected.split('\n').collect();
    let is_rule = |line: &str| line.starts_with('-') && line.chars().all(|c| c == '-' || c == '+');
    let is_end =
        |line: &str| line.starts_with('(') && (line.ends_with(" rows)") || line == "(1 row)");
    let is_message = |line: &str| {
        let rest = line.split_once(": ").map_or("", |(_, rest)| rest);
        ["NOTICE:  ", "WARNING:  ", "INFO:  ", "LOG:  ", "NOTIFY "]
            .iter()
            .any(|start| !line.starts_with("step ") && rest.starts_with(start))
    };
    let mut kept = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        if lines.get(at + 1).is_some_and(|next| is_rule(next)) {
            while !is_end(lines[at]) {
                at += 1;
            }
            // The table ends with an empty line.
            at += 2;
        } else {
            if !is_message(lines[at]) {
                kept.push(lines[at]);
            }
            at += 1;
        }
    }
    kept.join("\n")
}
