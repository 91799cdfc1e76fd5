use std::collections::hash_map::RandomState;
use std::env;
use std::fs::{self, File};
use std::hash::{BuildHasher, Hasher};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::{io, iter};

const PREFIX: &str = "diesel_locks-test-";

/// A directory for one test, empty, that everybody may enter. Its lock says that the test goes on.
pub(crate) struct Directory(pub(crate) PathBuf, File);

impl Directory {
    pub(crate) fn new(name: &str) -> Self {
        remove_those_of_killed_tests();
        let directory = iter::repeat_with(|| make(name)).find_map(Result::ok);
        let directory = directory.unwrap();
        directory.allow(0o755);
        directory
    }

    pub(crate) fn allow(&self, mode: u32) {
        fs::set_permissions(&self.0, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// How many entries it has.
    pub(crate) fn count(&self) -> usize {
        fs::read_dir(&self.0).unwrap().count()
    }

    pub(crate) fn program(&self, name: &str, script: &str) {
        let path = self.0.join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        self.allow(0o755);
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// Fails where another test has taken it for one that was left, before it was locked.
fn make(name: &str) -> io::Result<Directory> {
    // A process in another container may have the same number.
    let random = RandomState::new().build_hasher().finish();
    let path = env::temp_dir().join(format!("{PREFIX}{random:x}-{name}"));
    fs::create_dir(&path).unwrap();
    let lock = File::open(&path)?;
    lock.lock_shared()?;
    fs::metadata(&path)?;
    Ok(Directory(path, lock))
}

fn remove_those_of_killed_tests() {
    for entry in fs::read_dir(env::temp_dir()).unwrap().flatten() {
        let name = entry.file_name();
        let is_own = name.as_encoded_bytes().starts_with(PREFIX.as_bytes());
        let Some(lock) = is_own.then(|| File::open(entry.path()).ok()).flatten() else {
            continue;
        };
        if lock.try_lock().is_ok() {
            // Another user's is for that one to remove.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
