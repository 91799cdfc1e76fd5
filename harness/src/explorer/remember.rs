//! Schedules that have failed, in a file that is kept with the tests.

use std::fs;
use std::io;
use std::path::PathBuf;

use super::error::ExplorerError;

const HEAD: &str = "# Schedules that have failed. They are run first, and are to be kept with the \
                    tests: one a line.\n";

/// The file.
#[derive(Debug)]
pub(super) struct Memory(pub(super) PathBuf);

impl Memory {
    /// The schedules in it; none if there is no file.
    pub(super) fn schedules(&self) -> Result<Vec<String>, ExplorerError> {
        let text = match fs::read_to_string(&self.0) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(self.error(error)),
        };
        let lines = text.lines().map(str::trim);
        let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        Ok(lines.map(str::to_owned).collect())
    }

    /// Adds those that are not in it.
    pub(super) fn add<'s>(
        &self,
        schedules: impl Iterator<Item = &'s str>,
    ) -> Result<(), ExplorerError> {
        let known = self.schedules()?;
        let mut new: Vec<&str> = schedules
            .filter(|schedule| !schedule.is_empty() && !known.iter().any(|known| known == schedule))
            .collect();
        new.dedup();
        if new.is_empty() {
            return Ok(());
        }
        let before = match fs::read_to_string(&self.0) {
            Ok(text) if text.ends_with('\n') => text,
            Ok(text) => format!("{text}\n"),
            Err(_) => HEAD.to_owned(),
        };
        let text = format!("{before}{}\n", new.join("\n"));
        fs::write(&self.0, text).map_err(|error| self.error(error))
    }

    fn error(&self, source: io::Error) -> ExplorerError {
        ExplorerError::Remember {
            path: self.0.clone(),
            source,
        }
    }
}
