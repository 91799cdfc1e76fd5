use std::marker::PhantomData;

use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::BigInt;
use diesel::{QueryResult, RunQueryDsl};

use super::locked::LockedQuery;
use crate::seal::Seal;

const BEFORE: &str = "SELECT pg_catalog.count(*) FROM (";
const AFTER: &str = ") AS locked";

/// The SQL of the query that has the rows.
pub(super) fn uncounted(sql: &str) -> &str {
    let query = sql.strip_prefix(BEFORE);
    query.and_then(|sql| sql.strip_suffix(AFTER)).unwrap_or(sql)
}

/// How many rows a query has, so that the server runs it, and sends no row of it.
#[derive(Debug, Clone, Copy, QueryId)]
pub(super) struct Count<Q>(pub(super) Q);

impl<Q: QueryFragment<Pg>> QueryFragment<Pg> for Count<Q> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(BEFORE);
        self.0.walk_ast(out.reborrow())?;
        out.push_sql(AFTER);
        Ok(())
    }
}

impl<Q> Query for Count<Q> {
    type SqlType = BigInt;
}

impl<Q, C> RunQueryDsl<C> for Count<Q> {}

/// The lock is that of the query inside, for [`LockedQuery`].
pub(super) struct Inside<How>(PhantomData<How>);

impl<Q: LockedQuery<How>, How> LockedQuery<Inside<How>> for Count<Q> {
    type Nowait = Count<Q::Nowait>;

    fn nowait(self, _: Seal) -> Self::Nowait {
        Count(self.0.nowait(Seal))
    }
}
