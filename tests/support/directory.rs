use std::collections::hash_map::RandomState;
use std::env;
use std::fs;
use std::hash::{BuildHasher, Hasher};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// A directory for one test, empty, that everybody may enter.
pub(crate) struct Directory(pub(crate) PathBuf);

impl Directory {
    pub(crate) fn new(name: &str) -> Self {
        // A process in another container may have the same number.
        let random = RandomState::new().build_hasher().finish();
        let name = format!("diesel_locks-test-{random:x}-{name}");
        let directory = Self(env::temp_dir().join(name));
        fs::create_dir(&directory.0).unwrap();
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
