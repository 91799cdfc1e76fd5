use std::error::Error;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel_locks_harness::Explorer;

use crate::compare::{Comparison, Run, Table, by_calls};
use crate::programs;
use crate::server::Server;

diesel::table! {
    balances {
        id -> Integer,
        balance -> Integer,
    }
}

const FILL: &str = "CREATE TABLE IF NOT EXISTS balances (id int PRIMARY KEY, balance int NOT NULL); \
     DELETE FROM balances; INSERT INTO balances VALUES (1, 0)";

type Worker = fn(&mut PgConnection) -> QueryResult<()>;

pub(super) fn measure(server: &Server) -> Result<Vec<Table>, Box<dyn Error>> {
    let explorations: [(&str, usize, Worker, &str); 3] = [
        ("a lost update, 2 workers", 2, lost_update, "SELECT"),
        ("FOR UPDATE, 2 workers", 2, for_update, "FOR UPDATE"),
        ("a lost update, 3 workers", 3, lost_update, "SELECT"),
    ];
    explorations
        .into_iter()
        .map(|(what, workers, work, select)| {
            Comparison::new(format!("All orders of {what}"), 15, 1)
                .note("The connections and the first contents of the table included.")
                .way("frontrun, until it is through", move |url| {
                    programs::python(
                        "explore.py",
                        "frontrun",
                        &[url, &workers.to_string(), select],
                    )
                })
                .way("Explorer", move |url| explore(url, workers, work))
                .measure(server)
        })
        .collect()
}

fn explore(url: &str, workers: usize, work: Worker) -> Result<Run<'static>, Box<dyn Error>> {
    PgConnection::establish(url)?.batch_execute(FILL)?;
    let url = url.to_owned();
    Ok(by_calls(move || {
        let mut explorer = Explorer::new(|| PgConnection::establish(&url))
            .setup(|conn| Ok(conn.batch_execute(FILL)?));
        for name in &["ada", "bob", "cleo"][..workers] {
            explorer = explorer.code(name, work);
        }
        let exploration = explorer.explore().expect("the exploration");
        assert!(exploration.is_complete());
    }))
}

fn lost_update(conn: &mut PgConnection) -> QueryResult<()> {
    conn.transaction(|conn| {
        let balance = balances::table.find(1).select(balances::balance);
        let balance: i32 = balance.first(conn)?;
        set(conn, balance + 1)
    })
}

fn for_update(conn: &mut PgConnection) -> QueryResult<()> {
    conn.transaction(|conn| {
        let balance = balances::table.find(1).select(balances::balance);
        let balance: i32 = balance.for_update().first(conn)?;
        set(conn, balance + 1)
    })
}

fn set(conn: &mut PgConnection, balance: i32) -> QueryResult<()> {
    diesel::update(balances::table.find(1))
        .set(balances::balance.eq(balance))
        .execute(conn)
        .map(drop)
}
