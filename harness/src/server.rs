//! A private server for a test run.

#[cfg(unix)]
mod binaries;
#[cfg(unix)]
mod directory;
mod error;
#[cfg(unix)]
mod processes;
#[cfg(unix)]
mod temp_postgres;
#[cfg(unix)]
mod template;
#[cfg(unix)]
mod trust;
#[cfg(not(unix))]
mod unsupported;
#[cfg(unix)]
mod user;

pub use error::ServerError;
#[cfg(unix)]
pub use temp_postgres::TempPostgres;
#[cfg(not(unix))]
pub(crate) use unsupported::TempPostgres;
