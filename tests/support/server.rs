//! A private server from outside: its programs and its processes.

use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::Text;
use diesel_locks_harness::TempPostgres;

/// Where the server's programs are.
pub(crate) fn bindir(conn: &mut PgConnection) -> PathBuf {
    let bindir: String = sql::<Text>(
        "SELECT setting FROM pg_catalog.pg_config WHERE name OPERATOR(pg_catalog.=) 'BINDIR'",
    )
    .get_result(conn)
    .unwrap();
    // The programs may have been moved since they were built.
    env::var_os("PG_BIN_DIR").map_or(bindir.into(), PathBuf::from)
}

/// The client, which some distributions ship apart from the server.
pub(crate) fn psql(conn: &mut PgConnection) -> PathBuf {
    let mut directories = vec![bindir(conn)];
    if let Some(path) = env::var_os("PATH") {
        directories.extend(env::split_paths(&path));
    }
    for parent in [
        "/usr/lib/postgresql",
        "/usr",
        "/opt/homebrew/opt",
        "/usr/local/opt",
    ] {
        let versions = fs::read_dir(parent).into_iter().flatten().flatten();
        directories.extend(versions.map(|version| version.path().join("bin")));
    }
    directories.push("/usr/local/pgsql/bin".into());
    directories
        .iter()
        .map(|directory| directory.join("psql"))
        .find(|psql| psql.is_file())
        .unwrap_or_else(|| {
            panic!(
                "found no psql in {directories:?}. Install it (Debian, Ubuntu: apt-get install \
                 postgresql-client; Fedora: dnf install postgresql; Homebrew: brew install libpq)"
            )
        })
}

pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// The number of the server's first process.
pub(crate) fn postmaster(directory: &Path) -> String {
    let lock_file = fs::read_to_string(directory.join("data/postmaster.pid")).unwrap();
    lock_file.lines().next().unwrap().to_owned()
}

/// The processes that work in the directory or were working there when it was removed, by number
/// and name.
pub(crate) fn processes(directory: &Path) -> Vec<(String, String)> {
    let directory = directory.to_str().unwrap();
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|process| {
            let works_in = fs::read_link(process.path().join("cwd")).ok()?;
            let name = fs::read_to_string(process.path().join("comm")).ok()?;
            let number = process.file_name().to_str()?.to_owned();
            works_in
                .to_str()?
                .starts_with(directory)
                .then(|| (number, name.trim_end().to_owned()))
        })
        .collect()
}

/// Those of the directory's processes that have the name.
pub(crate) fn named(name: &str, directory: &Path) -> Vec<String> {
    let mut processes = processes(directory);
    processes.retain(|(_, other)| other == name);
    processes.into_iter().map(|(number, _)| number).collect()
}

/// The shells that end the server when the process that started it is gone.
pub(crate) fn keepers(directory: &Path) -> Vec<String> {
    let keepers = named("sh", directory);
    assert_eq!(keepers.len(), 2, "{keepers:?}");
    keepers
}

/// Sends a signal, as `-STOP`, to processes that are there.
pub(crate) fn signal(signal: &str, processes: &[impl ToString]) {
    assert!(try_signal(signal, processes));
}

/// The same, and says whether they were there.
pub(crate) fn try_signal(signal: &str, processes: &[impl ToString]) -> bool {
    let mut kill = Command::new("kill");
    kill.arg(signal).stderr(Stdio::null());
    kill.args(processes.iter().map(ToString::to_string));
    kill.status().unwrap().success()
}

/// Whether neither directory nor process nor shared memory of the server is there.
pub(crate) fn is_gone(directory: &Path, postmaster: &str) -> bool {
    let shared_memory = fs::read_to_string("/proc/sysvipc/shm").unwrap_or_default();
    let is_left = |line: &str| line.split_whitespace().nth(4) == Some(postmaster);
    fs::symlink_metadata(directory).is_err()
        && processes(directory).is_empty()
        && !shared_memory.lines().any(is_left)
}

pub(crate) fn assert_gone(directory: &Path, postmaster: &str) {
    assert!(
        is_gone(directory, postmaster),
        "{directory:?}: {:?}",
        processes(directory)
    );
}

/// Polls until it is gone.
pub(crate) fn assert_soon_gone(directory: &Path, postmaster: &str) {
    let begun = Instant::now();
    while !is_gone(directory, postmaster) && begun.elapsed() < Duration::from_secs(20) {
        thread::sleep(Duration::from_millis(5));
    }
    assert_gone(directory, postmaster);
}

/// Drops it, which must not take longer than it says.
pub(crate) fn drop_in_time(server: TempPostgres) {
    let begun = Instant::now();
    drop(server);
    // Five seconds, and what a busy machine takes.
    assert!(begun.elapsed() < Duration::from_secs(10));
}
