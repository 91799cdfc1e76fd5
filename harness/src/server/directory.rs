//! The temporary directory of a server, and those that were left behind.

use std::collections::hash_map::RandomState;
use std::env;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::error::ServerError;
use super::trust::trusted;
use super::user::ServerUser;

const PREFIX: &str = "diesel_locks-";

/// What a Unix socket's path can hold beside the directory's name, on the most frugal system.
const LONGEST_DIRECTORY: usize = 103 - "/.s.PGSQL.5432".len();

/// A directory that only the server's user can enter, locked by those who look after it.
///
/// The lock tells whether one of them lives, also where a process's number can't: in containers
/// that share the directory, each with numbers of its own. It belongs to the open file, which the
/// keepers inherit, and ends with the last of them.
#[derive(Debug)]
pub(super) struct ServerDirectory {
    pub(super) path: PathBuf,
    pub(super) lock: File,
    /// The server's log. It is read by this handle, because its name is the server's user's.
    pub(super) log: File,
}

impl ServerDirectory {
    pub(super) fn create(parent: &Path, user: &ServerUser) -> Result<Self, ServerError> {
        loop {
            let path = parent.join(format!("{PREFIX}{}", random_name()));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(ServerError::io("create directory", &path)(error)),
            }
            // Whoever clears up may take it for a dead one's until it is locked, and removes it.
            let Ok(lock) = File::open(&path) else {
                continue;
            };
            // Where nothing can be locked, nobody clears up.
            if matches!(lock.try_lock(), Err(TryLockError::WouldBlock)) || !is_at(&lock, &path) {
                continue;
            }
            return Self::hand_over(path.clone(), lock, user).inspect_err(|_| {
                let _ = fs::remove_dir_all(&path);
            });
        }
    }

    /// Gives the directory to the server's user, whose it is from then on: this process opens and
    /// makes nothing in it any more.
    fn hand_over(path: PathBuf, lock: File, user: &ServerUser) -> Result<Self, ServerError> {
        let log_path = path.join("log");
        let log = OpenOptions::new()
            .read(true)
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(&log_path)
            .and_then(|log| user.give(&log).map(|()| log))
            .map_err(ServerError::io("create", &log_path))?;
        user.give(&lock)
            .map_err(ServerError::io("give away", &path))?;
        Ok(Self { path, lock, log })
    }
}

/// The directories in `parent` that were left behind when all who looked after them were killed,
/// each locked by the file beside it.
pub(super) fn left_behind(parent: &Path, user: &ServerUser) -> Vec<(PathBuf, File)> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    entries
        .filter(|entry| is_our_name(&entry.file_name()))
        .filter_map(|entry| {
            let path = entry.path();
            let metadata = fs::symlink_metadata(&path).ok()?;
            if !metadata.is_dir() || ![user.own_uid, user.uid()].contains(&metadata.uid()) {
                return None;
            }
            // The full stop makes sure that nothing but a directory is opened.
            let lock = File::open(path.join(".")).ok()?;
            lock.try_lock().ok()?;
            is_at(&lock, &path).then_some((path, lock))
        })
        .collect()
}

/// Whether the path, which may have changed hands, leads to the open file, and not by a link.
fn is_at(file: &File, path: &Path) -> bool {
    let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(open), Ok(named)) => identity(open) == identity(named),
        _ => false,
    }
}

fn is_our_name(name: &OsStr) -> bool {
    name.to_str()
        .and_then(|name| name.strip_prefix(PREFIX))
        .is_some_and(|random| {
            random.len() == random_name().len() && random.bytes().all(|b| b.is_ascii_hexdigit())
        })
}

/// Sixteen digits that nobody else has, in this container or another.
pub(super) fn random_name() -> String {
    format!("{:016x}", RandomState::new().build_hasher().finish())
}

/// The system's temporary directory, or `/tmp` where that cannot serve: a socket's path would be
/// too long in it, or would have a comma, which separates such paths for the server; others could
/// put something else in the place of what is made in it; or the user whom root has to choose may
/// not make and remove directories in it.
pub(super) fn temporary(user: &ServerUser) -> Result<PathBuf, ServerError> {
    // In a user namespace, root's files may appear as another's.
    let mut owners = vec![0, user.own_uid];
    owners.extend(fs::metadata("/").map(|root| root.uid()));
    let candidates = [env::temp_dir(), "/tmp".into(), "/var/tmp".into()];
    candidates
        .iter()
        // The server runs in its own directory, to which a relative path would be another one.
        .filter_map(|directory| trusted(directory, &owners))
        .find(|directory| can_serve(directory, user))
        .ok_or_else(|| {
            let none = io::Error::new(
                io::ErrorKind::PermissionDenied,
                "others could put something else in its place (is the sticky bit missing?)",
            );
            ServerError::io("make a directory for a server in", &candidates[0])(none)
        })
}

fn can_serve(directory: &Path, user: &ServerUser) -> bool {
    let longest = directory.as_os_str().len() + "/".len() + PREFIX.len() + random_name().len();
    let has_comma = directory.as_os_str().as_encoded_bytes().contains(&b',');
    let others_may = |part: &Path, what: u32| {
        fs::metadata(part).is_ok_and(|metadata| metadata.mode() & what == what)
    };
    let is_own = fs::metadata(directory).is_ok_and(|metadata| metadata.uid() == user.own_uid);
    longest <= LONGEST_DIRECTORY
        && !has_comma
        && ((is_own && !user.is_another()) || others_may(directory, 0o003))
        && (!user.is_another() || directory.ancestors().all(|part| others_may(part, 0o001)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_the_own_making_are_cleared_away() {
        assert!(is_our_name(format!("{PREFIX}{}", random_name()).as_ref()));
        for other in [
            "diesel_locks-4711-0",
            "diesel_locks-test-4711-name",
            "diesel_locks-",
            "diesel_locks-0123456789abcdefg",
            "0123456789abcdef",
        ] {
            assert!(!is_our_name(other.as_ref()), "{other}");
        }
    }
}
