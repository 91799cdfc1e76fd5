use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::query_dsl::methods::{LimitDsl, LockingDsl, ModifyLockDsl};
use diesel::{QueryResult, RunQueryDsl};

/// Row locks on a query.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/doctest.rs"));
/// use diesel::pg::Pg;
/// use diesel::prelude::*;
/// use diesel_locks::{LockError, RowLock, prelude::*};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let database = database()?;
/// # let conn = &mut PgConnection::establish(database.url())?;
/// // Diesel wants an alias where a query and its subquery are of the same table.
/// let queue = diesel::alias!(jobs as queue);
/// let next = queue
///     .filter(queue.field(jobs::done).eq(false))
///     .order(queue.field(jobs::id))
///     .limit(1)
///     .select(queue.field(jobs::id))
///     .lock_rows(RowLock::for_update().skip_locked());
/// assert!(diesel::debug_query::<Pg, _>(&next).to_string().contains(" FOR UPDATE SKIP LOCKED"));
///
/// conn.transaction::<_, LockError, _>(|conn| {
///     // Any of Diesel's methods runs it, alone or as a part of a larger query.
///     let none: Option<i32> = next.first(conn).optional()?;
///     assert_eq!(none, None);
///     diesel::update(jobs::table)
///         .filter(jobs::id.eq_any(next))
///         .set(jobs::done.eq(true))
///         .execute(conn)?;
///
///     // An outer join needs `of`.
///     let owners = accounts::table
///         .left_join(jobs::table)
///         .select(accounts::owner)
///         .lock_rows(RowLock::for_share().of(accounts::table).nowait());
///     let owners: Vec<String> = conn.select_locked(owners)?;
///     assert_eq!(owners.len(), 2);
///     Ok(())
/// })?;
/// # Ok(())
/// # }
/// ```
pub trait RowLockDsl: Sized {
    /// Adds a locking clause.
    ///
    /// To a table, an alias, a filtered, joined, ordered, limited or boxed query; and to a query
    /// that has one already, so that `FOR UPDATE OF a FOR SHARE OF b` is two calls. What
    /// PostgreSQL refuses does not compile for `DISTINCT`, `GROUP BY` and set operations, unless
    /// the query is boxed, and is an error of the server for all else, such as aggregates.
    ///
    /// ```compile_fail
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/doctest.rs"));
    /// use diesel::prelude::*;
    /// use diesel_locks::{RowLock, prelude::*};
    ///
    /// # fn main() {
    /// // error: the rows of `SelectStatement<…>` cannot be locked
    /// accounts::table.select(accounts::owner).distinct().lock_rows(RowLock::for_update());
    /// # }
    /// ```
    ///
    /// The query runs as any other of Diesel's, with Diesel's errors. Outside a transaction its
    /// locks are gone when it ends;
    /// [`select_locked`](crate::RowLockExt::select_locked) checks that, and has typed errors.
    fn lock_rows<L, How>(self, lock: L) -> Self::Output
    where
        Self: LockRows<L, How>,
    {
        self.add(lock)
    }
}

impl<Q> RowLockDsl for Q {}

/// A query that [`lock_rows`](RowLockDsl::lock_rows) takes.
///
/// `How` tells the kinds of queries apart, and is always inferred.
#[diagnostic::on_unimplemented(
    message = "the rows of `{Self}` cannot be locked",
    label = "PostgreSQL locks no rows of this query",
    note = "a locking clause goes with neither DISTINCT, GROUP BY nor set operations"
)]
pub trait LockRows<L, How> {
    /// The query with its locking clause.
    type Output;

    #[doc(hidden)]
    fn add(self, lock: L) -> Self::Output;
}

/// A table, an alias or a select without a locking clause, for [`LockRows`].
#[derive(Debug, Clone, Copy)]
pub enum Unlocked {}

impl<Q: LockingDsl<L>, L> LockRows<L, Unlocked> for Q {
    type Output = <Q as LockingDsl<L>>::Output;

    fn add(self, lock: L) -> Self::Output {
        self.with_lock(lock)
    }
}

/// A select that has a locking clause, for [`LockRows`].
#[derive(Debug, Clone, Copy)]
pub enum AlreadyLocked {}

impl<Q: ModifyLockDsl<L>, L> LockRows<L, AlreadyLocked> for Q {
    type Output = <Q as ModifyLockDsl<L>>::Output;

    fn add(self, lock: L) -> Self::Output {
        // Diesel writes its modifier where a second clause belongs.
        self.modify_lock(lock)
    }
}

/// A boxed select without a locking clause, for [`LockRows`].
#[derive(Debug, Clone, Copy)]
pub enum Boxed {}

impl<Q: Query + QueryId<QueryId = ()>, L> LockRows<L, Boxed> for Q {
    type Output = Locked<Q, L>;

    fn add(self, lock: L) -> Self::Output {
        Locked::new(self, lock)
    }
}

/// A select with a locking clause behind it, where Diesel has no place for one of its own.
#[derive(Debug, Clone, Copy, QueryId)]
pub struct Locked<Q, L> {
    query: Q,
    lock: L,
}

impl<Q, L> Locked<Q, L> {
    pub(super) fn new(query: Q, lock: L) -> Self {
        Self { query, lock }
    }
}

impl<Q, L> QueryFragment<Pg> for Locked<Q, L>
where
    Q: QueryFragment<Pg>,
    L: QueryFragment<Pg>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        self.query.walk_ast(out.reborrow())?;
        self.lock.walk_ast(out)
    }
}

/// A boxed select that has a locking clause, for [`LockRows`].
#[derive(Debug, Clone, Copy)]
pub enum BoxedAndLocked {}

impl<Q, L, M> LockRows<M, BoxedAndLocked> for Locked<Q, L> {
    type Output = Locked<Self, M>;

    fn add(self, lock: M) -> Self::Output {
        Locked::new(self, lock)
    }
}

impl<Q: Query, L> Query for Locked<Q, L> {
    type SqlType = Q::SqlType;
}

impl<Q: LimitDsl, L> LimitDsl for Locked<Q, L> {
    type Output = Locked<Q::Output, L>;

    fn limit(self, limit: i64) -> Self::Output {
        Locked::new(self.query.limit(limit), self.lock)
    }
}

impl<Q, L, C> RunQueryDsl<C> for Locked<Q, L> {}
