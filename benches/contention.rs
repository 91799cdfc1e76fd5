//! What the harness adds to a contention: two transactions that try to lock one row, with and
//! without it. Both open their two connections anew each time.

#[path = "../tests/support/schema.rs"]
mod schema;

use criterion::{Criterion, criterion_group, criterion_main};
use diesel::prelude::*;
use diesel_locks::LockError;
use diesel_locks::prelude::*;
use diesel_locks_harness::{Contention, TestDatabase};
use diesel_migrations::{EmbeddedMigrations, embed_migrations};
use schema::accounts;

const MIGRATIONS: EmbeddedMigrations = embed_migrations!();

fn lock_account(conn: &mut PgConnection) -> Result<(), LockError> {
    conn.execute_for_update_nowait(accounts::table.find(1))
        .map(drop)
}

fn contention(criterion: &mut Criterion) {
    let database = TestDatabase::new().unwrap().migrated(MIGRATIONS).unwrap();
    let connect = || PgConnection::establish(database.url());
    let mut group = criterion.benchmark_group("two contenders, NOWAIT");
    group.bench_function("without the harness", |bencher| {
        bencher.iter(|| {
            let mut happy = connect().unwrap();
            let mut unhappy = connect().unwrap();
            happy
                .transaction(|happy| {
                    lock_account(happy)?;
                    unhappy.transaction(lock_account).unwrap_err();
                    Ok::<_, LockError>(())
                })
                .unwrap();
        });
    });
    group.bench_function("with the harness", |bencher| {
        let contention = Contention::new(connect);
        bencher.iter(|| {
            let outcome = contention.run(lock_account).unwrap();
            assert_eq!(outcome.errors().len(), 1);
        });
    });
    group.finish();
}

criterion_group!(benches, contention);
criterion_main!(benches);
