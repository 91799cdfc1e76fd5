//! The locking clause on a query: its SQL, what takes it, and what conflicts.

use diesel::connection::SimpleConnection;
use diesel::debug_query;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{QueryFragment, QueryId};
use diesel_locks::prelude::*;
use diesel_locks::row_lock::{AllTables, Strength, Waiting};
use diesel_locks::{LockError, LockTarget, RowLock};
use serial_test::parallel;

use crate::support::schema::{accounts, jobs};
use crate::support::{connect, database, two_sessions};

mod bank {
    diesel::table! {
        bank.branches (id) {
            id -> Integer,
        }
    }
}

/// The SQL from its first locking clause on, without the binds.
fn clause(query: &impl QueryFragment<Pg>) -> String {
    let sql = debug_query::<Pg, _>(query).to_string();
    let start = sql.find(" FOR ").unwrap_or(sql.len());
    let end = sql.find(" -- binds").unwrap();
    sql[start..end].to_owned()
}

#[test]
#[parallel]
fn every_strength_and_every_way_to_wait_has_its_sql() {
    let clause = |query: &dyn QueryFragment<Pg>| clause(&query);
    let query = accounts::table.select(accounts::id);
    assert_eq!(
        clause(&query.lock_rows(RowLock::for_update())),
        " FOR UPDATE"
    );
    assert_eq!(
        clause(&query.lock_rows(RowLock::for_no_key_update())),
        " FOR NO KEY UPDATE"
    );
    assert_eq!(clause(&query.lock_rows(RowLock::for_share())), " FOR SHARE");
    assert_eq!(
        clause(&query.lock_rows(RowLock::for_key_share())),
        " FOR KEY SHARE"
    );
    assert_eq!(
        clause(&query.lock_rows(RowLock::for_update().nowait())),
        " FOR UPDATE NOWAIT"
    );
    assert_eq!(
        clause(&query.lock_rows(RowLock::for_share().skip_locked())),
        " FOR SHARE SKIP LOCKED"
    );
    assert_eq!(
        clause(&query.lock_rows(RowLock::for_update().nowait().of(accounts::table))),
        " FOR UPDATE OF \"accounts\" NOWAIT"
    );
}

#[test]
#[parallel]
fn every_kind_of_query_takes_it_and_runs() {
    let database = database();
    let conn = &mut connect(&database);
    conn.batch_execute("INSERT INTO jobs (account_id, payload) VALUES (1, 'pay')")
        .unwrap();
    conn.begin_test_transaction().unwrap();
    let lock = RowLock::for_update();

    let table = accounts::table.lock_rows(lock);
    assert_eq!(table.load::<(i32, String, i64)>(conn).unwrap().len(), 2);
    let filtered = accounts::table
        .filter(accounts::id.gt(1))
        .select(accounts::id)
        .lock_rows(lock);
    assert_eq!(filtered.load::<i32>(conn).unwrap(), [2]);
    assert_eq!(filtered.first::<i32>(conn).unwrap(), 2);
    assert_eq!(
        filtered.get_result::<i32>(conn).optional().unwrap(),
        Some(2)
    );
    let ordered = accounts::table
        .order(accounts::id.desc())
        .limit(1)
        .offset(1)
        .select(accounts::id)
        .lock_rows(lock);
    assert_eq!(ordered.get_results::<i32>(conn).unwrap(), [1]);
    // Diesel's own methods go on from there.
    let more = accounts::table
        .lock_rows(lock)
        .filter(accounts::id.eq(1))
        .select(accounts::owner);
    assert_eq!(more.first::<String>(conn).unwrap(), "Ada");

    let joined = accounts::table
        .inner_join(jobs::table)
        .select(jobs::payload)
        .lock_rows(lock);
    assert_eq!(joined.load::<String>(conn).unwrap(), ["pay"]);
    let left = accounts::table
        .left_join(jobs::table)
        .order(accounts::id)
        .select((accounts::id, jobs::payload.nullable()))
        .lock_rows(lock.of(accounts::table));
    assert_eq!(
        left.load::<(i32, Option<String>)>(conn).unwrap(),
        [(1, Some("pay".to_owned())), (2, None)]
    );

    let boxed = || {
        accounts::table
            .select(accounts::id)
            .order(accounts::id)
            .into_boxed::<Pg>()
    };
    assert_eq!(boxed().lock_rows(lock).load::<i32>(conn).unwrap(), [1, 2]);
    assert_eq!(
        boxed()
            .lock_rows(lock.skip_locked())
            .first::<i32>(conn)
            .unwrap(),
        1
    );
    assert_eq!(
        clause(&boxed().lock_rows(lock.of(accounts::table))),
        " FOR UPDATE OF \"accounts\""
    );

    let other = diesel::alias!(accounts as other);
    let aliased = other.lock_rows(lock.of(other));
    assert_eq!(clause(&aliased), " FOR UPDATE OF \"other\"");
    assert_eq!(aliased.load::<(i32, String, i64)>(conn).unwrap().len(), 2);
    let both = accounts::table
        .inner_join(other.on(other.field(accounts::id).eq(accounts::id)))
        .select((accounts::id, other.field(accounts::id)))
        .lock_rows(lock.of((accounts::table, other)).nowait());
    assert_eq!(
        clause(&both),
        " FOR UPDATE OF \"accounts\", \"other\" NOWAIT"
    );
    assert_eq!(both.load::<(i32, i32)>(conn).unwrap().len(), 2);
    assert_eq!(conn.select_locked::<(i32, i32), _>(both).unwrap().len(), 2);
}

#[test]
#[parallel]
fn two_clauses_lock_two_tables_in_two_ways() {
    let database = database();
    let conn = &mut connect(&database);
    conn.begin_test_transaction().unwrap();
    let (update, share) = (
        RowLock::for_update().of(accounts::table),
        RowLock::for_share().of(jobs::table).skip_locked(),
    );
    let sql = " FOR UPDATE OF \"accounts\" FOR SHARE OF \"jobs\" SKIP LOCKED";
    let query = || accounts::table.inner_join(jobs::table).select(accounts::id);
    let twice = query().lock_rows(update).lock_rows(share);
    assert_eq!(clause(&twice), sql);
    assert_eq!(conn.select_locked::<i32, _>(twice).unwrap(), [0; 0]);
    let boxed = query()
        .into_boxed::<Pg>()
        .lock_rows(update)
        .lock_rows(share);
    assert_eq!(clause(&boxed), sql);
    assert_eq!(conn.select_locked::<i32, _>(boxed).unwrap(), [0; 0]);
}

#[test]
#[parallel]
fn a_third_clause_takes_the_place_of_none() {
    let clauses = [
        RowLock::for_update(),
        RowLock::for_update(),
        RowLock::for_update(),
    ];
    let [first, second, third] = clauses.map(|lock| lock.of(accounts::table).skip_locked());
    let sql = " FOR UPDATE OF \"accounts\" SKIP LOCKED".repeat(3);
    let thrice = (accounts::table.lock_rows(first).lock_rows(second)).lock_rows(third);
    assert_eq!(clause(&thrice), sql);
    let boxed = accounts::table.into_boxed::<Pg>();
    let thrice = boxed.lock_rows(first).lock_rows(second).lock_rows(third);
    assert_eq!(clause(&thrice), sql);
    // Nor of what Diesel's own methods have put there.
    let two = (accounts::table.for_update().skip_locked()).lock_rows(RowLock::for_share());
    assert_eq!(clause(&two), " FOR UPDATE SKIP LOCKED FOR SHARE");
}

#[test]
#[parallel]
fn nowait_is_for_each_clause_and_skip_locked_stays_for_a_try() {
    let (_database, mut here, mut there) = two_sessions(database());
    here.batch_execute("INSERT INTO jobs (account_id, payload) VALUES (1, 'pay')")
        .unwrap();
    here.begin_test_transaction().unwrap();
    there.begin_test_transaction().unwrap();
    let query = || accounts::table.inner_join(jobs::table).select(accounts::id);
    let (update, share) = (
        RowLock::for_update().of(accounts::table),
        RowLock::for_share().of(jobs::table),
    );
    macro_rules! refused {
        ($query:expr) => {
            let refused = there.transaction(|there| there.execute_locked_nowait($query));
            assert!(
                matches!(refused, Err(LockError::NotAvailable { .. })),
                "{refused:?}"
            );
        };
    }
    here.transaction::<_, LockError, _>(|here| {
        here.execute_for_update(accounts::table)?;
        refused!(query().lock_rows(update).lock_rows(share));
        refused!(query().lock_rows(share).lock_rows(update));
        refused!(query().into_boxed().lock_rows(update).lock_rows(share));
        refused!(query().into_boxed().lock_rows(share).lock_rows(update));
        refused!(query().for_update());
        refused!(query().for_update().skip_locked());
        Ok(())
    })
    .unwrap();
    here.batch_execute("ROLLBACK; BEGIN").unwrap();
    here.execute_for_update(accounts::table.find(1)).unwrap();
    let left = accounts::table.select(accounts::id);
    let skip = left.lock_rows(RowLock::for_update().skip_locked());
    assert_eq!(there.select_locked::<i32, _>(skip).unwrap(), [2]);
    assert_eq!(
        there.try_select_locked::<i32, _>(skip).unwrap(),
        Some(vec![2])
    );
    let timeout = std::time::Duration::from_secs(60);
    let skipped = there.select_locked_timeout::<i32, _>(skip, timeout);
    assert_eq!(skipped.unwrap(), [2]);
    let nowait = left.lock_rows(RowLock::for_update().nowait());
    assert_eq!(there.try_select_locked::<i32, _>(nowait).unwrap(), None);
    assert_eq!(
        there
            .try_select_locked::<i32, _>(left.for_update())
            .unwrap(),
        None
    );
}

#[test]
#[parallel]
fn a_locked_query_is_a_subquery() {
    let database = database();
    let conn = &mut connect(&database);
    conn.transaction::<_, LockError, _>(|conn| {
        // Diesel wants an alias where a query and its subquery are of the same table.
        let queue = diesel::alias!(accounts as queue);
        let next = queue
            .order(queue.field(accounts::id))
            .limit(1)
            .select(queue.field(accounts::id))
            .lock_rows(RowLock::for_update().skip_locked());
        let updated = diesel::update(accounts::table.filter(accounts::id.eq_any(next)))
            .set(accounts::balance.eq(0))
            .returning(accounts::id)
            .get_results::<i32>(conn)?;
        assert_eq!(updated, [1]);
        Ok(())
    })
    .unwrap();
}

#[test]
#[parallel]
fn tables_in_schemas_are_locked_by_their_bare_names() {
    let database = database();
    let conn = &mut connect(&database);
    conn.batch_execute(
        "CREATE SCHEMA bank; CREATE TABLE bank.branches (id integer PRIMARY KEY); \
         INSERT INTO bank.branches VALUES (7)",
    )
    .unwrap();
    conn.begin_test_transaction().unwrap();
    use bank::branches::dsl::{branches, id};
    let query = branches
        .select(id)
        .lock_rows(RowLock::for_update().of(branches));
    assert_eq!(clause(&query), " FOR UPDATE OF \"branches\"");
    assert_eq!(conn.select_locked::<i32, _>(query).unwrap(), [7]);
}

#[test]
#[parallel]
fn each_distinct_sql_is_prepared_once() {
    fn id<Q: QueryId>(_: &Q) -> Option<std::any::TypeId> {
        Q::query_id()
    }
    let query = accounts::table.select(accounts::id);
    let other = diesel::alias!(accounts as other);
    let ids = [
        id(&query.lock_rows(RowLock::for_update())),
        id(&query.lock_rows(RowLock::for_share())),
        id(&query.lock_rows(RowLock::for_update().nowait())),
        id(&query.lock_rows(RowLock::for_update().skip_locked())),
        id(&query.lock_rows(RowLock::for_update().of(accounts::table))),
        id(&query.lock_rows(RowLock::for_update().of((accounts::table, jobs::table)))),
        id(&query.lock_rows(RowLock::for_update().of(other))),
        id(&query
            .lock_rows(RowLock::for_update())
            .lock_rows(RowLock::for_share())),
    ];
    for (at, one) in ids.iter().enumerate() {
        assert!(one.is_some());
        assert!(ids[at + 1..].iter().all(|another| one != another));
    }
}

/// Whether `second` conflicts with `first` on the same row.
fn conflicts<A: Strength, B: Strength>(
    holder: &mut PgConnection,
    other: &mut PgConnection,
    first: RowLock<A, AllTables, Waiting>,
    second: RowLock<B, AllTables, Waiting>,
) -> bool {
    let account = accounts::table.find(1).select(accounts::id);
    holder
        .transaction::<_, LockError, _>(|holder| {
            holder.select_locked::<i32, _>(account.lock_rows(first))?;
            let attempt = other.transaction(|other| {
                other.select_locked::<i32, _>(account.lock_rows(second.nowait()))
            });
            match attempt {
                Ok(_) => Ok(false),
                Err(LockError::NotAvailable { target, .. }) => {
                    let relation = "accounts".to_owned();
                    assert_eq!(target, LockTarget::Row { relation });
                    Ok(true)
                }
                Err(error) => Err(error),
            }
        })
        .unwrap()
}

#[test]
#[parallel]
fn the_sixteen_pairs_conflict_as_documented() {
    let (_database, mut holder, mut other) = two_sessions(database());
    // A row of section 13.3.2's table 13.3, for each strength that is held.
    macro_rules! row {
        ($held:ident: $($wanted:ident $conflicts:literal),*) => {$(
            let found = conflicts(&mut holder, &mut other, RowLock::$held(), RowLock::$wanted());
            assert_eq!(found, $conflicts == 1, "{} then {}", stringify!($held), stringify!($wanted));
        )*};
    }
    row!(for_key_share: for_key_share 0, for_share 0, for_no_key_update 0, for_update 1);
    row!(for_share: for_key_share 0, for_share 0, for_no_key_update 1, for_update 1);
    row!(for_no_key_update: for_key_share 0, for_share 1, for_no_key_update 1, for_update 1);
    row!(for_update: for_key_share 1, for_share 1, for_no_key_update 1, for_update 1);
}
