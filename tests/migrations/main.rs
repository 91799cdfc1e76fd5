//! Migrations under a lock, on a real server, from one process and from several.

#[path = "../support/mod.rs"]
mod support;

mod applications;
mod attempts;
mod code;
mod dry_run {
    mod documented_locks;
    mod fixture;
    mod leaves_no_trace;
    mod locks;
}
mod fixture;
mod harness;
mod in_a_transaction;
mod in_the_way;
mod leftovers {
    mod fixture;
    mod found;
    mod left_alone;
    mod recorded;
    mod unnamed;
}
mod letting_go;
mod library;
mod lock;
mod lost_lock;
mod priority;
mod processes;
mod round_trips;
mod shown;
mod time_limits;
mod traffic;
mod versions;
