use std::cell::RefCell;

use diesel::prelude::*;
use diesel::sql_types::Text;
use diesel_locks_harness::TestDatabase;
use proptest::prelude::*;

use super::*;
use crate::hostile::{cases, server_text, text};

fn key() -> impl Strategy<Value = LockKey> {
    prop_oneof![
        any::<i64>().prop_map(LockKey::Single),
        any::<(i32, i32)>().prop_map(|(class, object)| LockKey::Pair(class, object)),
    ]
}

proptest! {
    #![proptest_config(cases(500))]

    #[test]
    fn a_key_is_read_as_it_is_printed(key in key()) {
        prop_assert_eq!(parse(&numbers(key)), Ok(key));
        if let LockKey::Pair(class, object) = key {
            prop_assert_eq!(parse(&format!("({class}, {object})")), Ok(key));
            prop_assert_eq!(parse(&format!("{class},{object}")), Ok(key));
            for wrong in ["(", "((", ")", "()"] {
                let text = format!("{wrong}{class},{object}");
                prop_assert!(parse(&text).is_err(), "{text}");
            }
        }
    }

    #[test]
    fn a_name_of_another_ecosystem_may_be_any(name in text()) {
        prop_assert_eq!(parse(&format!("sqlx:{name}")), Ok(LockKey::sqlx(&name)));
        prop_assert_eq!(parse(&format!("ruby:{name}")), Ok(LockKey::ruby_with_advisory_lock(&name)));
        let django = parse(&format!("django_pglock:{name}"));
        prop_assert_eq!(django, Ok(LockKey::django_pglock(&name)));
    }

    #[test]
    fn any_text_is_a_key_or_refused(text in text()) {
        if let Ok(LockKey::Single(number)) = parse(&text) {
            prop_assert!(text.contains(':') || text.parse() == Ok(number));
        }
    }
}

/// As the server reads it, with either meaning of a backslash.
#[test]
fn a_literal_is_the_text() {
    let database = TestDatabase::new().unwrap();
    let conn = RefCell::new(PgConnection::establish(database.url()).unwrap());
    proptest!(cases(64), |(text in server_text(), standard: bool)| {
        let setting = if standard { "on" } else { "off" };
        let mut conn = conn.borrow_mut();
        let set = format!("SET standard_conforming_strings = {setting}; SET escape_string_warning = off");
        diesel::connection::SimpleConnection::batch_execute(&mut *conn, &set).unwrap();
        let literal = literal(&text);
        let read: String = diesel::dsl::sql::<Text>(&format!("SELECT {literal}::text"))
            .get_result(&mut *conn)
            .unwrap();
        prop_assert_eq!(read, text);
    });
}
