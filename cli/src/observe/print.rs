use std::process::ExitCode;

use serde_json::Value;

use crate::failure::Failure;
use crate::output;

pub(super) fn print_json(value: &Value) -> Result<ExitCode, Failure> {
    print(&format!("{value:#}"))
}

/// Prints lines.
pub(super) fn print(text: &str) -> Result<ExitCode, Failure> {
    output::print(format_args!("{}\n", text.trim_end()))?;
    Ok(ExitCode::SUCCESS)
}
