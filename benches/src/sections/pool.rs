use std::error::Error;

use diesel::PgConnection;
use diesel::r2d2::{ConnectionManager, ManageConnection, Pool};
use diesel_locks::LockAwareManager;

use crate::compare::{Comparison, Run, Table, by_calls};
use crate::server::Server;

pub(super) fn measure(server: &Server) -> Result<Vec<Table>, Box<dyn Error>> {
    let manager = |url: &str| ConnectionManager::<PgConnection>::new(url);
    let comparison = Comparison::new("A connection out of a pool of one, and back", 21, 2_000)
        .way("Diesel's manager", move |url| check_out(manager(url)))
        .way("LockAwareManager", move |url| {
            check_out(LockAwareManager::new(manager(url)))
        });
    Ok(vec![comparison.measure(server)?])
}

fn check_out<M: ManageConnection>(manager: M) -> Result<Run<'static>, Box<dyn Error>> {
    let pool = Pool::builder().max_size(1).build(manager)?;
    Ok(by_calls(move || drop(pool.get().expect("the connection"))))
}
