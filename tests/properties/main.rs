//! What holds for any input. More of them are tried by
//! `PROPTEST_CASES=100000 cargo test --test properties`.

#[path = "../support/mod.rs"]
mod support;

#[path = "../support/hostile.rs"]
mod hostile;

mod keys;
mod messages;
mod sets;
