//! Which directories nobody but the user and root has a say in.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const STICKY: u32 = 0o1000;
const WRITE_BY_OTHERS: u32 = 0o022;

/// The path of `directory` without links, if every part of it belongs to one of `owners` and
/// nobody else can rename or replace what these have in it.
///
/// Others may make entries in a part that has the sticky bit, as in `/tmp`. What such an entry
/// belongs to is its owner, and so the next part of the path decides.
pub(super) fn trusted(directory: &Path, owners: &[u32]) -> Option<PathBuf> {
    let path = fs::canonicalize(directory).ok()?;
    path.ancestors()
        .all(|part| {
            fs::symlink_metadata(part).is_ok_and(|metadata| {
                let mode = metadata.mode();
                metadata.is_dir()
                    && owners.contains(&metadata.uid())
                    && (mode & WRITE_BY_OTHERS == 0 || mode & STICKY != 0)
            })
        })
        .then_some(path)
}

/// Whether only its owner may change it, and this is `uid`.
pub(super) fn is_private(metadata: &fs::Metadata, uid: u32) -> bool {
    metadata.uid() == uid && metadata.mode() & WRITE_BY_OTHERS == 0
}
