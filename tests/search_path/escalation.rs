//! What it is about: a role that may create a function, or only an aggregate, in a schema that
//! others have in their path, and a superuser who takes a lock.

use diesel::connection::SimpleConnection;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::Bool;
use diesel_locks::LockError;
use diesel_locks::prelude::*;
use diesel_locks_harness::{Contention, TempPostgres};
use serial_test::parallel;

use crate::tour;

/// A server on which mallory has created functions, one of which makes her a superuser as soon as a
/// superuser calls it.
fn server(functions: &str) -> TempPostgres {
    let server = tour::server();
    // As everybody may up to PostgreSQL 14.
    PgConnection::establish(server.url())
        .unwrap()
        .batch_execute("CREATE ROLE mallory LOGIN; GRANT CREATE ON SCHEMA public TO mallory")
        .unwrap();
    let url = server.url().replace("postgres@", "mallory@");
    let mut mallory = PgConnection::establish(&url).unwrap();
    mallory
        .batch_execute(
            "CREATE FUNCTION public.take_over() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
                 IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
                     ALTER ROLE mallory SUPERUSER;
                 END IF;
             END $$",
        )
        .unwrap();
    mallory.batch_execute(functions).unwrap();
    assert!(!mallory_is_superuser(&server));
    server
}

fn mallory_is_superuser(server: &TempPostgres) -> bool {
    let mallory = sql::<Bool>("SELECT rolsuper FROM pg_roles WHERE rolname = 'mallory'");
    let mut conn = PgConnection::establish(server.url()).unwrap();
    mallory.get_result(&mut conn).unwrap()
}

#[test]
#[parallel]
fn a_superuser_whose_locks_are_refused_makes_nobody_a_superuser() {
    let server = server(
        "CREATE FUNCTION public.counted(n bigint, boolean) RETURNS bigint LANGUAGE plpgsql AS $$
             BEGIN PERFORM public.take_over(); RETURN n + 1; END
         $$;
         CREATE AGGREGATE public.count(boolean)
             (SFUNC = public.counted, STYPE = bigint, INITCOND = '0')",
    );
    let connect = || PgConnection::establish(server.url()).unwrap();
    let (mut holder, mut superuser) = (connect(), connect());
    let _held = holder.advisory_lock(3).unwrap();
    let refused = superuser.advisory_lock_all_nowait([1, 2, 3, 4]);
    assert!(matches!(refused, Err(LockError::NotAvailable { .. })));
    assert!(!mallory_is_superuser(&server));
}

#[test]
#[parallel]
fn a_superuser_who_watches_a_contention_makes_nobody_a_superuser() {
    let server = server(
        "CREATE FUNCTION public.unnest(integer[]) RETURNS SETOF integer LANGUAGE plpgsql AS $$
             BEGIN
                 PERFORM public.take_over();
                 RETURN QUERY SELECT pg_catalog.unnest($1);
             END
         $$",
    );
    let contention = Contention::new(|| PgConnection::establish(server.url()));
    let outcome = contention.run(|conn| conn.advisory_xact_lock("x")).unwrap();
    assert_eq!(outcome.waited(), 1);
    assert!(!mallory_is_superuser(&server));
}
