//! A data directory that was initialised once, kept to be copied.
//!
//! `initdb` takes several times as long as a copy of what it has made.

use std::env;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Where the template for `version` and a user belongs: in the target directory of the build, or
/// in the user's cache. `None` where there is neither.
pub(super) fn path(version: &str, uid: u32) -> Option<PathBuf> {
    let version: String = version
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '.' {
                c
            } else {
                '-'
            }
        })
        .collect();
    let name = format!("{version}-uid{uid}");
    let cache = target_directory().or_else(user_cache)?;
    Some(cache.join("diesel_locks").join(name))
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
    if let Some(cache) = env::var_os("XDG_CACHE_HOME") {
        return Some(cache.into());
    }
    let home = PathBuf::from(env::var_os("HOME")?);
    Some(home.join(if cfg!(target_os = "macos") {
        "Library/Caches"
    } else {
        ".cache"
    }))
}

/// Keeps a copy of `data` as `template`, which is first made as `unfinished` in the same place.
///
/// The template appears whole or not at all, so that any number of servers may do this at once.
pub(super) fn keep(data: &Path, template: &Path, unfinished: &str) -> io::Result<()> {
    let unfinished = template.with_file_name(unfinished);
    if let Some(parent) = template.parent() {
        fs::create_dir_all(parent)?;
    }
    let kept =
        copy(data, &unfinished, &mut |_| Ok(())).and_then(|()| fs::rename(&unfinished, template));
    if kept.is_err() {
        // Another process was faster, or the disk is full: what was begun is of no use.
        let _ = fs::remove_dir_all(&unfinished);
    }
    kept
}

/// Copies a directory with all that is in it, and calls `made` with each copy.
pub(super) fn copy(
    from: &Path,
    to: &Path,
    made: &mut dyn FnMut(&Path) -> io::Result<()>,
) -> io::Result<()> {
    // PostgreSQL refuses a data directory that others can read.
    DirBuilder::new().mode(0o700).create(to)?;
    made(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let copied = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &copied, made)?;
        } else {
            fs::copy(entry.path(), &copied)?;
            made(&copied)?;
        }
    }
    Ok(())
}
