//! PgBouncer before a server of its own.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread;

use diesel::connection::CacheSize;
use diesel::prelude::*;
use diesel_locks_harness::TempPostgres;

pub(crate) struct PgBouncer {
    pub(crate) server: TempPostgres,
    process: Child,
}

impl PgBouncer {
    /// In transaction mode, with more sessions than clients.
    pub(crate) fn start() -> Self {
        Self::start_with("transaction", 20)
    }

    pub(crate) fn start_with(mode: &str, sessions: usize) -> Self {
        let server = TempPostgres::start().unwrap();
        let directory = server.directory().join("pgbouncer");
        fs::create_dir(&directory).unwrap();
        // PgBouncer refuses root, as PostgreSQL does.
        let owner = fs::metadata(server.directory()).unwrap();
        chown(&directory, Some(owner.uid()), Some(owner.gid())).unwrap();
        let configuration = format!(
            "[databases]\n* = host={} port=5432 user=postgres\n\
             [pgbouncer]\npool_mode = {mode}\ndefault_pool_size = {sessions}\nauth_type = any\n\
             listen_addr =\nlisten_port = 5432\nunix_socket_dir = {}\n",
            server.directory().display(),
            directory.display(),
        );
        let file = directory.join("pgbouncer.ini");
        fs::write(&file, configuration).unwrap();
        let mut process = Command::new(program())
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
        thread::spawn(move || log.for_each(drop));
        Self { server, process }
    }

    pub(crate) fn url(&self) -> String {
        let socket = self.server.directory().join("pgbouncer");
        format!(
            "host={} port=5432 user=postgres dbname=postgres",
            socket.display()
        )
    }

    /// Whether it does so in transaction mode: since version 1.21.
    pub(crate) fn names_prepared_statements(&self) -> bool {
        let output = Command::new(program()).arg("--version").output().unwrap();
        let version = String::from_utf8(output.stdout).unwrap();
        let minor = version.split('.').nth(1).unwrap();
        minor.parse::<u32>().unwrap() >= 21
    }

    pub(crate) fn connect(&self) -> PgConnection {
        let mut conn = PgConnection::establish(&self.url()).unwrap();
        // Prepared statements belong to a session too.
        conn.set_prepared_statement_cache_size(CacheSize::Disabled);
        conn
    }
}

fn program() -> String {
    std::env::var("PGBOUNCER").unwrap_or("pgbouncer".to_owned())
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}
