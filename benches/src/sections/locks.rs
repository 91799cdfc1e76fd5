use std::error::Error;

use diesel::prelude::*;
use diesel_locks::prelude::*;

use super::MINUTE;
use crate::clients::{self, Connected};
use crate::compare::{Comparison, Run, Table, by_calls};
use crate::programs;
use crate::server::Server;

pub(super) fn measure(server: &Server) -> Result<Vec<Table>, Box<dyn Error>> {
    let comparison = Comparison::new("Lock and release", 21, 2_000)
        .note("Blocking, by number, of the session, with nobody in the way.")
        .way("bare libpq, prepared", |url| programs::libpq(url, 1))
        .way("diesel_locks", |url| alone(clients::diesel_locks(url)))
        .way("diesel_locks, with a timeout", |url| {
            let mut conn = PgConnection::establish(url)?;
            Ok(by_calls(move || {
                let guard = conn.advisory_lock_timeout(clients::KEY, MINUTE);
                guard.expect("the lock").release().expect("the release");
            }))
        })
        .way("Diesel's typed functions", |url| {
            alone(clients::typed_functions(url))
        })
        .way("Diesel's sql_query", |url| alone(clients::sql_query(url)))
        .way("rust-postgres, prepared", |url| {
            alone(clients::rust_postgres(url))
        })
        .way("sqlx's PgAdvisoryLock", |url| {
            alone(clients::sqlx_guard(url))
        })
        .way("django-pglock", |url| {
            programs::python("django_lock.py", "pglock", &[url])
        });
    Ok(vec![comparison.measure(server)?])
}

fn alone(holder: Connected) -> Result<Run<'static>, Box<dyn Error>> {
    let mut holder = holder?;
    Ok(by_calls(move || holder(&mut || {})))
}
