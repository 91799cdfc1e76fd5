//! Every order of the statements of ordinary code: `cargo run --example explore`.
//!
//! Starts a private PostgreSQL server (or uses that of `DATABASE_URL`), and prints the orders that
//! break something, and what happens in the first of them.

use std::error::Error;
use std::time::Instant;

use diesel::prelude::*;
use diesel_locks::{LockError, prelude::*};
use diesel_locks_harness::{
    Explorer, IsolationLevel, StepResult, Steps, TestDatabase, progress_bar,
};
use diesel_migrations::{EmbeddedMigrations, embed_migrations};

#[path = "../tests/support/schema.rs"]
mod schema;

use schema::accounts;

const MIGRATIONS: EmbeddedMigrations = embed_migrations!();

/// What a session has read.
type Seen = Vec<i64>;

/// Reads the balances of accounts, in the order of their ids.
type Read = fn(&mut PgConnection, [i32; 2]) -> Result<Seen, LockError>;

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    // Two databases, so that two schedules are run at a time.
    let databases = [database()?, database()?];

    for (title, read) in [
        ("A transfer that reads, then writes", balances as Read),
        (
            "A transfer that reads with select_for_update, then writes",
            read_locked,
        ),
    ] {
        // The application's function, as it stands: each of its statements is a step.
        let explorer = explorer(&databases)
            .code("ada", move |conn| transfer(conn, read, [1, 2]))
            .code("bob", move |conn| transfer(conn, read, [2, 3]))
            .serializable();
        show(title, &explorer)?;
    }

    for (title, level) in [
        (
            "Write skew under READ COMMITTED",
            IsolationLevel::ReadCommitted,
        ),
        (
            "Write skew under REPEATABLE READ",
            IsolationLevel::RepeatableRead,
        ),
        (
            "Write skew under SERIALIZABLE",
            IsolationLevel::Serializable,
        ),
    ] {
        let explorer = explorer(&databases)
            .session("first", withdrawal(level, 1))
            .session("second", withdrawal(level, 2))
            .invariant("200 are left", |conn, _| Ok(total(conn)? >= 200))
            // The application would try again.
            .allow_errors(LockError::is_retryable);
        show(title, &explorer)?;
    }

    for (title, level) in [
        (
            "A read-only anomaly under REPEATABLE READ",
            IsolationLevel::RepeatableRead,
        ),
        (
            "A read-only anomaly under SERIALIZABLE",
            IsolationLevel::Serializable,
        ),
    ] {
        let explorer = explorer(&databases)
            .session("deposit", deposit(level))
            .session("withdrawal", withdrawal_with_fee(level))
            .session("report", report(level))
            // Who has seen the deposit in a report can't understand why there was a fee.
            .invariant(
                "no fee after a deposit that was reported",
                |conn, sessions| {
                    let (report, fee) = (&sessions[2], balances(conn, [1, 2])?[0] == 89);
                    Ok(!fee || report.failed || report.state::<Seen>() != Some(&vec![100, 120]))
                },
            )
            .allow_errors(LockError::is_retryable)
            // There are 560 orders. Those that break it are among the first.
            .max_preemptions(2);
        show(title, &explorer)?;
    }
    Ok(())
}

fn database() -> Result<TestDatabase, Box<dyn Error + Send + Sync>> {
    Ok(TestDatabase::new()?.migrated(MIGRATIONS)?)
}

fn explorer(databases: &[TestDatabase; 2]) -> Explorer<'_, PgConnection> {
    let [one, two] = databases;
    Explorer::new(|| PgConnection::establish(one.url()))
        .on_progress(progress_bar())
        .database(|| PgConnection::establish(two.url()))
        .setup(|conn| {
            diesel::delete(accounts::table).execute(conn)?;
            let account = |id: i32, owner: &'static str| {
                let balance = accounts::balance.eq(100);
                (accounts::id.eq(id), accounts::owner.eq(owner), balance)
            };
            diesel::insert_into(accounts::table)
                .values([account(1, "Ada"), account(2, "Grace"), account(3, "Edsger")])
                .execute(conn)?;
            Ok(())
        })
}

/// Moves 10 from one account to another one.
fn transfer(conn: &mut PgConnection, read: Read, [from, to]: [i32; 2]) -> Result<(), LockError> {
    conn.transaction(|conn| {
        let seen = read(conn, [from, to])?;
        for (account, balance) in [(from, seen[0] - 10), (to, seen[1] + 10)] {
            let account = diesel::update(accounts::table.find(account));
            account.set(accounts::balance.eq(balance)).execute(conn)?;
        }
        Ok(())
    })
}

/// Takes all from one account, if 200 are left then on all together.
fn withdrawal(level: IsolationLevel, from: i32) -> Steps<PgConnection, Seen> {
    Steps::transaction(level)
        .step("read", |conn, seen: &mut Seen| {
            *seen = vec![total(conn)?];
            Ok(())
        })
        .step("write", move |conn, seen: &mut Seen| match seen[0] >= 300 {
            true => set_balance(conn, from, 0),
            false => Ok(()),
        })
}

/// Adds 20 to one account.
fn deposit(level: IsolationLevel) -> Steps<PgConnection, Seen> {
    report(level).step("write", |conn, seen: &mut Seen| {
        set_balance(conn, 2, seen[1] + 20)
    })
}

/// Takes 10 from the other one, and a fee of 1 if less than 220 are on both.
fn withdrawal_with_fee(level: IsolationLevel) -> Steps<PgConnection, Seen> {
    report(level).step("write", |conn, seen: &mut Seen| {
        let fee = i64::from(seen[0] + seen[1] < 220);
        set_balance(conn, 1, seen[0] - 10 - fee)
    })
}

fn report(level: IsolationLevel) -> Steps<PgConnection, Seen> {
    Steps::transaction(level).step("read", |conn, seen: &mut Seen| {
        *seen = balances(conn, [1, 2])?;
        Ok(())
    })
}

fn balances(conn: &mut PgConnection, ids: [i32; 2]) -> Result<Seen, LockError> {
    let accounts = accounts::table.filter(accounts::id.eq_any(ids));
    Ok(accounts
        .order(accounts::id)
        .select(accounts::balance)
        .load(conn)?)
}

fn read_locked(conn: &mut PgConnection, ids: [i32; 2]) -> Result<Seen, LockError> {
    let accounts = accounts::table.filter(accounts::id.eq_any(ids));
    conn.select_for_update(accounts.order(accounts::id).select(accounts::balance))
}

fn set_balance(conn: &mut PgConnection, id: i32, balance: i64) -> StepResult {
    diesel::update(accounts::table.find(id))
        .set(accounts::balance.eq(balance))
        .execute(conn)?;
    Ok(())
}

fn total(conn: &mut PgConnection) -> QueryResult<i64> {
    let balances: Seen = accounts::table.select(accounts::balance).load(conn)?;
    Ok(balances.iter().sum())
}

fn show(
    title: &str,
    explorer: &Explorer<'_, PgConnection>,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let begun = Instant::now();
    let exploration = explorer.explore()?;
    println!("\n{title}, in {:.1?}:\n{exploration}", begun.elapsed());
    if let Some(failure) = exploration.failures().first() {
        let again = explorer.replay(failure.schedule())?;
        println!("\nrun again:\n{again}");
    }
    Ok(())
}
