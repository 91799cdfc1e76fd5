//! What is printed and told, whoever reads it: nobody may be there any more.

use std::fmt::Display;
use std::io::{self, Write};

use crate::failure::Failure;

/// Prints a text as it is, in colour only where the standard output is a terminal that wants it.
pub(crate) fn print(text: impl Display) -> Result<(), Failure> {
    let mut stdout = anstream::stdout().lock();
    match write!(stdout, "{text}").and_then(|()| stdout.flush()) {
        // Whoever reads has seen enough, as `head` has.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Failure::new("could not print").caused_by(error)),
        Ok(()) => Ok(()),
    }
}

/// Tells a line on the standard error.
pub(crate) fn tell(line: impl Display) {
    // There is nobody to tell that it cannot be told.
    let _ = writeln!(io::stderr(), "diesel_locks: {line}");
}
