use std::error::Error;

use diesel::prelude::*;
use diesel_locks::prelude::*;

use super::MINUTE;
use crate::compare::{Comparison, Table, by_calls};
use crate::programs;
use crate::server::Server;

pub(super) fn measure(server: &Server) -> Result<Vec<Table>, Box<dyn Error>> {
    [(10, 1_000), (100, 200), (1_000, 20)]
        .into_iter()
        .map(|(locks, times)| {
            let keys = move || 1..=i64::from(locks);
            Comparison::new(
                format!("{locks} locks at once, and their release"),
                21,
                times,
            )
            .way("bare libpq, unnest, in no order", move |url| {
                programs::libpq(url, locks as usize)
            })
            .way("diesel_locks, sorted, all or none", move |url| {
                let mut conn = PgConnection::establish(url)?;
                Ok(by_calls(move || {
                    let guard = conn.advisory_lock_all(keys());
                    guard.expect("the locks").release().expect("the release");
                }))
            })
            .way("diesel_locks, with a timeout", move |url| {
                let mut conn = PgConnection::establish(url)?;
                Ok(by_calls(move || {
                    let guard = conn.advisory_lock_all_timeout(keys(), MINUTE);
                    guard.expect("the locks").release().expect("the release");
                }))
            })
            .measure(server)
        })
        .collect()
}
