//! Where it was measured.

use std::fs;
use std::process::Command;
use std::thread;

use crate::server::Server;

/// A paragraph of Markdown.
pub(crate) fn describe(server: &Server) -> String {
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
        server
            .version()
            .unwrap_or("of an unknown version".to_owned()),
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
