//! Migrations that end whoever is in their way.

use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel_locks::{End, MigrationEvent, MigrationLock};
use diesel_locks_harness::TempPostgres;

use crate::fixture::All;
use crate::support::backend_pid;

#[test]
fn whoever_blocks_a_migration_with_priority_is_ended_and_told_of() {
    let server = TempPostgres::start().unwrap();
    let connect = || PgConnection::establish(server.url());
    let mut conn = connect().unwrap();
    conn.batch_execute("CREATE TABLE a (id int); CREATE ROLE app LOGIN; GRANT SELECT ON a TO app")
        .unwrap();
    // Superusers are spared.
    let url = server.url().replace("postgres@", "app@");
    let mut holder = PgConnection::establish(&url).unwrap();
    let pid = backend_pid(&mut holder);
    holder.batch_execute("BEGIN; SELECT * FROM a").unwrap();
    let mut ended = Vec::new();
    MigrationLock::new()
        .prioritize(connect, End::Terminate, Duration::from_millis(20))
        .on_progress(|event| {
            if let MigrationEvent::InTheWay { session, .. } = event {
                ended.push((session.session.pid, session.is_ended()));
            }
        })
        .run_pending(&mut conn, &All::of([("1", "ALTER TABLE a ADD b int")]))
        .unwrap();
    assert_eq!(ended, [(pid, true)]);
    holder.batch_execute("SELECT 1").unwrap_err();
}
