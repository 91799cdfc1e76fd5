//! Locks through PgBouncer in transaction mode, which lends a server session for each transaction.
//!
//! Needs PgBouncer's program (Debian: `apt-get install pgbouncer`), and therefore runs only when
//! it is asked for: `cargo test --test pgbouncer`.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use diesel::connection::{CacheSize, SimpleConnection};
use diesel::prelude::*;
use diesel_locks::prelude::*;
use diesel_locks::{AdvisoryLock, AdvisoryLockGuard, LockError};
use diesel_locks_harness::TempPostgres;

struct PgBouncer {
    server: TempPostgres,
    process: Child,
}

impl PgBouncer {
    fn start() -> Self {
        let server = TempPostgres::start().unwrap();
        let directory = server.directory().join("pgbouncer");
        fs::create_dir(&directory).unwrap();
        // PgBouncer refuses root, as PostgreSQL does.
        let owner = fs::metadata(server.directory()).unwrap();
        chown(&directory, Some(owner.uid()), Some(owner.gid())).unwrap();
        let configuration = format!(
            "[databases]\n* = host={} port=5432 user=postgres\n\
             [pgbouncer]\npool_mode = transaction\nauth_type = any\nlisten_addr =\n\
             listen_port = 5432\nunix_socket_dir = {}\n",
            server.directory().display(),
            directory.display(),
        );
        let file = directory.join("pgbouncer.ini");
        fs::write(&file, configuration).unwrap();
        let mut process = Command::new("pgbouncer")
            .arg(&file)
            .uid(owner.uid())
            .gid(owner.gid())
            .current_dir(&directory)
            .stderr(Stdio::piped())
            .spawn()
            .expect("PgBouncer is not installed");
        let mut log = BufReader::new(process.stderr.take().unwrap()).lines();
        assert!(log.any(|line| line.unwrap().contains("process up")));
        // What it goes on to say has to go somewhere.
        std::thread::spawn(move || log.for_each(drop));
        Self { server, process }
    }

    fn connect(&self) -> PgConnection {
        let socket = self.server.directory().join("pgbouncer");
        let url = format!(
            "host={} port=5432 user=postgres dbname=postgres",
            socket.display()
        );
        let mut conn = PgConnection::establish(&url).unwrap();
        // Prepared statements belong to a session too.
        conn.set_prepared_statement_cache_size(CacheSize::Disabled);
        conn
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

#[test]
fn a_transactions_lock_works() {
    let pgbouncer = PgBouncer::start();
    let (mut here, mut there) = (pgbouncer.connect(), pgbouncer.connect());
    here.transaction_with_advisory_lock("x", |here| {
        assert!(!there.transaction(|there| there.try_advisory_xact_lock("x"))?);
        here.advisory_xact_lock("y")
    })
    .unwrap();
    there
        .transaction(|there| there.advisory_xact_lock_nowait("x"))
        .unwrap();
}

/// Lets another client keep the session that has the lock, for a transaction, and releases.
fn release_elsewhere<L: AsRef<[AdvisoryLock]>>(
    pgbouncer: &PgBouncer,
    guard: AdvisoryLockGuard<'_, PgConnection, L>,
) {
    let mut other = pgbouncer.connect();
    other.batch_execute("BEGIN; SELECT 1").unwrap();
    let error = guard.release().unwrap_err();
    assert!(
        matches!(error, LockError::SessionChanged { locked_by, now, .. } if locked_by != now),
        "{error:?}"
    );
}

#[test]
fn a_sessions_lock_that_is_left_behind_is_not_silent() {
    for lock in [AdvisoryLock::exclusive("x"), AdvisoryLock::shared((1, 2))] {
        let pgbouncer = PgBouncer::start();
        let mut conn = pgbouncer.connect();
        release_elsewhere(&pgbouncer, conn.advisory_lock(lock).unwrap());
    }
    let pgbouncer = PgBouncer::start();
    let mut conn = pgbouncer.connect();
    release_elsewhere(&pgbouncer, conn.advisory_lock_all(["x", "y"]).unwrap());
}

#[test]
fn a_sessions_lock_whose_session_is_gone_is_not_held() {
    let pgbouncer = PgBouncer::start();
    let mut conn = pgbouncer.connect();
    let mut guard = conn.advisory_lock("x").unwrap();
    guard
        .batch_execute("SELECT pg_advisory_unlock_all()")
        .unwrap();
    assert!(matches!(guard.release(), Err(LockError::NotHeld { .. })));
}
