use std::error::Error;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel_locks::LockError;
use diesel_locks::prelude::*;
use diesel_locks_harness::Contention;

use crate::clients::KEY;
use crate::compare::{Comparison, Table, by_calls};
use crate::server::Server;

pub(super) fn measure(server: &Server) -> Result<Vec<Table>, Box<dyn Error>> {
    let comparison = Comparison::new("Two transactions that try one lock", 21, 20)
        .note("Each opens its connection anew.")
        .way("the bare operations, one after the other", |url| {
            let url = url.to_owned();
            let connect = move || PgConnection::establish(&url).expect("the connection");
            Ok(by_calls(move || {
                let (mut happy, mut unhappy) = (connect(), connect());
                happy.batch_execute("BEGIN").expect("the transaction");
                happy.advisory_xact_lock_nowait(KEY).err();
                unhappy.batch_execute("BEGIN").expect("the transaction");
                unhappy.advisory_xact_lock_nowait(KEY).err();
                unhappy.batch_execute("ROLLBACK").expect("the rollback");
                happy.batch_execute("COMMIT").expect("the commit");
            }))
        })
        .way("Contention", |url| {
            let url = url.to_owned();
            Ok(by_calls(move || {
                let outcome = Contention::new(|| PgConnection::establish(&url))
                    .run(|conn| conn.advisory_xact_lock_nowait(KEY))
                    .expect("the outcome");
                assert!(matches!(outcome.errors(), [LockError::NotAvailable { .. }]));
            }))
        });
    Ok(vec![comparison.measure(server)?])
}
