use super::error::ServerError;

/// Stands for the server where none can be started: there is no value of it.
#[derive(Debug)]
pub(crate) enum TempPostgres {}

impl TempPostgres {
    pub(crate) fn start() -> Result<Self, ServerError> {
        Err(ServerError::Unsupported)
    }

    pub(crate) fn url(&self) -> &str {
        match *self {}
    }
}
