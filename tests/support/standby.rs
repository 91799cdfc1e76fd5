//! A standby of a server, which follows it and can write nothing.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel_locks_harness::TempPostgres;

use super::server::{bindir, signal};

/// A standby of a server, in its directory. It ends when it is dropped.
pub(crate) struct Standby {
    pub(crate) url: String,
    process: Child,
}

impl Standby {
    /// Nobody writes to the server meanwhile, so that a copy of its files is one of its data.
    pub(crate) fn of(server: &TempPostgres) -> Self {
        let mut conn = PgConnection::establish(server.url()).unwrap();
        let bin = bindir(&mut conn);
        let owner = fs::metadata(server.directory()).unwrap();
        let command = |program: &str| {
            let mut command = Command::new(bin.join(program));
            command
                .uid(owner.uid())
                .gid(owner.gid())
                .stdin(Stdio::null());
            command.stdout(Stdio::null()).stderr(Stdio::null());
            command.current_dir(server.directory());
            command
        };
        conn.batch_execute("CHECKPOINT").unwrap();
        let copied = Command::new("cp")
            .args(["-a", "data", "standby"])
            .current_dir(server.directory())
            .status();
        assert!(copied.unwrap().success());
        let data = server.directory().join("standby");
        fs::remove_file(data.join("postmaster.pid")).unwrap();
        fs::write(data.join("standby.signal"), "").unwrap();
        let primary = format!(
            "host={} port=5432 user=postgres",
            server.directory().display()
        );
        let process = command("postgres")
            .args([
                "-D",
                "standby",
                "-p",
                "5433",
                "-c",
                "listen_addresses=",
                "-k",
            ])
            .arg(server.directory())
            .args([
                "-c",
                "max_connections=200",
                "-c",
                "max_prepared_transactions=20",
            ])
            .args([
                "-c",
                "shared_buffers=16MB",
                "-c",
                "dynamic_shared_memory_type=mmap",
            ])
            .args(["-c", "max_standby_streaming_delay=-1", "-c"])
            .arg(format!("primary_conninfo={primary}"))
            .spawn()
            .unwrap();
        let url = server.url().replace("port=5432", "port=5433");
        let standby = Self { url, process };
        let begun = Instant::now();
        while PgConnection::establish(&standby.url).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(20));
            thread::sleep(Duration::from_millis(5));
        }
        standby
    }

    pub(crate) fn connect(&self) -> PgConnection {
        PgConnection::establish(&self.url).unwrap()
    }
}

impl Drop for Standby {
    fn drop(&mut self) {
        signal("-QUIT", &[self.process.id()]);
        let _ = self.process.wait();
    }
}
