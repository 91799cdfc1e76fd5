use std::error::Error;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel_locks::LockError;
use diesel_locks::prelude::*;

use super::MINUTE;
use crate::compare::{Comparison, Table, by_calls};
use crate::server::Server;

diesel::table! {
    accounts {
        id -> Integer,
        owner -> Text,
    }
}

pub(super) fn measure(server: &Server) -> Result<Vec<Table>, Box<dyn Error>> {
    PgConnection::establish(server.url())?.batch_execute(
        "CREATE TABLE IF NOT EXISTS accounts (id int PRIMARY KEY, owner text NOT NULL); \
         INSERT INTO accounts VALUES (1, 'Ada') ON CONFLICT DO NOTHING",
    )?;
    let row = || accounts::table.find(1);
    let comparison = Comparison::new("A transaction that locks one row", 21, 500)
        .way("Diesel's for_update().no_wait()", move |url| {
            let mut conn = PgConnection::establish(url)?;
            Ok(by_calls(move || {
                let found = conn
                    .transaction(|conn| row().for_update().no_wait().first::<(i32, String)>(conn));
                found.expect("the row");
            }))
        })
        .way("get_for_update_nowait", move |url| {
            let mut conn = PgConnection::establish(url)?;
            Ok(by_calls(move || {
                let found = conn.transaction::<(i32, String), LockError, _>(|conn| {
                    conn.get_for_update_nowait(row())
                });
                found.expect("the row");
            }))
        })
        .way("get_for_update_timeout", move |url| {
            let mut conn = PgConnection::establish(url)?;
            Ok(by_calls(move || {
                let found = conn.transaction::<(i32, String), LockError, _>(|conn| {
                    conn.get_for_update_timeout(row(), MINUTE)
                });
                found.expect("the row");
            }))
        });
    Ok(vec![comparison.measure(server)?])
}
