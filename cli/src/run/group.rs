//! The process group of the command.

use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

const POLL: Duration = Duration::from_millis(2);

/// Sends `signal` to all of the group that are there.
pub(super) fn signal(group: Pid, signal: Signal) {
    // There may be nobody left.
    let _ = killpg(group, signal);
}

/// Kills all of the group, and returns when nobody is left of it.
pub(super) fn end(group: Pid) {
    loop {
        signal(group, Signal::SIGKILL);
        if is_gone(group) {
            break;
        }
        thread::sleep(POLL);
    }
}

fn is_gone(group: Pid) -> bool {
    match killpg(group, None) {
        Err(Errno::ESRCH) => true,
        _ => only_dead_are_left(group),
    }
}

/// Whether those who are left only wait for a parent that does not care, as in a container without
/// an init.
#[cfg(target_os = "linux")]
fn only_dead_are_left(group: Pid) -> bool {
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return false;
    };
    let is_alive = |stat: String| {
        // The name of the program, which may contain anything, is in parentheses before them.
        let mut rest = stat.rsplit(')').next()?.split_whitespace();
        let (state, of) = (rest.next()?, rest.nth(1)?.parse::<i32>().ok()?);
        Some(of == group.as_raw() && !["Z", "X"].contains(&state))
    };
    !processes
        .filter_map(|process| std::fs::read_to_string(process.ok()?.path().join("stat")).ok())
        .any(|stat| is_alive(stat) == Some(true))
}

#[cfg(not(target_os = "linux"))]
fn only_dead_are_left(_: Pid) -> bool {
    false
}
