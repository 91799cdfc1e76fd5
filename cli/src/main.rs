//! Runs PostgreSQL's isolation-test files: `cargo run --example isolation -- FILE…`
//!
//! Each file has a database of its own, and prints what PostgreSQL's `isolationtester` prints,
//! but for rows, notices and notifications.

use std::error::Error;
use std::process::ExitCode;
use std::{env, fs};

use diesel_locks::harness::{Spec, TestDatabase};

fn main() -> ExitCode {
    let files: Vec<_> = env::args_os().skip(1).collect();
    if files.is_empty() {
        eprintln!("usage: cargo run --example isolation -- FILE...");
        return ExitCode::FAILURE;
    }
    let mut all_ran = true;
    for file in files {
        let ran = fs::read_to_string(&file)
            .map_err(Into::into)
            .and_then(|text| run(&text));
        match ran {
            Ok(transcript) => print!("{transcript}"),
            Err(error) => {
                eprintln!("{}: {error}", file.display());
                let mut source = error.source();
                while let Some(error) = source {
                    eprintln!("    {error}");
                    source = error.source();
                }
                all_ran = false;
            }
        }
    }
    match all_ran {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn run(text: &str) -> Result<String, Box<dyn Error>> {
    let spec = Spec::parse(text)?;
    let database = TestDatabase::new()?;
    Ok(spec.run(database.url())?.to_string())
}
