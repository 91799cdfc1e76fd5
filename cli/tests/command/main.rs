//! The command, as a user runs it: a process, on a real server.

mod graph;
mod help;
mod isolation;
mod key;
mod migrate;
mod observe;
mod output;
#[cfg(unix)]
mod rights;
#[cfg(unix)]
mod run {
    #[allow(dead_code, reason = "the tests of the locks use the rest of it")]
    #[path = "../../../../tests/support/chance.rs"]
    mod chance;

    mod environment;
    mod exclusion;
    mod exit_status;
    mod failover;
    mod locks;
    mod losses;
    mod signals;
}
#[cfg(unix)]
#[allow(dead_code, reason = "the tests of the locks use the rest of it")]
#[path = "../../../tests/support/server.rs"]
mod server;
#[cfg(unix)]
#[allow(dead_code, reason = "the tests of the locks use the rest of it")]
#[path = "../../../tests/support/standby.rs"]
mod standby;
#[cfg(unix)]
mod standbys;
mod support;
#[cfg(unix)]
mod terminal;
#[cfg(unix)]
mod top;
