use std::marker::PhantomData;

use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::query_dsl::methods::{LimitDsl, ModifyLockDsl};
use diesel::{QueryResult, RunQueryDsl};

use super::clause::{NoWait, RowLock, Strength, WhatToDo};
use crate::seal::Seal;

/// A query that has a locking clause: what [`lock_rows`](crate::RowLockDsl::lock_rows) gives, and
/// Diesel's `for_update` and its sisters.
///
/// `How` tells where the clause is, and is always inferred.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no lock, so none of its rows would be locked",
    label = "a query without a lock",
    note = "put one on it: `query.lock_rows(RowLock::for_share())`"
)]
pub trait LockedQuery<How>: Query + QueryFragment<Pg> + QueryId {
    /// The same query, with `NOWAIT` in each of its clauses.
    #[doc(hidden)]
    type Nowait: Query + QueryFragment<Pg> + QueryId;

    #[doc(hidden)]
    fn nowait(self, _: Seal) -> Self::Nowait;
}

/// The clause is where Diesel has a place for it, for [`LockedQuery`].
#[derive(Debug, Clone, Copy)]
pub enum ByDiesel {}

#[diagnostic::do_not_recommend]
impl<Q> LockedQuery<ByDiesel> for Q
where
    Q: ModifyLockDsl<NoWait> + Query + QueryFragment<Pg> + QueryId,
    Q::Output: Query + QueryFragment<Pg> + QueryId,
{
    type Nowait = Q::Output;

    fn nowait(self, _: Seal) -> Self::Nowait {
        self.modify_lock(NoWait)
    }
}

/// The clause stands behind another query, for [`LockedQuery`].
#[derive(Debug, Clone, Copy)]
pub struct Appended<How>(PhantomData<How>);

impl<Q, S, T, W, How> LockedQuery<Appended<How>> for Locked<Q, RowLock<S, T, W>>
where
    Q: Base<How>,
    S: Strength,
    T: QueryFragment<Pg> + 'static,
    W: WhatToDo,
{
    type Nowait = Locked<Q::Nowait, RowLock<S, T, NoWait>>;

    fn nowait(self, _: Seal) -> Self::Nowait {
        Locked::new(self.query.nowait(Seal), self.lock.nowait())
    }
}

/// A query behind which a locking clause stands, of which Diesel's types don't tell.
pub trait Base<How>: Query + QueryFragment<Pg> + QueryId {
    /// The same query, with `NOWAIT` in each of its clauses.
    type Nowait: Query + QueryFragment<Pg> + QueryId;

    #[doc(hidden)]
    fn nowait(self, _: Seal) -> Self::Nowait;
}

/// A boxed select, or a text, for [`LockRows`](super::LockRows).
#[derive(Debug, Clone, Copy)]
pub enum Boxed {}

impl<Q: Query + QueryFragment<Pg> + QueryId<QueryId = ()>> Base<Boxed> for Q {
    type Nowait = Q;

    fn nowait(self, _: Seal) -> Q {
        self
    }
}

/// A query that has a locking clause already, for [`LockRows`](super::LockRows).
#[derive(Debug, Clone, Copy)]
pub struct AlreadyLocked<How>(PhantomData<How>);

impl<Q: LockedQuery<How>, How> Base<AlreadyLocked<How>> for Q {
    type Nowait = Q::Nowait;

    fn nowait(self, _: Seal) -> Self::Nowait {
        LockedQuery::nowait(self, Seal)
    }
}

/// A select with a locking clause behind it, where Diesel has no place for one of its own.
#[derive(Debug, Clone, Copy, QueryId)]
#[must_use = "it locks nothing until it is run"]
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
