use std::marker::PhantomData;

use diesel::QueryResult;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment};
use diesel::query_source::QuerySource;

use crate::seal::Seal;
use crate::sql::as_sql;

/// A [`RowLock`](crate::RowLock) on the rows of all tables of the query.
#[derive(Debug, Clone, Copy)]
pub struct AllTables;

impl QueryFragment<Pg> for AllTables {
    #[inline(always)]
    fn walk_ast<'b>(&'b self, _out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        Ok(())
    }
}

/// A [`RowLock`](crate::RowLock) after [`of`](crate::RowLock::of).
#[derive(Debug, Clone, Copy)]
pub struct Of<T, How> {
    tables: T,
    how: PhantomData<How>,
}

impl<T, How> Of<T, How> {
    pub(super) fn new(tables: T) -> Self {
        Self {
            tables,
            how: PhantomData,
        }
    }
}

impl<T: LockedTables<How>, How> QueryFragment<Pg> for Of<T, How> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(" OF ");
        for (count, sql) in self.tables.as_sql(Seal)?.iter().enumerate() {
            if count > 0 {
                out.push_sql(", ");
            }
            // `OF` takes no schema, and the name of an alias rather than of its table.
            out.push_sql(last_identifier(sql));
        }
        Ok(())
    }
}

/// Tables or aliases of a query: one, or a tuple of them.
///
/// `How` tells the two apart, and is always inferred.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is neither a table or alias, nor a tuple of up to four of them",
    label = "not tables of a query"
)]
pub trait LockedTables<How> {
    /// Each of them, as it stands in a `FROM`.
    #[doc(hidden)]
    fn as_sql(&self, _: Seal) -> QueryResult<Vec<String>>;
}

/// One table or alias, for [`LockedTables`].
#[derive(Debug, Clone, Copy)]
pub enum One {}

impl<T: QuerySource + QueryFragment<Pg>> LockedTables<One> for T {
    fn as_sql(&self, _: Seal) -> QueryResult<Vec<String>> {
        Ok(vec![as_sql(self)?])
    }
}

/// A tuple of tables and aliases, for [`LockedTables`].
#[derive(Debug, Clone, Copy)]
pub enum Several {}

macro_rules! tuples {
    ($($($table:ident)*;)*) => {$(
        impl<$($table: QuerySource + QueryFragment<Pg>),*> LockedTables<Several> for ($($table,)*) {
            fn as_sql(&self, _: Seal) -> QueryResult<Vec<String>> {
                #[expect(non_snake_case, reason = "named after their types")]
                let ($($table,)*) = self;
                Ok(vec![$(as_sql($table)?),*])
            }
        }
    )*};
}

tuples! {
    A;
    A B;
    A B C;
    A B C D;
}

/// The last of the quoted identifiers of `"schema"."table"` or `"table" AS "alias"`, in which a
/// quote is doubled.
fn last_identifier(sql: &str) -> &str {
    let mut last = 0;
    let mut is_quoted = false;
    let mut before = None;
    for (at, character) in sql.char_indices() {
        if character == '"' {
            is_quoted = !is_quoted;
            if is_quoted && before != Some('"') {
                last = at;
            }
        }
        before = Some(character);
    }
    &sql[last..]
}

#[cfg(test)]
mod tests {
    use super::last_identifier;

    #[test]
    fn the_last_identifier_keeps_its_quotes() {
        for (sql, last) in [
            (r#""accounts""#, r#""accounts""#),
            (r#""bank"."accounts""#, r#""accounts""#),
            (r#""bank"."accounts" AS "a""#, r#""a""#),
            (r#""b.c"."a.b""#, r#""a.b""#),
            (r#""b""c"."a""b""#, r#""a""b""#),
            (r#""b"."""a""#, r#""""a""#),
            (r#""a""#, r#""a""#),
        ] {
            assert_eq!(last_identifier(sql), last);
        }
    }
}
