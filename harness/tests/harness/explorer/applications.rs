//! Pieces of applications, half of them wrong in a way that is well known.

use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error};
use diesel_locks::{LockError, Retry, prelude::*};
use diesel_locks_harness::{Exploration, Explorer, Problem, TestDatabase};
use serial_test::parallel;

use super::tables::{filled, with_tables};

diesel::table! { seats (id) { id -> Integer, holder -> Nullable<Text>, } }
diesel::table! { coupons (code) { code -> Text, used -> Bool, } }
diesel::table! { orders (id) { id -> Integer, coupon -> Text, } }
diesel::table! { users (id) { id -> Integer, name -> Text, } }
diesel::table! { tasks (id) { id -> Integer, done_by -> Nullable<Text>, } }
diesel::table! { outbox (id) { id -> Integer, sent -> Integer, } }
diesel::table! { purses (id) { id -> Integer, amount -> BigInt, } }
diesel::table! { counters (name) { name -> Text, hits -> BigInt, } }
diesel::table! { totals (id) { id -> Integer, sum -> BigInt, } }

const SCHEMA: &str = "
    CREATE TABLE seats (id integer PRIMARY KEY, holder text);
    CREATE TABLE coupons (code text PRIMARY KEY, used boolean NOT NULL);
    CREATE TABLE orders (id serial PRIMARY KEY, coupon text NOT NULL REFERENCES coupons);
    CREATE TABLE users (id serial PRIMARY KEY, name text NOT NULL);
    CREATE TABLE tasks (id integer PRIMARY KEY, done_by text);
    CREATE TABLE outbox (id integer PRIMARY KEY, sent integer NOT NULL);
    CREATE TABLE purses (id integer PRIMARY KEY, amount bigint NOT NULL);
    CREATE TABLE counters (name text PRIMARY KEY, hits bigint NOT NULL);
    CREATE TABLE totals (id integer PRIMARY KEY, sum bigint NOT NULL);";

const FILL: &str = "
    DELETE FROM seats; DELETE FROM orders; DELETE FROM coupons; DELETE FROM users;
    DELETE FROM tasks; DELETE FROM outbox; DELETE FROM purses; DELETE FROM counters;
    DELETE FROM totals;
    INSERT INTO seats VALUES (1), (2);
    INSERT INTO coupons VALUES ('spring', false);
    INSERT INTO tasks VALUES (1), (2), (3);
    INSERT INTO outbox VALUES (1, 0), (2, 0);
    INSERT INTO purses VALUES (1, 100), (2, 100);
    INSERT INTO totals VALUES (1, 200);";

fn explorer(database: &TestDatabase) -> Explorer<'_, PgConnection> {
    filled(database, FILL).serializable()
}

/// Two sessions that do the same.
fn explore<T: std::fmt::Debug, E: std::fmt::Debug>(
    work: impl Fn(&mut PgConnection, &'static str) -> Result<T, E> + Send + Sync + Copy,
) -> Exploration {
    let database = with_tables(SCHEMA);
    let explorer = explorer(&database)
        .code("ada", move |conn| work(conn, "Ada"))
        .code("bob", move |conn| work(conn, "Bob"));
    let exploration = explorer.explore().unwrap();
    for run in exploration.failures() {
        let again = explorer.replay(run.schedule()).unwrap();
        assert_eq!(again.schedule(), run.schedule());
        assert!(!again.problems().is_empty());
    }
    exploration
}

#[track_caller]
fn is_right(exploration: &Exploration) {
    exploration.assert_passed();
    assert!(exploration.is_complete(), "{:#?}", exploration.list());
}

#[track_caller]
fn is_wrong(exploration: &Exploration, name: &str) {
    let is_named = |problem: &Problem| {
        matches!(problem, Problem::NotSerializable { anomaly: Some(anomaly), .. }
            if anomaly.starts_with(name))
    };
    let mut problems = exploration.failures().iter().flat_map(|run| run.problems());
    assert!(problems.any(is_named), "{exploration}");
}

#[test]
#[parallel]
fn a_seat_is_booked_twice_without_a_lock_and_once_with_one() {
    let book = |conn: &mut PgConnection, who: &str, locks: bool| {
        conn.transaction(|conn| {
            let seat = seats::table.find(1).select(seats::holder);
            let holder: Option<String> = match locks {
                true => seat.for_update().first(conn)?,
                false => seat.first(conn)?,
            };
            if holder.is_some() {
                return QueryResult::Ok(false);
            }
            let seat = diesel::update(seats::table.find(1));
            seat.set(seats::holder.eq(who)).execute(conn)?;
            Ok(true)
        })
    };
    is_wrong(&explore(|conn, who| book(conn, who, false)), "lost update");
    is_right(&explore(|conn, who| book(conn, who, true)));
}

#[test]
#[parallel]
fn a_coupon_is_used_twice_unless_the_update_says_whether_it_was() {
    let twice = |conn: &mut PgConnection, _: &str| {
        conn.transaction(|conn| {
            let coupon = coupons::table.find("spring");
            let used: bool = coupon.select(coupons::used).first(conn)?;
            if used {
                return QueryResult::Ok(false);
            }
            diesel::insert_into(orders::table)
                .values(orders::coupon.eq("spring"))
                .execute(conn)?;
            diesel::update(coupon)
                .set(coupons::used.eq(true))
                .execute(conn)?;
            Ok(true)
        })
    };
    let once = |conn: &mut PgConnection, _: &str| {
        conn.transaction(|conn| {
            let unused = coupons::table
                .find("spring")
                .filter(coupons::used.eq(false));
            if diesel::update(unused)
                .set(coupons::used.eq(true))
                .execute(conn)?
                == 0
            {
                return QueryResult::Ok(false);
            }
            diesel::insert_into(orders::table)
                .values(orders::coupon.eq("spring"))
                .execute(conn)?;
            Ok(true)
        })
    };
    let exploration = explore(twice);
    assert!(!exploration.failures().is_empty());
    is_right(&explore(once));
}

#[test]
#[parallel]
fn a_name_is_taken_twice_by_checking_first_and_once_under_a_lock() {
    let register = |conn: &mut PgConnection, locks: bool| {
        conn.transaction(|conn| {
            if locks {
                conn.advisory_xact_lock("users")?;
            }
            let same = users::table.filter(users::name.eq("grace")).count();
            let same: i64 = same.get_result(conn)?;
            if same == 0 {
                diesel::insert_into(users::table)
                    .values(users::name.eq("grace"))
                    .execute(conn)?;
            }
            Ok::<_, LockError>(same == 0)
        })
    };
    is_wrong(&explore(|conn, _| register(conn, false)), "phantom");
    is_right(&explore(|conn, _| register(conn, true)));
}

#[test]
#[parallel]
fn a_task_is_done_twice_without_skip_locked_and_each_by_one_with_it() {
    let take = |conn: &mut PgConnection, who: &str| {
        conn.transaction(|conn| {
            let next = tasks::table
                .filter(tasks::done_by.is_null())
                .order(tasks::id)
                .limit(1);
            let next: i32 = next.select(tasks::id).first(conn)?;
            diesel::update(tasks::table.find(next))
                .set(tasks::done_by.eq(who))
                .execute(conn)?;
            QueryResult::Ok(next)
        })
    };
    is_wrong(&explore(take), "lost update");
    let skip = |conn: &mut PgConnection, who: &str| {
        conn.transaction(|conn| {
            let next = tasks::table
                .filter(tasks::done_by.is_null())
                .order(tasks::id)
                .limit(1);
            let next: i32 = next
                .select(tasks::id)
                .for_update()
                .skip_locked()
                .first(conn)?;
            diesel::update(tasks::table.find(next))
                .set(tasks::done_by.eq(who))
                .execute(conn)?;
            QueryResult::Ok(next)
        })
    };
    is_right(&explore(skip));
}

#[test]
#[parallel]
fn an_outbox_is_sent_twice_unless_it_is_locked() {
    let send = |conn: &mut PgConnection, locks: bool| {
        conn.transaction(|conn| {
            let unsent = outbox::table.filter(outbox::sent.eq(0)).order(outbox::id);
            let unsent = unsent.select(outbox::id);
            let messages: Vec<i32> = match locks {
                true => unsent.for_update().load(conn)?,
                false => unsent.load(conn)?,
            };
            for id in &messages {
                let message = diesel::update(outbox::table.find(id));
                message
                    .set(outbox::sent.eq(outbox::sent + 1))
                    .execute(conn)?;
            }
            QueryResult::Ok(messages.len())
        })
    };
    assert!(!explore(|conn, _| send(conn, false)).failures().is_empty());
    let locked = explore(|conn, _| send(conn, true));
    locked.assert_passed();
}

#[test]
#[parallel]
fn a_balance_of_two_purses_is_overdrawn_unless_it_is_serializable_and_tried_again() {
    let withdraw = |conn: &mut PgConnection, from: i32| {
        let sum: Vec<i64> = purses::table.select(purses::amount).load(conn)?;
        if sum.iter().sum::<i64>() < 150 {
            return Ok::<_, LockError>(false);
        }
        let purse = diesel::update(purses::table.find(from));
        purse
            .set(purses::amount.eq(purses::amount - 100))
            .execute(conn)?;
        Ok(true)
    };
    let purse = |who: &str| if who == "Ada" { 1 } else { 2 };
    let plain = move |conn: &mut PgConnection, who: &'static str| {
        let from = purse(who);
        conn.build_transaction()
            .repeatable_read()
            .run(|conn| withdraw(conn, from))
    };
    is_wrong(&explore(plain), "write skew");
    let retried = move |conn: &mut PgConnection, who: &'static str| {
        let from = purse(who);
        loop {
            let done = conn
                .build_transaction()
                .serializable()
                .run(|conn| withdraw(conn, from));
            match done {
                Err(error) if error.is_retryable() => {}
                done => return done,
            }
        }
    };
    explore(retried).assert_passed();
}

fn transfer(conn: &mut PgConnection, from: i32, to: i32) -> Result<(), LockError> {
    for (purse, change) in [(from, -10), (to, 10)] {
        let purse = diesel::update(purses::table.find(purse));
        purse
            .set(purses::amount.eq(purses::amount + change))
            .execute(conn)?;
    }
    Ok(())
}

#[test]
#[parallel]
fn transfers_in_opposite_orders_deadlock_unless_they_are_tried_again() {
    let both = |who: &str| if who == "Ada" { (1, 2) } else { (2, 1) };
    let once = explore(move |conn, who| {
        let (from, to) = both(who);
        conn.transaction(|conn| transfer(conn, from, to))
    });
    let mut problems = once.failures().iter().flat_map(|run| run.problems());
    assert!(
        problems.all(|problem| matches!(problem, Problem::Deadlock { .. })),
        "{once}"
    );
    assert!(!once.failures().is_empty());
    let retried = explore(move |conn, who| {
        let (from, to) = both(who);
        conn.retrying(Retry::new())
            .transaction(|conn| transfer(conn, from, to))
    });
    is_right(&retried);
}

#[test]
#[parallel]
fn a_counter_counts_by_upsert_and_not_by_insert_after_update() {
    let upsert = |conn: &mut PgConnection, _: &str| {
        diesel::insert_into(counters::table)
            .values((counters::name.eq("home"), counters::hits.eq(1)))
            .on_conflict(counters::name)
            .do_update()
            .set(counters::hits.eq(counters::hits + 1))
            .execute(conn)
    };
    is_right(&explore(upsert));
    let by_hand = |conn: &mut PgConnection, _: &str| {
        let hits = diesel::update(counters::table.find("home"));
        if hits
            .set(counters::hits.eq(counters::hits + 1))
            .execute(conn)?
            > 0
        {
            return Ok("updated");
        }
        let first = (counters::name.eq("home"), counters::hits.eq(1));
        match diesel::insert_into(counters::table)
            .values(first)
            .execute(conn)
        {
            Ok(_) => Ok("inserted"),
            Err(Error::DatabaseError(DatabaseErrorKind::UniqueViolation, _)) => Ok("lost"),
            Err(error) => Err(error),
        }
    };
    assert!(!explore(by_hand).failures().is_empty());
}

#[test]
#[parallel]
fn a_cached_total_goes_stale_unless_it_is_changed_by_difference() {
    let cached = |conn: &mut PgConnection, who: &str, recomputes: bool| {
        let id = if who == "Ada" { 1 } else { 2 };
        conn.transaction(|conn| {
            let purse = diesel::update(purses::table.find(id));
            purse
                .set(purses::amount.eq(purses::amount + 5))
                .execute(conn)?;
            let total = diesel::update(totals::table.find(1));
            match recomputes {
                true => {
                    let amounts: Vec<i64> = purses::table.select(purses::amount).load(conn)?;
                    total
                        .set(totals::sum.eq(amounts.iter().sum::<i64>()))
                        .execute(conn)
                }
                false => total.set(totals::sum.eq(totals::sum + 5)).execute(conn),
            }
        })
    };
    assert!(
        !explore(|conn, who| cached(conn, who, true))
            .failures()
            .is_empty()
    );
    is_right(&explore(|conn, who| cached(conn, who, false)));
}

#[test]
#[parallel]
fn two_transactions_where_one_was_needed_show_what_is_between_them() {
    let database = with_tables(SCHEMA);
    let pay = |conn: &mut PgConnection, whole: bool| {
        let half = |conn: &mut PgConnection, id: i32, change: i64| {
            let purse = diesel::update(purses::table.find(id));
            purse
                .set(purses::amount.eq(purses::amount + change))
                .execute(conn)
        };
        match whole {
            true => conn.transaction(|conn| half(conn, 1, -10).and_then(|_| half(conn, 2, 10))),
            false => half(conn, 1, -10).and_then(|_| half(conn, 2, 10)),
        }
    };
    let sum = |conn: &mut PgConnection| -> QueryResult<i64> {
        let amounts: Vec<i64> = purses::table.select(purses::amount).load(conn)?;
        Ok(amounts.iter().sum())
    };
    for whole in [false, true] {
        let exploration = explorer(&database)
            .code("pays", move |conn| pay(conn, whole))
            .code("audit", sum)
            .explore()
            .unwrap();
        match whole {
            true => is_right(&exploration),
            false => is_wrong(&exploration, "read skew"),
        }
    }
}
