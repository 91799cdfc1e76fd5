//! A primary and its standby on this machine, and the change from one to the other.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::{Bool, Text};
use diesel_locks_harness::TempPostgres;

use super::server::{bindir, named, postmaster, signal};

/// Those of the standby itself; the others have to be the primary's.
const SETTINGS: [&str; 7] = [
    "listen_addresses=",
    "unix_socket_permissions=0700",
    "max_connections=200",
    "max_prepared_transactions=20",
    "shared_buffers=16MB",
    "dynamic_shared_memory_type=mmap",
    "max_standby_streaming_delay=-1",
];

/// A standby of a server, in its directory. It ends when it is dropped.
pub(crate) struct Standby {
    pub(crate) url: String,
    process: Child,
}

impl Standby {
    /// Nobody writes to the server meanwhile, so that a copy of its files is one of its data.
    pub(crate) fn of(server: &TempPostgres) -> Self {
        let conn = &mut PgConnection::establish(server.url()).unwrap();
        let bin = bindir(conn);
        conn.batch_execute("CHECKPOINT").unwrap();
        // Where root copied, those who clear the directory away could not.
        let owner = fs::metadata(server.directory()).unwrap();
        let copied = Command::new("cp")
            .args(["-a", "data", "standby"])
            .uid(owner.uid())
            .gid(owner.gid())
            .current_dir(server.directory())
            .status();
        assert!(copied.unwrap().success());
        let data = server.directory().join("standby");
        fs::remove_file(data.join("postmaster.pid")).unwrap();
        fs::write(data.join("standby.signal"), "").unwrap();
        let directory = server.directory().display();
        let primary = format!("primary_conninfo=host={directory} port=5432 user=postgres");
        let process = Command::new(bin.join("postgres"))
            .args(["-D", "standby", "-p", "5433", "-k"])
            .arg(server.directory())
            .args(SETTINGS.iter().flat_map(|setting| ["-c", setting]))
            .args(["-c", &primary])
            .uid(owner.uid())
            .gid(owner.gid())
            .current_dir(server.directory())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let url = server.url().replace("port=5432", "port=5433");
        let standby = Self { url, process };
        soon(|| PgConnection::establish(&standby.url).is_ok());
        standby
    }

    pub(crate) fn connect(&self) -> PgConnection {
        PgConnection::establish(&self.url).unwrap()
    }

    /// Makes it a primary, whatever has become of the one that it follows.
    pub(crate) fn promote(&self) {
        let conn = &mut self.connect();
        let is_promoted: bool = sql::<Bool>("SELECT pg_catalog.pg_promote(true, 20)")
            .get_result(conn)
            .unwrap();
        assert!(is_promoted);
    }
}

impl Drop for Standby {
    fn drop(&mut self) {
        signal("-QUIT", &[self.process.id()]);
        let _ = self.process.wait();
    }
}

/// Asks until it is so, and leaves the processor to those that are waited for.
fn soon(mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(20), "it is not so");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A primary and its standby.
pub(crate) struct Pair {
    // Dropped first: it is in the directory of the other.
    pub(crate) standby: Standby,
    pub(crate) primary: TempPostgres,
}

impl Pair {
    /// With this schema.
    pub(crate) fn with(schema: &str) -> Self {
        let primary = TempPostgres::start().unwrap();
        let conn = &mut PgConnection::establish(primary.url()).unwrap();
        conn.batch_execute(schema).unwrap();
        Self {
            standby: Standby::of(&primary),
            primary,
        }
    }

    pub(crate) fn start() -> Self {
        Self::with("CREATE TABLE nothing ()")
    }

    /// Of whichever of the two is the primary, as an application has it.
    pub(crate) fn url(&self) -> String {
        let url = self.primary.url();
        let host = url
            .split("host=")
            .nth(1)
            .and_then(|rest| rest.split('&').next());
        let host = host.unwrap();
        url.replace(&format!("host={host}"), &format!("host={host},{host}"))
            .replace("port=5432", "port=5432,5433")
            .replace(
                "target_session_attrs=any",
                "target_session_attrs=read-write",
            )
    }

    pub(crate) fn connect_to_old(&self) -> PgConnection {
        PgConnection::establish(self.primary.url()).unwrap()
    }

    pub(crate) fn connect_to_new(&self) -> PgConnection {
        self.standby.connect()
    }

    /// The primary's machine fails: all of its processes at once.
    pub(crate) fn kill_primary(&self) {
        let data = self.data();
        signal("-KILL", &[postmaster(self.primary.directory())]);
        // Those that it had end when they notice.
        soon(|| named("postgres", &data).is_empty());
    }

    /// The primary's network fails: it is there, and does not answer.
    pub(crate) fn silence_primary(&self) {
        signal("-STOP", &named("postgres", &self.data()));
    }

    /// The primary is killed, and the standby takes over.
    pub(crate) fn fail_over(&self) {
        self.kill_primary();
        self.standby.promote();
    }

    fn data(&self) -> PathBuf {
        self.primary.directory().join("data")
    }
}

/// Which of the two a session is of.
pub(crate) fn is_of_new(conn: &mut PgConnection) -> bool {
    let port: String = sql::<Text>("SELECT pg_catalog.current_setting('port')")
        .get_result(conn)
        .unwrap();
    port == "5433"
}
