//! Programs that chance has written: with and without what leaves orders out, they come to the
//! same ends.
//!
//! `EXPLORER_PROGRAMS=1000 EXPLORER_SEED=7 cargo test -p diesel_locks_harness --test harness
//! random -- --nocapture` tries more of them, and others.

mod worlds;

use std::env;
use std::fmt::Write;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::Integer;
use serial_test::parallel;
use worlds::{FAMILIES, ROOMS, World};

use super::same_ends::{shown, without_process};
use super::tables::{filled, with_tables};
use crate::support::chance::Chance;

/// A statement, with a bind if there is a `$1`.
#[derive(Debug, Clone)]
struct Op {
    sql: &'static str,
    key: i32,
    reads: bool,
}

#[derive(Debug, Clone)]
struct Work {
    /// None is every statement on its own.
    level: Option<&'static str>,
    ops: Vec<Op>,
    rolls_back: bool,
}

const OTHERS: [&str; 6] = [
    "SELECT pg_advisory_lock($1)",
    "SELECT pg_advisory_unlock_all()",
    "SELECT pg_advisory_xact_lock($1)",
    "SAVEPOINT here",
    "ROLLBACK TO here",
    "SELECT pg_try_advisory_xact_lock($1)::text AS shown",
];

fn work(world: &World, chance: &Chance, most: usize) -> Work {
    let levels = [
        None,
        Some("READ COMMITTED"),
        Some("READ COMMITTED"),
        Some("READ COMMITTED"),
        Some("REPEATABLE READ"),
        Some("SERIALIZABLE"),
    ];
    let level = levels[chance.index(levels.len())];
    let op = |chance: &Chance| {
        let key = 1 + chance.index(2) as i32;
        match chance.index(if level.is_some() { 10 } else { 9 }) {
            0..5 => Op {
                sql: world.writes[chance.index(world.writes.len())],
                key,
                reads: false,
            },
            5..9 => Op {
                sql: world.reads[chance.index(world.reads.len())],
                key,
                reads: true,
            },
            _ => {
                let sql = OTHERS[chance.index(OTHERS.len())];
                Op {
                    sql,
                    key,
                    reads: sql.ends_with("shown"),
                }
            }
        }
    };
    let number = 1 + chance.index(most);
    let ops = (0..number).map(|_| op(chance)).collect();
    Work {
        level,
        ops,
        rolls_back: chance.index(8) == 0,
    }
}

fn do_op(conn: &mut PgConnection, op: &Op) -> QueryResult<String> {
    let has_key = op.sql.contains("$1");
    if op.reads {
        let query = sql_query(op.sql).into_boxed();
        let query = if has_key {
            query.bind::<Integer, _>(op.key)
        } else {
            query
        };
        return query.load(conn).map(shown);
    }
    match has_key {
        true => sql_query(op.sql).bind::<Integer, _>(op.key).execute(conn),
        false => sql_query(op.sql).execute(conn),
    }
    .map(|rows| rows.to_string())
}

/// One transaction after the other.
fn run(conn: &mut PgConnection, works: &[Work]) -> Result<String, String> {
    let ended: Vec<_> = works.iter().map(|work| transact(conn, work)).collect();
    let shown = format!("{ended:?}");
    match ended.iter().all(Result::is_ok) {
        true => Ok(shown),
        false => Err(shown),
    }
}

fn transact(conn: &mut PgConnection, work: &Work) -> Result<String, String> {
    let mut log = String::new();
    if let Some(level) = work.level {
        conn.batch_execute(&format!("BEGIN ISOLATION LEVEL {level}"))
            .map_err(|error| error.to_string())?;
    }
    for op in &work.ops {
        match do_op(conn, op) {
            Ok(shown) => write!(log, "{shown};").unwrap(),
            Err(error) => {
                write!(log, "{};", without_process(&error)).unwrap();
                if work.level.is_some() {
                    conn.batch_execute("ROLLBACK")
                        .map_err(|error| error.to_string())?;
                    return Err(log);
                }
            }
        }
    }
    if work.level.is_some() {
        let end = if work.rolls_back {
            "ROLLBACK"
        } else {
            "COMMIT"
        };
        if let Err(error) = conn.batch_execute(end) {
            write!(log, "{error}").unwrap();
            return Err(log);
        }
    }
    Ok(log)
}

fn orders(works: &[Vec<Work>]) -> usize {
    let length = |work: &Work| work.ops.len() + if work.level.is_some() { 2 } else { 0 };
    let (mut steps, mut orders) = (0, 1);
    for works in works {
        for own in 1..=works.iter().map(length).sum() {
            steps += 1;
            orders = orders * steps / own;
        }
    }
    orders
}

#[test]
#[parallel]
fn programs_of_chance_come_to_the_same_ends_with_fewer_orders() {
    compare(&FAMILIES);
}

#[test]
#[parallel]
fn programs_of_chance_with_keys_of_two_columns_come_to_the_same_ends_with_fewer_orders() {
    compare(&ROOMS);
}

fn compare(world: &World) {
    let number = |name: &str, usual: u64| {
        env::var(name)
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or(usual)
    };
    let (programs, seed) = (number("EXPLORER_PROGRAMS", 12), number("EXPLORER_SEED", 1));
    let most = number("EXPLORER_ORDERS", 80) as usize;
    let database = with_tables(world.schema);
    let (mut all, mut fewer, mut compared, mut lost) = (0, 0, 0, 0);
    for program in 0..programs {
        let chance = Chance::of(seed.wrapping_mul(1_000_003).wrapping_add(program));
        let works = loop {
            let sessions = 2 + usize::from(chance.index(4) == 0);
            let longest = if sessions == 2 { 4 } else { 2 };
            let works: Vec<Vec<Work>> = (0..sessions)
                .map(|_| {
                    let number = 1 + usize::from(chance.index(4) == 0);
                    (0..number).map(|_| work(world, &chance, longest)).collect()
                })
                .collect();
            if (3..=most).contains(&orders(&works)) {
                break works;
            }
        };
        let explorer = || {
            let explorer = filled(&database, world.fill).allow_results(|_| true);
            let names = ["ada", "bob", "eve"];
            (works.iter().zip(names)).fold(explorer, |explorer, (work, name)| {
                explorer.code(name, move |conn| run(conn, work))
            })
        };
        let exhaustive = explorer().exhaustive().explore().unwrap();
        let reduced = explorer().explore().unwrap();
        all += exhaustive.schedules();
        fewer += reduced.schedules();
        if !exhaustive.is_complete() || !reduced.is_complete() {
            println!(
                "program {program}: complete {} {}",
                exhaustive.is_complete(),
                reduced.is_complete()
            );
        }
        compared += usize::from(exhaustive.is_complete());
        if exhaustive.outcomes() != reduced.outcomes() {
            let missing = exhaustive.outcomes().iter();
            let missing: Vec<_> = missing
                .filter(|end| !reduced.outcomes().contains(end))
                .collect();
            let new = reduced.outcomes().iter();
            let new: Vec<_> = new
                .filter(|end| !exhaustive.outcomes().contains(end))
                .collect();
            println!(
                "program {program}: {works:#?}\nmissing {missing:#?}\nnew {new:#?}\n\
                 complete {} {}\n{:#?}",
                exhaustive.is_complete(),
                reduced.is_complete(),
                reduced.list()
            );
            lost += usize::from(exhaustive.is_complete() && reduced.is_complete());
        }
    }
    println!("{programs} programs, {compared} compared: {all} orders, {fewer} of them run");
    assert_eq!(lost, 0, "seed {seed}");
}
