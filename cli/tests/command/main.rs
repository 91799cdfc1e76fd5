//! The command, as a user runs it: a process, on a real server.

mod help;
mod isolation;
mod jam;
mod key;
mod migrate;
mod observe;
#[cfg(unix)]
mod run {
    #[path = "../../../../tests/faults/chance.rs"]
    mod chance;

    mod attack;
    mod ends;
    mod environment;
    mod locks;
    mod losses;
    mod signals;
}
mod support;
