//! The command in a terminal, whose screen is read.
//!
//! Needs tmux (Debian: `apt-get install tmux`), and therefore runs only when it is asked for:
//! `cargo test --all-features --test terminal`.

#![cfg(unix)]

mod fixture;
mod network;
mod questions;
mod screen;
mod top;
