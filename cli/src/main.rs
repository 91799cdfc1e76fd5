//! The command `diesel_locks`. `diesel_locks isolation FILE…` runs PostgreSQL's isolation-test
//! files.
//!
//! Each file has a database of its own, and prints what PostgreSQL's `isolationtester` prints,
//! but for rows, notices and notifications.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Arg, Command, value_parser};
use diesel::{Connection, PgConnection};
use diesel_locks_harness::{Spec, TestDatabase};

fn main() -> ExitCode {
    let matches = command().get_matches();
    match matches.subcommand() {
        Some(("isolation", matches)) => {
            let files = matches.get_many::<PathBuf>("FILE").unwrap_or_default();
            isolation(files)
        }
        // It is required, and there is no other.
        _ => ExitCode::FAILURE,
    }
}

fn command() -> Command {
    let files = Arg::new("FILE")
        .help("A file in the language of PostgreSQL's isolation tests")
        .value_parser(value_parser!(PathBuf))
        .num_args(1..)
        .required(true);
    let isolation = Command::new("isolation")
        .about("Runs PostgreSQL's isolation-test files, each on a database of its own")
        .long_about(
            "Runs PostgreSQL's isolation-test files, each on a database of its own, and prints \
             what isolationtester prints, but for rows, notices and notifications.\n\n\
             The databases are made on the server that DATABASE_URL names, or else on a private \
             one, which is started for them.",
        )
        .arg(files);
    Command::new("diesel_locks")
        .about("Locks on PostgreSQL")
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(isolation)
}

fn isolation<'f>(files: impl Iterator<Item = &'f PathBuf>) -> ExitCode {
    let mut all_ran = true;
    for file in files {
        match run(file) {
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

fn run(file: &Path) -> Result<String, Box<dyn Error>> {
    let spec = Spec::parse(&fs::read_to_string(file)?)?;
    let database = TestDatabase::new()?;
    let transcript = spec.run(|| PgConnection::establish(database.url()))?;
    Ok(transcript.to_string())
}
