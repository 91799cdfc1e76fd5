//! Another role's functions, operators, views and types, which say so when they are used.

use std::collections::BTreeSet;

use diesel::connection::SimpleConnection;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::{Bool, Nullable, Text};

use crate::tokens::{Token, tokens};

/// Sets them in the database, for all sessions that begin later.
pub(crate) fn set(conn: &mut PgConnection, search_path: &str) {
    conn.batch_execute(include_str!("traps.sql")).unwrap();
    conn.batch_execute(&format!(
        "ALTER DATABASE postgres SET search_path = {search_path}"
    ))
    .unwrap();
}

/// Forgets that any was used.
pub(crate) fn reset(conn: &mut PgConnection) {
    conn.batch_execute("COPY (SELECT WHERE false) TO PROGRAM 'cat > traps'")
        .unwrap();
}

/// Those that were used.
pub(crate) fn sprung(conn: &mut PgConnection) -> BTreeSet<String> {
    let file = sql::<Nullable<Text>>("pg_catalog.pg_read_file('traps', 0, 10000000, true)");
    let file: Option<String> = diesel::select(file).get_result(conn).unwrap();
    let file = file.unwrap_or_default();
    file.lines().map(str::to_owned).collect()
}

const EXISTS: &str = "EXISTS ( \
    SELECT proname FROM pg_proc WHERE pronamespace = 'hostile'::regnamespace AND proname = '$' \
    UNION ALL \
    SELECT oprname FROM pg_operator WHERE oprnamespace = 'hostile'::regnamespace AND oprname = '$' \
    UNION ALL \
    SELECT typname FROM pg_type WHERE typnamespace = 'hostile'::regnamespace AND typname = '$')";

/// What the statements name for which no trap is set.
pub(crate) fn missing(conn: &mut PgConnection, statements: &BTreeSet<String>) -> Vec<String> {
    let named: BTreeSet<String> = statements.iter().flat_map(|sql| named(sql)).collect();
    assert!(named.len() > 30, "{named:?}");
    let mut is_set = |name: &str| -> bool {
        let exists = EXISTS.replace("$", &name.replace('\'', "''"));
        diesel::select(sql::<Bool>(&exists))
            .get_result(conn)
            .unwrap()
    };
    named.into_iter().filter(|name| !is_set(name)).collect()
}

/// What a statement says to be of `pg_catalog`.
fn named(sql: &str) -> Vec<String> {
    let tokens = tokens(sql);
    let windows = tokens.windows(3);
    let named = windows.filter_map(|three| match three {
        [schema, Token::Mark('.'), Token::Operator(name)] if is_own(schema) => Some(name.clone()),
        [schema, Token::Mark('.'), name] if is_own(schema) => name.name().map(str::to_owned),
        _ => None,
    });
    named.collect()
}

fn is_own(schema: &Token) -> bool {
    schema.name() == Some("pg_catalog")
}
