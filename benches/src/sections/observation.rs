use std::error::Error;
use std::thread;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel_locks::WaitGraph;
use diesel_locks::prelude::*;

use crate::compare::{Comparison, Table, by_calls};
use crate::server::Server;

const SESSIONS: usize = 190;
const WAITERS: usize = 90;
const LOCKS: usize = 10_000;

/// On a server of its own, whose end lets the waiters go.
pub(super) fn measure(_: &Server) -> Result<Vec<Table>, Box<dyn Error>> {
    let server = Server::start()?;
    let _holders = jam(server.url())?;
    let comparison = Comparison::new(
        format!("{LOCKS} advisory locks, {SESSIONS} sessions, {WAITERS} of which wait"),
        21,
        3,
    )
    .way("SELECT * FROM pg_locks, unread", |url| {
        let mut conn = PgConnection::establish(url)?;
        Ok(by_calls(move || {
            conn.batch_execute("SELECT * FROM pg_locks")
                .expect("the locks");
        }))
    })
    .way("conn.locks()", |url| {
        let mut conn = PgConnection::establish(url)?;
        Ok(by_calls(move || drop(conn.locks().expect("the locks"))))
    })
    .way("conn.lock_waits()", |url| {
        let mut conn = PgConnection::establish(url)?;
        Ok(by_calls(move || {
            drop(conn.lock_waits().expect("the waits"));
        }))
    })
    .way("WaitGraph::load", |url| {
        let mut conn = PgConnection::establish(url)?;
        Ok(by_calls(move || {
            drop(WaitGraph::load(&mut conn).expect("the graph"));
        }))
    });
    Ok(vec![comparison.measure(&server)?])
}

/// Those who hold the locks.
fn jam(url: &str) -> Result<Vec<PgConnection>, Box<dyn Error>> {
    let holders = SESSIONS - WAITERS;
    let held = (0..holders)
        .map(|nth| {
            let mut conn = PgConnection::establish(url)?;
            conn.batch_execute(&format!(
                "SELECT pg_advisory_lock(n) FROM generate_series({nth}, {LOCKS} - 1, {holders}) AS n"
            ))?;
            Ok(conn)
        })
        .collect::<Result<Vec<_>, Box<dyn Error>>>()?;
    for nth in 0..WAITERS {
        let mut conn = PgConnection::establish(url)?;
        let lock = nth % 10;
        thread::spawn(move || conn.batch_execute(&format!("SELECT pg_advisory_lock({lock})")));
    }
    let mut observer = PgConnection::establish(url)?;
    while observer.lock_waits()?.len() < WAITERS {}
    Ok(held)
}
