//! A data directory that was initialised once, kept to be copied.
//!
//! `initdb` takes several times as long as a copy of what it has made. The template is an archive
//! in one file, because a file appears, is checked and is replaced as a whole, and because it can
//! be handed to another user's process open, whoever may enter the directory that it is in.

use std::env;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Child;

use super::directory::random_name;
use super::trust::{is_private, trusted};
use super::user::ServerUser;

/// How the name of a template ends that is being made.
const UNFINISHED: &str = ".unfinished";

/// The place of the template for one version and one server's user, whether it is there or not.
#[derive(Debug)]
pub(super) struct Template {
    path: PathBuf,
    uid: u32,
}

impl Template {
    /// In the target directory of the build, or else in the user's cache; in neither if anybody
    /// else but root can put something there.
    pub(super) fn find(version: &str, user: &ServerUser) -> Option<Self> {
        let uid = user.own_uid;
        let directory = [target_directory(), user_cache()]
            .into_iter()
            .flatten()
            .find_map(|cache| private_directory(&cache, uid))?;
        clear_unfinished(&directory);
        let version: String = version
            .chars()
            .map(|c| match c {
                'a'..='z' | 'A'..='Z' | '0'..='9' | '.' => c,
                _ => '-',
            })
            .collect();
        Some(Self {
            path: directory.join(format!("{version}-uid{}.tar", user.uid())),
            uid,
        })
    }

    /// Whether there is an archive, and `unpack` has made a copy of it. One that is broken is
    /// removed.
    pub(super) fn unpacked(&self, unpack: impl FnOnce(File) -> Option<Child>) -> bool {
        let Ok(metadata) = fs::symlink_metadata(&self.path) else {
            return false;
        };
        let is_ours = metadata.is_file() && is_private(&metadata, self.uid);
        let unpacked = is_ours && self.try_unpack(unpack).is_ok_and(|is_sound| is_sound);
        if !unpacked {
            self.discard();
        }
        unpacked
    }

    fn try_unpack(&self, unpack: impl FnOnce(File) -> Option<Child>) -> io::Result<bool> {
        let archive = File::open(&self.path)?;
        let Some(mut unpacking) = unpack(archive.try_clone()?) else {
            return Ok(false);
        };
        // It is checked while it is unpacked, which takes longer.
        let sum = checksum(&archive);
        let unpacked = unpacking.wait()?.success();
        // The checksum of what ends in its own is always this one.
        Ok(sum? == WHOLE && unpacked)
    }

    pub(super) fn discard(&self) {
        // Only the user's own process puts anything else there.
        let _ = fs::remove_file(&self.path).or_else(|_| fs::remove_dir_all(&self.path));
    }

    /// Keeps what `archive` writes into the file that it is called with.
    ///
    /// The template appears whole or not at all, so that any number of servers may do this at once.
    pub(super) fn keep(&self, archive: impl FnOnce(File) -> bool) -> io::Result<()> {
        let mut unfinished = self.path.clone().into_os_string();
        unfinished.push(format!("-{}{UNFINISHED}", random_name()));
        let unfinished = PathBuf::from(unfinished);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&unfinished)?;
        // Where nothing can be locked, nobody clears up.
        let _ = file.try_lock();
        let kept = finish(&mut file, archive).and_then(|()| fs::rename(&unfinished, &self.path));
        if kept.is_err() {
            // The disk is full, perhaps: what was begun is of no use.
            let _ = fs::remove_file(&unfinished);
        }
        kept
    }
}

/// Has the file filled, and writes the checksum at its end.
fn finish(file: &mut File, archive: impl FnOnce(File) -> bool) -> io::Result<()> {
    if !archive(file.try_clone()?) {
        return Err(io::Error::other("the archive was not made"));
    }
    let sum = checksum(file)?;
    file.seek(SeekFrom::End(0))?;
    file.write_all(&sum.to_le_bytes())
}

/// The checksum of anything that is followed by its own, least significant byte first.
const WHOLE: u32 = 0x2144_DF1C;

fn checksum(file: &File) -> io::Result<u32> {
    let mut hasher = crc32fast::Hasher::new();
    let mut buffer = vec![0; 1 << 16];
    let mut position = 0;
    loop {
        // The position of the file itself is for whoever unpacks it.
        match file.read_at(&mut buffer, position)? {
            0 => return Ok(hasher.finalize()),
            read => {
                hasher.update(&buffer[..read]);
                position += read as u64;
            }
        }
    }
}

/// Cargo marks its target directory with a `CACHEDIR.TAG`. Tests and examples are in it; doctests
/// are elsewhere, and run in the package's directory.
fn target_directory() -> Option<PathBuf> {
    let is_target = |directory: &Path| directory.join("CACHEDIR.TAG").is_file();
    if let Some(target) = env::current_exe().ok().as_deref().and_then(|executable| {
        executable
            .ancestors()
            .find(|directory| is_target(directory))
            .map(Path::to_owned)
    }) {
        return Some(target);
    }
    if let Some(target) = env::var_os("CARGO_TARGET_DIR").map(PathBuf::from) {
        return Some(target).filter(|target| is_target(target));
    }
    let current = env::current_dir().ok()?;
    current
        .ancestors()
        .map(|directory| directory.join("target"))
        .find(|directory| is_target(directory))
}

fn user_cache() -> Option<PathBuf> {
    let absolute = |name| {
        env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    if let Some(cache) = absolute("XDG_CACHE_HOME") {
        return Some(cache);
    }
    let home = absolute("HOME")?;
    Some(home.join(if cfg!(target_os = "macos") {
        "Library/Caches"
    } else {
        ".cache"
    }))
}

/// The directory for templates in `cache`, both made if need be, unless others have a say in it.
fn private_directory(cache: &Path, uid: u32) -> Option<PathBuf> {
    let owners = [0, uid];
    let parent = trusted(cache.parent()?, &owners)?;
    // It may be there; what it is, is looked at.
    let _ = fs::create_dir(parent.join(cache.file_name()?));
    let directory = trusted(cache, &owners)?.join("diesel_locks");
    let _ = DirBuilder::new().mode(0o700).create(&directory);
    let metadata = fs::symlink_metadata(&directory).ok()?;
    (metadata.is_dir() && is_private(&metadata, uid)).then_some(directory)
}

/// Removes what killed processes have not finished.
fn clear_unfinished(directory: &Path) {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name();
        let is_unfinished = name.as_encoded_bytes().ends_with(UNFINISHED.as_bytes());
        // It is locked as long as it is being made.
        if is_unfinished && File::open(entry.path()).is_ok_and(|file| file.try_lock().is_ok()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_ends_in_its_own_checksum_has_the_same_one() {
        for content in ["", "x", "any archive"] {
            let mut content = content.as_bytes().to_vec();
            content.extend(crc32fast::hash(&content).to_le_bytes());
            assert_eq!(crc32fast::hash(&content), WHOLE);
        }
    }
}
