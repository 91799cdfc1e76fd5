//! Where it was measured.

use std::fs;
use std::process::Command;
use std::thread;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// Has this thread, and what it starts, run on the first of its processors, and gives all of them.
pub(crate) fn on_one_processor() -> nix::Result<CpuSet> {
    let before = sched_getaffinity(Pid::from_raw(0))?;
    let mut one = CpuSet::new();
    let first = (0..CpuSet::count()).find(|&nth| before.is_set(nth) == Ok(true));
    one.set(first.unwrap_or(0))?;
    on_processors(&one)?;
    Ok(before)
}

pub(crate) fn on_processors(processors: &CpuSet) -> nix::Result<()> {
    sched_setaffinity(Pid::from_raw(0), processors)
}

/// A paragraph of Markdown.
pub(crate) fn describe(postgresql: &str) -> String {
    let processor = fs::read_to_string("/proc/cpuinfo").ok().and_then(|info| {
        let line = info.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    });
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let load = fs::read_to_string("/proc/loadavg").ok();
    let load = load.and_then(|load| load.split(' ').next().map(str::to_owned));
    format!(
        "{}. {cores} cores, {}. PostgreSQL {}, {}, on {}; load when it ended {}.",
        said_by("date", &["-u", "+%Y-%m-%d"]),
        processor.unwrap_or("of an unknown kind".to_owned()),
        postgresql,
        said_by("rustc", &["--version"]),
        said_by("uname", &["-sr"]),
        load.unwrap_or("unknown".to_owned()),
    )
}

fn said_by(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map_or("unknown".to_owned(), |output| {
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    })
}
