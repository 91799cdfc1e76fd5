//! Whose a session of the server is, where a pooler may lend it to others.

use diesel::connection::SimpleConnection;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::Text;
use diesel_locks::LockError;
use diesel_locks::prelude::*;
use serial_test::parallel;

use crate::support::{database, two_sessions};

fn mark(conn: &mut PgConnection) -> String {
    sql::<Text>("SELECT current_setting('diesel_locks.owner')")
        .get_result(conn)
        .unwrap()
}

#[test]
#[parallel]
fn each_connection_marks_its_session_with_a_name_of_its_own() {
    let (_database, mut here, mut there) = two_sessions(database());
    for conn in [&mut here, &mut there] {
        conn.advisory_lock(1).unwrap().release().unwrap();
    }
    let marked = mark(&mut here);
    assert_eq!(marked.len(), 16);
    assert_ne!(marked, mark(&mut there));
    here.advisory_lock(1).unwrap().release().unwrap();
    assert_eq!(mark(&mut here), marked);
}

#[test]
#[parallel]
fn a_session_that_another_one_has_marked_is_taken_over_if_no_lock_was_left_there() {
    let (_database, mut here, mut there) = two_sessions(database());
    let left = "SET diesel_locks.owner = 'another'; SELECT pg_advisory_lock(7)";
    here.batch_execute(left).unwrap();
    let refused = here.advisory_lock(1).map(drop);
    assert!(
        matches!(refused, Err(LockError::SharedSession { .. })),
        "{refused:?}"
    );
    assert_eq!(mark(&mut here), "another");
    there
        .batch_execute("SET diesel_locks.owner = 'another'")
        .unwrap();
    there.advisory_lock(1).unwrap().release().unwrap();
    assert_ne!(mark(&mut there), "another");
}
