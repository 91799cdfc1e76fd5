use std::env;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use super::error::ServerError;
use super::process::{ServerProcess, last_lines};
use super::user::ServerUser;
use super::{binaries, template};

/// What a Unix socket's path can hold beside the directory's name, on the most frugal system.
const LONGEST_DIRECTORY: usize = 103 - "/.s.PGSQL.5432".len();

/// A private PostgreSQL server that lives no longer than this value, or than the process.
///
/// The server listens on a Unix socket in a temporary directory of its own, and on no port, so
/// that any number of them can run at once. Its programs are looked for in `PG_BIN_DIR`; or else
/// where `pg_config --bindir` says, in `PATH`, and where Debian, Fedora and Homebrew install them,
/// newest version first. As root, which PostgreSQL refuses to run as, the server is run by the
/// user `postgres`, or else by `nobody`.
///
/// A start takes about 0.2 s. The first one takes a second longer, because `initdb` runs; its
/// result is kept, in the target directory or in the user's cache.
///
/// # What drop does
///
/// Dropping the value stops the server at once, disconnects whoever is connected, and removes the
/// directory. The same happens, within a moment, when the process ends without dropping it, a
/// `SIGKILL` included: a small shell process waits for that.
///
/// ```
/// use diesel::prelude::*;
/// use diesel_locks_harness::TempPostgres;
///
/// let server = TempPostgres::start()?;
/// let mut conn = PgConnection::establish(server.url())?;
/// diesel::sql_query("SELECT 1").execute(&mut conn)?;
///
/// let directory = server.directory().to_owned();
/// drop(server);
/// assert!(!directory.exists());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct TempPostgres {
    directory: PathBuf,
    url: String,
    /// Ends the server when it is dropped.
    _process: ServerProcess,
}

impl TempPostgres {
    /// Starts a server, and returns when it accepts connections.
    ///
    /// # Errors
    ///
    /// [`ServerError::NoServerBinaries`] says what to install.
    /// [`ServerError::PermissionDenied`], [`ServerError::DiskFull`] and [`ServerError::Io`]
    /// name the file; the temporary directory must be one that the server's user may write to.
    /// [`ServerError::ServerFailed`] and [`ServerError::ServerNotReady`] have the last lines of
    /// the server's log.
    pub fn start() -> Result<Self, ServerError> {
        let binaries = binaries::find()?;
        let directory = create_directory()?;
        let watched = ServerUser::of(&directory)
            .and_then(|user| Ok((ServerProcess::spawn(&binaries, &directory, &user)?, user)));
        let (mut process, user) = watched.inspect_err(|_| {
            // No process will do it, and it is empty.
            let _ = fs::remove_dir(&directory);
        })?;
        prepare_data(&binaries, &directory, &user)?;
        process.start_server(&directory)?;
        let host = percent_encoded(&directory);
        Ok(Self {
            // What the environment says of other servers is overruled.
            url: format!(
                "postgres://postgres@/?host={host}&hostaddr=&port=5432&options=\
                 &target_session_attrs=any&sslmode=disable&dbname=postgres"
            ),
            directory,
            _process: process,
        })
    }

    /// The URL of the database `postgres`, for a superuser.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The temporary directory that has the server's data, log and socket.
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

/// Makes an empty directory that only its owner can enter.
fn create_directory() -> Result<PathBuf, ServerError> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let parent = temporary_directory();
    loop {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = parent.join(format!("diesel_locks-{}-{count}", std::process::id()));
        match DirBuilder::new().mode(0o700).create(&directory) {
            Ok(()) => return Ok(directory),
            // Left behind by a process that had this one's number.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(ServerError::io("create directory", &directory)(error)),
        }
    }
}

/// The system's temporary directory, or `/tmp` where that cannot serve: a socket's path would be
/// too long in it, or would have a comma, which separates such paths for the server; or the user
/// whom root has to choose may not make and remove directories in it.
fn temporary_directory() -> PathBuf {
    let longest_name = "/diesel_locks-4294967295-4294967295".len();
    let can_serve = |directory: &PathBuf| {
        let is_short = directory.as_os_str().len() + longest_name <= LONGEST_DIRECTORY;
        let has_comma = directory.as_os_str().as_encoded_bytes().contains(&b',');
        let is_everybodys = fs::metadata(directory)
            .is_ok_and(|metadata| metadata.uid() != 0 || metadata.mode() & 0o003 == 0o003);
        is_short && !has_comma && is_everybodys
    };
    // The server runs in its own directory, to which a relative path would be another one.
    fs::canonicalize(env::temp_dir())
        .ok()
        .filter(can_serve)
        .unwrap_or_else(|| "/tmp".into())
}

/// Puts a data directory in place: a copy of the template, or a new one that becomes it.
fn prepare_data(binaries: &Path, directory: &Path, user: &ServerUser) -> Result<(), ServerError> {
    let data = directory.join("data");
    let template = template::path(&version(binaries)?, user.own_uid);
    if let Some(template) = template.as_deref().filter(|template| template.is_dir()) {
        let mut give_away = |copied: &Path| match user.other {
            Some((uid, gid)) => chown(copied, Some(uid), Some(gid)),
            None => Ok(()),
        };
        return template::copy(template, &data, &mut give_away)
            .map_err(ServerError::io("copy the data directory to", &data));
    }
    initdb(binaries, directory, user)?;
    if let Some(template) = template {
        // Without a template the next start is slower, and that is all.
        let _ = template::keep(&data, &template, &directory_name(directory));
    }
    Ok(())
}

fn directory_name(directory: &Path) -> String {
    directory
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

fn version(binaries: &Path) -> Result<String, ServerError> {
    let postgres = binaries.join("postgres");
    let output = Command::new(&postgres)
        .arg("--version")
        .output()
        .map_err(ServerError::io("run", &postgres))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn initdb(binaries: &Path, directory: &Path, user: &ServerUser) -> Result<(), ServerError> {
    let initdb = binaries.join("initdb");
    let output = user
        .command(&initdb, directory)
        .args([
            "--username=postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C",
        ])
        .args(["--no-sync", "--wal-segsize=1", "--pgdata=data"])
        .output()
        .map_err(ServerError::io("run", &initdb))?;
    if output.status.success() {
        return Ok(());
    }
    Err(ServerError::ServerFailed {
        program: "initdb",
        output: last_lines(&output.stderr),
    })
}

/// A path as the value of a URL's parameter.
fn percent_encoded(path: &Path) -> String {
    let mut encoded = String::new();
    for &byte in path.as_os_str().as_encoded_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte) {
            encoded.push(byte.into());
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}
