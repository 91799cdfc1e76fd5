//! Migrations under a lock, on a real server, from one process and from several.

#[path = "../support/mod.rs"]
mod support;

mod applications;
mod attack;
mod attempts;
mod code;
mod dry_run;
mod edges;
mod fixture;
mod harness;
mod hostile;
mod leftovers;
mod library;
mod lock;
mod priority;
mod processes;
mod remains;
mod round_trips;
mod shown;
mod traffic;
