use diesel::connection::SimpleConnection;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::Integer;
use diesel_locks::prelude::*;
use diesel_locks::{LockError, Retry};

use crate::assert_lost;
use crate::support::eventually;
use crate::support::standby::Pair;

const SCHEMA: &str =
    "CREATE TABLE jobs (id int PRIMARY KEY, done int); INSERT INTO jobs VALUES (1, 0)";

diesel::table! { jobs { id -> Integer, done -> Integer, } }

fn done(conn: &mut PgConnection) -> i32 {
    sql::<Integer>("SELECT done FROM jobs")
        .get_result(conn)
        .unwrap()
}

#[test]
fn a_transaction_with_locks_is_gone_with_its_primary_and_is_not_repeated() {
    let pair = Pair::with(SCHEMA);
    let (mut conn, mut attempts) = (pair.connect_to_old(), 0);
    let result = conn.retrying(Retry::new()).transaction(|conn| {
        attempts += 1;
        conn.advisory_xact_lock_nowait("jobs")?;
        conn.get_for_update_nowait::<(i32, i32), _>(jobs::table.find(1))?;
        diesel::update(jobs::table.find(1))
            .set(jobs::done.eq(1))
            .execute(conn)?;
        pair.fail_over();
        conn.batch_execute("SELECT 1")?;
        Ok::<_, LockError>(())
    });
    assert_lost(result);
    // A connection that is lost is the same one in the next attempt.
    assert_eq!(attempts, 1);
    let mut new = pair.connect_to_new();
    assert_eq!(done(&mut new), 0);
    new.transaction(|new| {
        new.advisory_xact_lock_nowait("jobs")?;
        new.get_for_update_nowait::<(i32, i32), _>(jobs::table.find(1))
            .map(drop)
    })
    .unwrap();
}

#[test]
fn what_a_lock_guards_in_the_database_is_there_if_it_was_replicated() {
    let pair = Pair::with(SCHEMA);
    let mut old = pair.connect_to_old();
    old.transaction_with_advisory_lock("jobs", |old| {
        old.batch_execute("SET LOCAL synchronous_commit = on; UPDATE jobs SET done = 1")?;
        Ok::<_, LockError>(())
    })
    .unwrap();
    let mut new = pair.connect_to_new();
    eventually(|| done(&mut new) == 1);
    pair.fail_over();
    assert_eq!(done(&mut new), 1);
}
