use std::marker::PhantomData;

use diesel::pg::Pg;
use diesel::query_builder::QueryFragment;
use diesel::query_dsl::methods::{LockingDsl, ModifyLockDsl};

use super::clause::{NoWait, RowLock, Strength, Waiting, WhatToDo};
use super::locked::{Appended, Base, ByDiesel, Locked, LockedQuery};
use crate::seal::Seal;

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
    /// ```compile_fail,E0277
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/doctest.rs"));
    /// use diesel::prelude::*;
    /// use diesel_locks::{RowLock, prelude::*};
    ///
    /// # fn main() {
    /// // error: the rows of `SelectStatement<…>` cannot be locked
    /// let owners = accounts::table.select(accounts::owner).distinct();
    /// let owners = owners.lock_rows(RowLock::for_update());
    /// # }
    /// ```
    ///
    /// The query runs as any other of Diesel's, with Diesel's errors. Outside a transaction its
    /// locks are gone when it ends;
    /// [`select_locked`](crate::RowLockExt::select_locked) checks that, and has typed errors.
    /// Diesel's own methods go on from there, but not from a second clause, nor from one on a
    /// boxed query.
    fn lock_rows<L, How>(self, lock: L) -> Self::Output
    where
        Self: LockRows<L, How>,
    {
        self.add(lock, Seal)
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
    type Output: LockedQuery<Self::Locked, Nowait = Self::Nowait>;

    /// The same, with `NOWAIT`.
    #[doc(hidden)]
    type Nowait;

    /// Where the clause is.
    #[doc(hidden)]
    type Locked;

    #[doc(hidden)]
    fn add(self, lock: L, _: Seal) -> Self::Output;
}

/// A table, an alias or a select without a locking clause, for [`LockRows`].
#[derive(Debug, Clone, Copy)]
pub enum Unlocked {}

impl<Q, S, T, W> LockRows<RowLock<S, T, W>, Unlocked> for Q
where
    Q: LockingDsl<RowLock<S, T>>,
    <Q as LockingDsl<RowLock<S, T>>>::Output: ModifyLockDsl<W>,
    Modified<<Q as LockingDsl<RowLock<S, T>>>::Output, W>: LockedQuery<ByDiesel>,
{
    type Output = Modified<<Q as LockingDsl<RowLock<S, T>>>::Output, W>;
    type Nowait = <Self::Output as LockedQuery<ByDiesel>>::Nowait;
    type Locked = ByDiesel;

    fn add(self, lock: RowLock<S, T, W>, _: Seal) -> Self::Output {
        // In Diesel's place for it, `NOWAIT` can take the place of what is there.
        let (lock, what_to_do) = lock.split(Waiting);
        self.with_lock(lock).modify_lock(what_to_do)
    }
}

type Modified<Q, W> = <Q as ModifyLockDsl<W>>::Output;

/// A boxed query, or one that has a locking clause, for [`LockRows`].
#[derive(Debug, Clone, Copy)]
pub struct Behind<How>(PhantomData<How>);

impl<Q, S, T, W, How> LockRows<RowLock<S, T, W>, Behind<How>> for Q
where
    Q: Base<How>,
    S: Strength,
    T: QueryFragment<Pg> + 'static,
    W: WhatToDo,
{
    type Output = Locked<Q, RowLock<S, T, W>>;
    type Nowait = Locked<Q::Nowait, RowLock<S, T, NoWait>>;
    type Locked = Appended<How>;

    fn add(self, lock: RowLock<S, T, W>, _: Seal) -> Self::Output {
        Locked::new(self, lock)
    }
}
