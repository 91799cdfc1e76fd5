use diesel::QueryResult;
use diesel::RunQueryDsl;
use diesel::pg::Pg;
use diesel::query_builder::{AsQuery, AstPass, Query, QueryFragment, QueryId};

use super::sql::ALL;

/// A select from the tables of [`observed`](crate::observed), with what makes them tables.
///
/// Made by [`ObserveDsl::observed`].
#[derive(Debug, Clone, Copy, QueryId)]
#[must_use = "a query does nothing until it is loaded"]
pub struct Observed<Q> {
    query: Q,
}

impl<Q: Query> Query for Observed<Q> {
    type SqlType = Q::SqlType;
}

impl<Q, C> RunQueryDsl<C> for Observed<Q> {}

impl<Q: QueryFragment<Pg>> QueryFragment<Pg> for Observed<Q> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        let mut before = "WITH ";
        // What the query does not use, PostgreSQL does not run.
        for table in ALL {
            out.push_sql(before);
            out.push_sql(table);
            before = ", ";
        }
        out.push_sql(" ");
        self.query.walk_ast(out)
    }
}

/// Makes a select from the tables of [`observed`](crate::observed) one that can be loaded.
///
/// For every select: filtered, ordered, limited, grouped, boxed, and joined with other tables.
///
/// ```
/// use diesel::dsl::IntervalDsl;
/// use diesel::prelude::*;
/// use diesel_locks::observed::locks;
/// use diesel_locks::{LockInfo, prelude::*};
/// use diesel_locks_harness::TestDatabase;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let database = TestDatabase::new()?;
/// # let conn = &mut PgConnection::establish(database.url())?;
/// let stuck: Vec<LockInfo> = locks::table
///     .filter(locks::granted.eq(false))
///     .filter(locks::application.eq("billing"))
///     .filter(locks::age.gt(10.seconds()))
///     .observed()
///     .load(conn)?;
/// assert_eq!(stuck, []);
/// # Ok(())
/// # }
/// ```
pub trait ObserveDsl: AsQuery + Sized {
    /// The select, to be loaded as any other one of Diesel's.
    ///
    /// One round trip.
    fn observed(self) -> Observed<Self::Query> {
        Observed {
            query: self.as_query(),
        }
    }
}

impl<Q: AsQuery> ObserveDsl for Q {}
