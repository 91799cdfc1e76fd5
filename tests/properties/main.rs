//! What holds for any input. `PROPTEST_CASES=100000 cargo test properties` tries more of them.

#[path = "../support/mod.rs"]
mod support;

#[path = "../support/hostile.rs"]
mod hostile;

mod keys;
mod messages;
mod sets;
