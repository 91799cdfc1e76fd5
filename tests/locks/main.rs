//! The locks of the crate, on a real server.

#[path = "../support/mod.rs"]
mod support;

mod advisory {
    mod doubt;
    mod ends;
    mod granted_and_timed_out;
    mod keys;
    mod owner;
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
    mod ends;
    mod graph;
    mod holders;
    mod jam;
    mod locks;
    mod names;
    mod random;
    mod standby;
    mod watch;
}
mod pools {
    mod locks;
    mod soak;
}
mod retry;
mod round_trips;
mod row {
    mod clause;
    mod locks;
    mod time_limits;
}
mod shown;
mod table;
