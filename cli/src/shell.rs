//! What a package installs beside the command: completions for shells, and the man page.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Command};
use clap_complete::Shell;

use crate::failure::Failure;
use crate::output;

/// Prints the completions for a shell
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  diesel_locks completions bash > /etc/bash_completion.d/diesel_locks
  diesel_locks completions fish > ~/.config/fish/completions/diesel_locks.fish")]
pub(crate) struct CompletionsArguments {
    shell: Shell,
}

/// Prints the man page, or writes it and those of all commands into a directory
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  diesel_locks man | man -l -
  diesel_locks man --out-dir /usr/local/share/man/man1")]
pub(crate) struct ManArguments {
    /// Where diesel_locks.1, diesel_locks-run.1 and the others are written
    #[arg(long, value_name = "DIRECTORY")]
    out_dir: Option<PathBuf>,
}

pub(crate) fn completions(
    arguments: &CompletionsArguments,
    mut of: Command,
) -> Result<ExitCode, Failure> {
    let mut printed = Vec::new();
    clap_complete::generate(arguments.shell, &mut of, "diesel_locks", &mut printed);
    print(&printed)
}

pub(crate) fn man(arguments: &ManArguments, of: Command) -> Result<ExitCode, Failure> {
    if let Some(directory) = &arguments.out_dir {
        clap_mangen::generate_to(of, directory)
            .map_err(|error| Failure::new(directory.display().to_string()).caused_by(error))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut printed = Vec::new();
    clap_mangen::Man::new(of)
        .render(&mut printed)
        .map_err(Failure::new)?;
    print(&printed)
}

fn print(text: &[u8]) -> Result<ExitCode, Failure> {
    output::print(String::from_utf8_lossy(text))?;
    Ok(ExitCode::SUCCESS)
}
