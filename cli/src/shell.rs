//! What a package installs beside the command: completions for shells, and the man page.

use std::io;
use std::process::ExitCode;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::arguments::Arguments;
use crate::failure::Failure;

/// Prints the completions for a shell
///
/// For bash: `diesel_locks completions bash > /etc/bash_completion.d/diesel_locks`.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArguments {
    shell: Shell,
}

pub(crate) fn completions(arguments: &CompletionsArguments) -> Result<ExitCode, Failure> {
    let mut printed = Vec::new();
    clap_complete::generate(
        arguments.shell,
        &mut Arguments::command(),
        "diesel_locks",
        &mut printed,
    );
    print(&printed)
}

pub(crate) fn man() -> Result<ExitCode, Failure> {
    let mut printed = Vec::new();
    clap_mangen::Man::new(Arguments::command())
        .render(&mut printed)
        .map_err(Failure::new)?;
    print(&printed)
}

fn print(text: &[u8]) -> Result<ExitCode, Failure> {
    match io::Write::write_all(&mut io::stdout(), text) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::new(error)),
        _ => Ok(ExitCode::SUCCESS),
    }
}
