use diesel::QueryResult;
use diesel::associations::HasTable;
use diesel::pg::Pg;
use diesel::query_builder::QueryFragment;

use crate::seal::Seal;
use crate::sql::as_sql;

/// What [`TableLockExt`](crate::TableLockExt) locks: a table that `diesel::table!` makes, or a
/// tuple of up to eight of them.
///
/// In a schema or not, and a view just as well. An alias is none, because PostgreSQL locks tables
/// by their own names. `How` tells a table from a tuple, and is always inferred. This crate alone
/// implements it.
///
/// ```compile_fail
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/doctest.rs"));
/// use diesel::prelude::*;
/// use diesel_locks::{LockError, TableLockMode, prelude::*};
///
/// fn lock(conn: &mut PgConnection) -> Result<(), LockError> {
///     let rich = diesel::alias!(accounts as rich);
///     // error: `(jobs::table, Alias<rich>)` is neither a table nor a tuple of one to eight tables
///     conn.lock_table((jobs::table, rich), TableLockMode::Exclusive)
/// }
/// # fn main() {}
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is neither a table nor a tuple of one to eight tables",
    label = "no table",
    note = "`LOCK TABLE` takes tables and views as `diesel::table!` makes them, such as \
            `accounts::table`: no query, column or alias"
)]
pub trait LockableTables<How> {
    /// The names, as SQL quotes them.
    #[doc(hidden)]
    fn names(&self, _: Seal) -> QueryResult<Vec<String>>;
}

/// A table.
#[derive(Debug)]
pub enum One {}

impl<T: HasTable<Table = T> + QueryFragment<Pg>> LockableTables<One> for T {
    fn names(&self, _: Seal) -> QueryResult<Vec<String>> {
        Ok(vec![as_sql(self)?])
    }
}

/// A tuple of tables.
#[derive(Debug)]
pub enum Several {}

impl<T: Tuple> LockableTables<Several> for T {
    fn names(&self, _: Seal) -> QueryResult<Vec<String>> {
        self.each()
    }
}

/// A trait of its own, so that the compiler says of anything else that it is neither.
pub trait Tuple {
    fn each(&self) -> QueryResult<Vec<String>>;
}

macro_rules! tuples {
    ($($($table:ident)*;)*) => {$(
        impl<$($table: LockableTables<One>),*> Tuple for ($($table,)*) {
            fn each(&self) -> QueryResult<Vec<String>> {
                #[expect(non_snake_case, reason = "named after their types")]
                let ($($table,)*) = self;
                Ok([$($table.names(Seal)?),*].concat())
            }
        }
    )*};
}

tuples! {
    A;
    A B;
    A B C;
    A B C D;
    A B C D E;
    A B C D E F;
    A B C D E F G;
    A B C D E F G H;
}
