//! What the documentation says of round trips.

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel_locks::MigrationLock;
use diesel_locks_harness::TempPostgres;

use crate::fixture::{All, run};
use crate::support::proxy::Proxy;

const TWO: [(&str, &str); 2] = [
    ("1", "ALTER TABLE a ADD COLUMN b int"),
    ("2", "ALTER TABLE a ADD COLUMN c int"),
];

#[test]
fn a_run_and_a_dry_run_cost_what_is_documented() {
    let server = TempPostgres::start().unwrap();
    let proxy = Proxy::before(&server);
    let mut conn = PgConnection::establish(&proxy.url()).unwrap();
    conn.batch_execute("CREATE TABLE a (id int)").unwrap();
    run(&mut conn, &All(vec![]));
    let mut cost = |work: &mut dyn FnMut(&mut PgConnection)| {
        let before = proxy.answers();
        work(&mut conn);
        proxy.answers() - before
    };
    let mut dry = |migrations: &All| {
        cost(&mut |conn| drop(MigrationLock::new().dry_run(conn, migrations).unwrap()))
    };
    assert_eq!(dry(&All(vec![])), 19);
    assert_eq!(dry(&All::of([TWO[0]])), 19 + 4 + 1);
    // The second one is run without the first too.
    assert_eq!(dry(&All::of(TWO)), 19 + 4 + 1 + 10 + 2);
    let lock_and_versions = 4 + 1 + 3;
    assert_eq!(
        cost(&mut |conn| drop(run(conn, &All(vec![])))),
        lock_and_versions
    );
    let two = cost(&mut |conn| drop(run(conn, &All::of(TWO))));
    assert_eq!(two, lock_and_versions + 2 * (4 + 1));
}
