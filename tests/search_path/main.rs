//! No function, operator, view or type of another role is used by any statement of the crate,
//! wherever it is in `search_path`.

mod escalation;
mod every_method;
mod examples;
mod scanner;
mod statements;
#[path = "../support/mod.rs"]
mod support;
mod tokens;
mod tour;
mod traps;

use std::panic;

use diesel::connection::{InstrumentationEvent, SimpleConnection};
use diesel::prelude::*;
use diesel_locks_harness::TempPostgres;
use serial_test::parallel;
use support::proxy::Proxy;
use tour::Tour;

use crate::scanner::assert_qualified;

fn on_the_wire(prepare: tour::Prepare) {
    let server = tour::server();
    let proxy = Proxy::before(&server);
    let url = &proxy.url();
    Tour { url, prepare }.go();
    let said = proxy.said();
    assert!(said.len() > 100, "{said:#?}");
    assert_qualified(&said);
}

#[test]
#[parallel]
fn whatever_is_sent_says_whose_function_operator_view_or_type_it_means() {
    on_the_wire(|_| ());
}

#[test]
#[parallel]
fn what_is_sent_beside_an_applications_instrumentation_says_it_too() {
    on_the_wire(|conn| conn.set_instrumentation(|_: InstrumentationEvent<'_>| ()));
}

/// Sets the traps, makes the tour, and finds none of them sprung.
fn among_traps(search_path: &str, prepare: tour::Prepare) {
    let server = tour::server();
    let conn = &mut PgConnection::establish(server.url()).unwrap();
    traps::set(conn, search_path);
    let proxy = Proxy::before(&server);
    let url = &proxy.url();
    let tour = panic::catch_unwind(|| Tour { url, prepare }.go());
    // Which is why the tour has failed, if it has.
    let sprung = traps::sprung(conn);
    assert!(sprung.is_empty(), "{sprung:#?}");
    tour.unwrap_or_else(|panic| panic::resume_unwind(panic));
    assert_eq!(traps::missing(conn, &proxy.said()), <[&str; 0]>::default());
}

#[test]
#[parallel]
fn nothing_of_another_role_is_used_where_it_comes_first() {
    among_traps("hostile, pg_catalog, public", |_| ());
}

#[test]
#[parallel]
fn nothing_of_another_role_is_used_where_it_is_the_better_match() {
    among_traps("public, hostile", |conn| {
        conn.set_instrumentation(|_: InstrumentationEvent<'_>| ())
    });
}

/// What a statement springs, in a session that begins now.
fn springs(server: &TempPostgres, statement: &str) -> Vec<String> {
    let mut conn = PgConnection::establish(server.url()).unwrap();
    traps::reset(&mut conn);
    conn.batch_execute(statement).unwrap();
    traps::sprung(&mut conn).into_iter().collect()
}

#[test]
#[parallel]
fn a_trap_is_sprung_by_whatever_says_not_whose_it_is() {
    let server = tour::server();
    let conn = &mut PgConnection::establish(server.url()).unwrap();
    traps::set(conn, "public, hostile");
    let better = "SELECT count(true), ARRAY[1] && ARRAY[2] FROM unnest(ARRAY[3])";
    let sprung = springs(&server, better);
    assert_eq!(
        sprung,
        [
            "&&(integer[], integer[])",
            "count(boolean)",
            "unnest(integer[])"
        ]
    );
    conn.batch_execute("ALTER DATABASE postgres SET search_path = hostile, pg_catalog, public")
        .unwrap();
    for (statement, sprung) in [
        ("SELECT FROM pg_locks", "pg_locks"),
        (
            "SELECT pg_try_advisory_lock(1)",
            "pg_try_advisory_lock(bigint)",
        ),
        ("SELECT count(*)", "count(*)"),
        ("SELECT 1 = 2", "=(integer, integer)"),
        ("SELECT 3 IN (4)", "=(integer, integer)"),
        ("SELECT 'x'::text", "type text"),
    ] {
        assert_eq!(springs(&server, statement), [sprung], "{statement}");
    }
}
