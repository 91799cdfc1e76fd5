use std::env;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// This program again, as one of its helpers.
pub(super) fn again(part: &str) -> Command {
    let mut command = Command::new(this_program());
    command.arg0("diesel_locks").args(["helper", part]);
    command
}

/// Where a new version has been installed meanwhile, Linux still has this one here.
fn this_program() -> PathBuf {
    let running = Path::new("/proc/self/exe");
    match running.exists() {
        true => running.to_owned(),
        false => env::current_exe().unwrap_or_else(|_| "diesel_locks".into()),
    }
}
