//! PostgreSQL's isolation-test files, run from the command line.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use diesel::{Connection, PgConnection};
use diesel_locks_harness::{Spec, TestDatabase};

use crate::arguments::Files;
use crate::database::{self, Database};
use crate::failure::Failure;
use crate::output;

pub(crate) fn main(files: &Files) -> Result<ExitCode, Failure> {
    Database::read_env_file();
    let server = database::url(files.database_url.as_deref())?;
    let mut status = ExitCode::SUCCESS;
    for file in &files.files {
        match run(file, &server) {
            Ok(transcript) => output::print(transcript)?,
            Err(error) => {
                let failure = Failure::new(file.display().to_string()).caused_by(error);
                output::tell(&failure);
                status = failure.exit_code();
            }
        }
    }
    Ok(status)
}

fn run(file: &Path, server: &str) -> Result<String, Box<dyn Error>> {
    let spec = Spec::parse(&fs::read_to_string(file)?)?;
    let database = match server {
        "" => TestDatabase::new(),
        url => TestDatabase::on(url),
    }?;
    let transcript = spec.run(|| PgConnection::establish(database.url()))?;
    Ok(transcript.to_string())
}
