use std::env;
use std::fs::File;
use std::io;
use std::os::unix::fs::fchown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use super::error::ServerError;

/// The user who runs the server: whoever runs this process, but for root.
#[derive(Debug)]
pub(super) struct ServerUser {
    /// Who runs this process.
    pub(super) own_uid: u32,
    /// The user and the group that root has to choose.
    other: Option<(u32, u32)>,
}

impl ServerUser {
    pub(super) fn find() -> Result<Self, ServerError> {
        let own_uid = id("-u", None).ok_or_else(|| unknown("find the user's number with"))?;
        let other = match own_uid {
            0 => Some(unprivileged().ok_or_else(|| unknown("find user postgres or nobody with"))?),
            _ => None,
        };
        Ok(Self { own_uid, other })
    }

    pub(super) fn uid(&self) -> u32 {
        self.other.map_or(self.own_uid, |(uid, _)| uid)
    }

    /// Whether the server runs as another user than this process.
    pub(super) fn is_another(&self) -> bool {
        self.other.is_some()
    }

    /// Makes over what was opened, whatever its name leads to by now.
    pub(super) fn give(&self, file: &File) -> io::Result<()> {
        match self.other {
            Some((uid, gid)) => fchown(file, Some(uid), Some(gid)),
            None => Ok(()),
        }
    }

    /// A command of this user, in the server's directory.
    pub(super) fn command(&self, program: impl AsRef<Path>, directory: &Path) -> Command {
        let mut command = Command::new(program.as_ref());
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
fn unprivileged() -> Option<(u32, u32)> {
    ["postgres", "nobody"]
        .iter()
        .find_map(|user| Some((id("-u", Some(user))?, id("-g", Some(user))?)))
}

fn id(option: &str, user: Option<&str>) -> Option<u32> {
    let output = Command::new("id").arg(option).args(user).output().ok()?;
    str::from_utf8(&output.stdout).ok()?.trim().parse().ok()
}

fn unknown(action: &str) -> ServerError {
    ServerError::io(action, "id")(io::ErrorKind::NotFound.into())
}
