//! The harness, on a real server.

#[path = "../../../tests/support/mod.rs"]
mod support;

mod contention {
    mod outcomes;
    mod sqlite;
}
mod errors;
mod explorer;
mod isolation;
mod processes;
mod scenario {
    mod assertion_lines;
    mod assertions;
    mod conflict_matrix;
    mod steps;
}
mod server {
    mod ends;
    mod neighbours;
    mod private;
    mod templates;
}
