#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::cell::RefCell;

use diesel::prelude::*;
use diesel::sql_types::{Array, Nullable, Text};
use diesel_locks_harness::TestDatabase;
use proptest::prelude::*;

use super::quoted;
use crate::hostile::{cases, server_text, text};

fn in_quotes(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

proptest! {
    #![proptest_config(cases(1_000))]

    #[test]
    fn a_name_in_quotes_is_read_as_it_is(schema in text(), table in text()) {
        let both = format!("{}.{}", in_quotes(&schema), in_quotes(&table));
        let is_name = |name: &str| !name.is_empty() && !name.contains('\0');
        let expected = (is_name(&schema) && is_name(&table)).then(|| both.clone());
        prop_assert_eq!(quoted(&both), expected);
    }
}

#[test]
fn the_server_takes_whatever_was_read_as_a_name() {
    let database = TestDatabase::new().unwrap();
    let conn = RefCell::new(PgConnection::establish(database.url()).unwrap());
    proptest!(cases(64), |(names in proptest::collection::vec(server_text(), 1..50))| {
        let names: Vec<_> = names.iter().filter_map(|name| quoted(name)).collect();
        let found = diesel::dsl::sql::<Nullable<Text>>("SELECT pg_catalog.to_regclass(name)::pg_catalog.text FROM pg_catalog.unnest(")
            .bind::<Array<Text>, _>(&names)
            .sql(") AS name")
            .load::<Option<String>>(&mut *conn.borrow_mut());
        prop_assert!(found.is_ok(), "{names:?}: {found:?}");
    });
}
