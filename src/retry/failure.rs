use std::error::Error as StdError;
use std::ops::Deref;

use diesel::result::Error;

use crate::seal::Seal;

/// The error of a transaction that [`Retrying`](crate::Retrying) runs: what Diesel's error turns
/// into by `?`, and what can be asked for its cause.
///
/// That is an error type of one's own that implements [`std::error::Error`], and one that points
/// to an error, such as `Box<dyn Error + Send + Sync>`, `anyhow::Error` and `eyre::Report`. `How`
/// tells the two apart, and is always inferred. This crate alone implements it.
///
/// ```compile_fail
/// use diesel::{PgConnection, result::Error};
/// use diesel_locks::{Retry, prelude::*};
///
/// enum Status {
///     InternalServerError,
/// }
///
/// impl From<Error> for Status {
///     fn from(_: Error) -> Self {
///         Self::InternalServerError
///     }
/// }
///
/// fn run(conn: &mut PgConnection) -> Result<(), Status> {
///     // error: `Status` cannot be the error of a transaction that is run again
///     conn.retrying(Retry::new()).transaction(|_| Ok(()))
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the error of a transaction that is run again",
    label = "no error that can be looked into",
    note = "it has to be `From<diesel::result::Error>`, and to implement `std::error::Error` or \
            point to such an error, as `Box<dyn Error + Send + Sync>` and `anyhow::Error` do"
)]
pub trait TransactionError<How>: From<Error> {
    /// What is looked into.
    #[doc(hidden)]
    fn as_std_error(&self, _: Seal) -> &(dyn StdError + 'static);
}

/// An error.
#[derive(Debug)]
pub enum Plain {}

impl<E: From<Error> + StdError + 'static> TransactionError<Plain> for E {
    fn as_std_error(&self, _: Seal) -> &(dyn StdError + 'static) {
        self
    }
}

/// A pointer to an error.
#[derive(Debug)]
pub enum Pointer {}

// By `Deref`, because `anyhow::Error` has more than one `AsRef`.
impl<E: From<Error> + Deref<Target: ErrorObject>> TransactionError<Pointer> for E {
    fn as_std_error(&self, _: Seal) -> &(dyn StdError + 'static) {
        self.deref().object()
    }
}

pub trait ErrorObject {
    fn object(&self) -> &(dyn StdError + 'static);
}

macro_rules! objects {
    ($($object:ty;)*) => {$(
        impl ErrorObject for $object {
            fn object(&self) -> &(dyn StdError + 'static) {
                self
            }
        }
    )*};
}

objects! {
    dyn StdError;
    dyn StdError + Send;
    dyn StdError + Send + Sync;
}
