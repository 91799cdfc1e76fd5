//! The locks of the crate, on a real server.

#[path = "../support/mod.rs"]
mod support;

mod advisory {
    mod granted_and_timed_out;
    mod interrupted;
    mod keys;
    mod letting_go;
    mod owner;
    mod processes;
    mod session;
    mod sets;
    mod transaction;
    mod watch;
}
mod errors {
    mod conditions;
    mod languages;
}
mod instrumentation;
mod observe {
    mod ending_blockers;
    mod graph;
    mod holders;
    mod jam;
    mod locks;
    mod names;
    mod on_wait;
    mod prioritized;
    mod random;
    mod standby;
}
mod pools {
    mod locks;
    mod soak;
}
mod retry;
mod round_trips;
mod row {
    mod clause;
    mod endings;
    mod locks;
    mod time_limits;
}
mod shown;
mod table;
