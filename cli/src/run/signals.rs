//! Signals that are for the command.

use std::io;
use std::thread;

use crossbeam::channel::{self, Receiver};
use nix::sys::signal::Signal;
use signal_hook::iterator::Signals;

const OURS: [Signal; 9] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
    Signal::SIGTSTP,
    Signal::SIGCONT,
];

/// The signals that this process gets from now on, and `SIGCHLD`.
pub(super) fn listen() -> io::Result<Receiver<Signal>> {
    let ignored = ignored();
    // What is ignored here, as under nohup, is ignored by the command too.
    let is_ignored = |signal: &Signal| ignored >> (*signal as u32 - 1) & 1 == 1;
    let wanted = OURS.into_iter().filter(|signal| !is_ignored(signal));
    let wanted = wanted.chain([Signal::SIGCHLD]).map(|signal| signal as i32);
    let mut signals = Signals::new(wanted)?;
    let (sender, receiver) = channel::unbounded();
    let pass_on = move || {
        for signal in signals.forever() {
            if let Ok(signal) = Signal::try_from(signal) {
                // Whoever has gone away needs none.
                let _ = sender.send(signal);
            }
        }
    };
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(pass_on)?;
    Ok(receiver)
}

/// The set of signals that are ignored, as far as the system tells: Linux does.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mut lines = status.lines();
    lines
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|set| u64::from_str_radix(set.trim(), 16).ok())
        .unwrap_or_default()
}
