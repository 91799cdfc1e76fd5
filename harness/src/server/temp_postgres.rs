use std::path::Path;
use std::process::{Command, Stdio};

use super::binaries;
use super::directory::{self, ServerDirectory};
use super::error::ServerError;
use super::processes::{self, Processes, last_lines};
use super::template::Template;
use super::user::ServerUser;

/// A private PostgreSQL server that lives no longer than this value, or than the process.
///
/// The server listens on a Unix socket in a temporary directory of its own, and on no port, so
/// that any number of them can run at once. Its programs are looked for in `PG_BIN_DIR`; or else
/// where `pg_config --bindir` says, in `PATH`, and where Debian, Fedora and Homebrew install them,
/// newest version first. As root, which PostgreSQL refuses to run as, the server is run by the
/// user `postgres`, or else by `nobody`.
///
/// A start takes about 0.2 s. The first one takes a second longer, because `initdb` runs; its
/// result is kept, in the target directory or in the user's cache, unless another user can change
/// what is there. The server's directory is in the system's temporary directory, or in `/tmp` where
/// another user could rename things in that.
///
/// # What drop does
///
/// Dropping the value stops the server at once, disconnects whoever is connected, and removes the
/// directory. A server that does not heed that is killed; drop takes five seconds at most. The same
/// happens, within a moment, when the process ends without dropping it, a `SIGKILL` included: two
/// small shell processes wait for that. If they are killed too, what they leave is cleared away by
/// the next start.
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
    url: String,
    /// Ends the server when it is dropped.
    processes: Processes,
}

impl TempPostgres {
    /// Starts a server, and returns when it accepts connections.
    ///
    /// # Errors
    ///
    /// [`ServerError::NoServerBinaries`] says what to install.
    /// [`ServerError::PermissionDenied`], [`ServerError::DiskFull`] and [`ServerError::Io`]
    /// name the file; the temporary directory, or else `/tmp` or `/var/tmp`, must be one in which
    /// the server's user may write, and nobody but root can rename what is another's.
    /// [`ServerError::ServerFailed`] and [`ServerError::ServerNotReady`] have the last lines of
    /// the server's log.
    pub fn start() -> Result<Self, ServerError> {
        let binaries = binaries::find()?;
        let user = ServerUser::find()?;
        let parent = directory::temporary(&user)?;
        for (left_behind, lock) in directory::left_behind(&parent, &user) {
            processes::clear_away(&left_behind, &lock, &user);
        }
        let template = Template::find(&version(&binaries)?, &user);
        let directory = ServerDirectory::create(&parent, &user)?;
        let mut processes = Processes::new(user, directory)?;
        prepare_data(&binaries, template, &processes)?;
        processes.start(&binaries)?;
        let host = percent_encoded(processes.path());
        Ok(Self {
            // What the environment says of other servers is overruled.
            url: format!(
                "postgres://postgres@/?host={host}&hostaddr=&port=5432&options=\
                 &target_session_attrs=any&sslmode=disable&dbname=postgres"
            ),
            processes,
        })
    }

    /// The URL of the database `postgres`, for a superuser.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The temporary directory that has the server's data, log and socket.
    pub fn directory(&self) -> &Path {
        self.processes.path()
    }
}

/// Puts a data directory in place: a copy of the template, or a new one that becomes it.
///
/// All of it is read and written by the server's user, in whose directory it is.
fn prepare_data(
    binaries: &Path,
    template: Option<Template>,
    processes: &Processes,
) -> Result<(), ServerError> {
    if let Some(template) = &template {
        let unpack = |archive| tar("-xf", processes).stdin(archive).spawn().ok();
        if template.unpacked(unpack) {
            return Ok(());
        }
        // What may be there of a broken one.
        let _ = processes.command("rm").args(["-rf", "data"]).status();
    }
    initdb(binaries, processes)?;
    if let Some(template) = template {
        let pack = |file| tar("-cf", processes).arg("data").stdout(file).status();
        // Without a template the next start is slower, and that is all.
        let _ = template.keep(|file| pack(file).is_ok_and(|status| status.success()));
    }
    Ok(())
}

fn tar(action: &str, processes: &Processes) -> Command {
    let mut tar = processes.command("tar");
    tar.args([action, "-"])
        .env_remove("TAR_OPTIONS")
        .stderr(Stdio::null());
    tar
}

fn version(binaries: &Path) -> Result<String, ServerError> {
    let postgres = binaries.join("postgres");
    let output = Command::new(&postgres)
        .arg("--version")
        .output()
        .map_err(ServerError::io("run", &postgres))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn initdb(binaries: &Path, processes: &Processes) -> Result<(), ServerError> {
    let initdb = binaries.join("initdb");
    let output = processes
        .command(&initdb)
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
