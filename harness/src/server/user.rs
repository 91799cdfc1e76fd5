use std::env;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use super::error::ServerError;

/// The user who runs the server, where that is not the user who runs this process.
pub(super) struct ServerUser {
    pub(super) own_uid: u32,
    pub(super) other: Option<(u32, u32)>,
}

impl ServerUser {
    pub(super) fn of(own_directory: &Path) -> Result<Self, ServerError> {
        let metadata =
            fs::metadata(own_directory).map_err(ServerError::io("look at", own_directory))?;
        let own_uid = metadata.uid();
        if own_uid != 0 {
            return Ok(Self {
                own_uid,
                other: None,
            });
        }
        let (uid, gid) = unprivileged()?;
        chown(own_directory, Some(uid), Some(gid))
            .map_err(ServerError::io("give away", own_directory))?;
        Ok(Self {
            own_uid,
            other: Some((uid, gid)),
        })
    }

    /// A command of this user, in the server's directory.
    pub(super) fn command(&self, program: &Path, directory: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(directory).env("LC_ALL", "C");
        // Settings for another server would be taken for this one's.
        for (name, _) in env::vars_os() {
            if name.to_string_lossy().starts_with("PG") {
                command.env_remove(name);
            }
        }
        if let Some((uid, gid)) = self.other {
            command.uid(uid).gid(gid);
        }
        command
    }
}

/// The ids of `postgres`, or else of `nobody`.
fn unprivileged() -> Result<(u32, u32), ServerError> {
    let id = |option, user| -> Option<u32> {
        let output = Command::new("id").args([option, user]).output().ok()?;
        str::from_utf8(&output.stdout).ok()?.trim().parse().ok()
    };
    ["postgres", "nobody"]
        .iter()
        .find_map(|user| Some((id("-u", user)?, id("-g", user)?)))
        .ok_or_else(|| {
            ServerError::io("find user postgres or nobody with", "id")(
                io::ErrorKind::NotFound.into(),
            )
        })
}
