//! Where PostgreSQL's server programs are.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::error::ServerError;

/// Parents of directories named after a version, as Debian, PGDG's packages for Fedora, Homebrew
/// on either processor, and the installers for macOS lay them out: the parent, what the name
/// starts with, and the way from there to the programs.
const VERSIONED: [(&str, &str, &str); 6] = [
    ("/usr/lib/postgresql", "", "bin"),
    ("/usr", "pgsql-", "bin"),
    ("/opt/homebrew/opt", "postgresql@", "bin"),
    ("/usr/local/opt", "postgresql@", "bin"),
    ("/Library/PostgreSQL", "", "bin"),
    ("/Applications/Postgres.app/Contents/Versions", "", "bin"),
];

/// The directory with `initdb` and `postgres`.
pub(super) fn find() -> Result<PathBuf, ServerError> {
    let candidates = match env::var_os("PG_BIN_DIR") {
        Some(directory) => vec![directory.into()],
        None => customary(),
    };
    match candidates.iter().find(|directory| is_server(directory)) {
        Some(directory) => Ok(directory.clone()),
        None => Err(ServerError::NoServerBinaries {
            searched: candidates,
        }),
    }
}

fn is_server(directory: &Path) -> bool {
    ["initdb", "postgres"]
        .iter()
        .all(|program| directory.join(program).is_file())
}

fn customary() -> Vec<PathBuf> {
    let mut candidates: Vec<PathBuf> = pg_config_bindir().into_iter().collect();
    if let Some(path) = env::var_os("PATH") {
        candidates.extend(env::split_paths(&path));
    }
    for (parent, prefix, programs) in VERSIONED {
        candidates.extend(newest_first(parent, prefix).map(|version| version.join(programs)));
    }
    candidates.push("/usr/local/pgsql/bin".into());
    candidates
}

fn pg_config_bindir() -> Option<PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").output().ok()?;
    let directory = str::from_utf8(&output.stdout).ok()?.trim_end();
    (!directory.is_empty()).then(|| directory.into())
}

fn newest_first(parent: &str, prefix: &str) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let mut versions: Vec<_> = entries
        .filter_map(|entry| Some((version(&entry.file_name(), prefix)?, entry.path())))
        .collect();
    versions.sort();
    versions.into_iter().rev().map(|(_, path)| path)
}

/// The numbers of a name such as `15` or `pgsql-9.6`.
fn version(name: &OsStr, prefix: &str) -> Option<Vec<u32>> {
    let version = name.to_str()?.strip_prefix(prefix)?;
    version.split('.').map(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_numbers() {
        assert_eq!(version("15".as_ref(), ""), Some(vec![15]));
        assert_eq!(version("pgsql-9.6".as_ref(), "pgsql-"), Some(vec![9, 6]));
        assert!(version("17".as_ref(), "") > version("9.6".as_ref(), ""));
        assert_eq!(version("latest".as_ref(), ""), None);
        assert_eq!(version("postgresql@17".as_ref(), "pgsql-"), None);
    }
}
