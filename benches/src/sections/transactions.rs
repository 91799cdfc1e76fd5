use std::error::Error;

use diesel::prelude::*;
use diesel_locks::LockError;
use diesel_locks::prelude::*;

use super::MINUTE;
use crate::clients::KEY;
use crate::compare::{Comparison, Table, by_calls};
use crate::server::Server;

pub(super) fn measure(server: &Server) -> Result<Vec<Table>, Box<dyn Error>> {
    let nothing = |_: &mut PgConnection| Ok::<_, LockError>(());
    let comparison = Comparison::new("A transaction around nothing", 21, 1_000)
        .way("Diesel's transaction", move |url| {
            let mut conn = PgConnection::establish(url)?;
            Ok(by_calls(move || {
                conn.transaction(nothing).expect("the commit")
            }))
        })
        .way("with an advisory lock", move |url| {
            let mut conn = PgConnection::establish(url)?;
            Ok(by_calls(move || {
                let done = conn.transaction_with_advisory_lock(KEY, nothing);
                done.expect("the commit");
            }))
        })
        .way("with an advisory lock and a timeout", move |url| {
            let mut conn = PgConnection::establish(url)?;
            Ok(by_calls(move || {
                let done = conn.transaction_with_advisory_lock_timeout(KEY, MINUTE, nothing);
                done.expect("the commit");
            }))
        });
    Ok(vec![comparison.measure(server)?])
}
