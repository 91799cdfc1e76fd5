use std::marker::PhantomData;

use diesel::QueryResult;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};

use super::of::{AllTables, LockedTables, Of};
use crate::seal::Sealed;

/// PostgreSQL's locking clause: `FOR UPDATE OF accounts SKIP LOCKED` and the like.
///
/// It is put on a query by [`RowLockDsl::lock_rows`](crate::RowLockDsl::lock_rows). See
/// [*The Locking Clause*], in the PostgreSQL documentation's page on `SELECT`, and
/// [*Row-Level Locks*], section 13.3.2, for what conflicts with what:
///
/// | | `for_key_share` | `for_share` | `for_no_key_update` | `for_update` |
/// |---|---|---|---|---|
/// | `for_key_share` | | | | conflicts |
/// | `for_share` | | | conflicts | conflicts |
/// | `for_no_key_update` | | conflicts | conflicts | conflicts |
/// | `for_update` | conflicts | conflicts | conflicts | conflicts |
///
/// What it is made of is part of its type, so that Diesel prepares each distinct SQL once.
///
/// [*The Locking Clause*]: https://www.postgresql.org/docs/current/sql-select.html#SQL-FOR-UPDATE-SHARE
/// [*Row-Level Locks*]: https://www.postgresql.org/docs/current/explicit-locking.html#LOCKING-ROWS
#[derive(Debug, Clone, Copy)]
#[must_use = "it locks nothing until it is put on a query"]
pub struct RowLock<S, T = AllTables, W = Waiting> {
    strength: PhantomData<S>,
    tables: T,
    what_to_do: W,
}

impl<S: Strength> RowLock<S> {
    fn new() -> Self {
        Self {
            strength: PhantomData,
            tables: AllTables,
            what_to_do: Waiting,
        }
    }
}

impl RowLock<ForUpdate> {
    /// `FOR UPDATE`: nobody else may lock, update or delete the rows.
    pub fn for_update() -> Self {
        Self::new()
    }
}

impl RowLock<ForNoKeyUpdate> {
    /// `FOR NO KEY UPDATE`: as `FOR UPDATE`, but rows may still refer to these by foreign keys.
    pub fn for_no_key_update() -> Self {
        Self::new()
    }
}

impl RowLock<ForShare> {
    /// `FOR SHARE`: others may lock the rows in the same way, but not update or delete them.
    pub fn for_share() -> Self {
        Self::new()
    }
}

impl RowLock<ForKeyShare> {
    /// `FOR KEY SHARE`: others may not delete the rows, nor update their keys.
    pub fn for_key_share() -> Self {
        Self::new()
    }
}

impl<S, T, W> RowLock<S, T, W> {
    /// `OF`: locks the rows of these tables of the query only.
    ///
    /// One table or alias, or a tuple of up to four. It is needed for outer joins, where
    /// PostgreSQL refuses to lock the nullable side.
    pub fn of<U: LockedTables<How>, How>(self, tables: U) -> RowLock<S, Of<U, How>, W> {
        RowLock {
            strength: PhantomData,
            tables: Of::new(tables),
            what_to_do: self.what_to_do,
        }
    }

    /// `NOWAIT`: fails at once if another transaction has locked one of the rows.
    pub fn nowait(self) -> RowLock<S, T, NoWait> {
        self.split(NoWait).0
    }

    /// `SKIP LOCKED`: leaves out the rows that another transaction has locked.
    pub fn skip_locked(self) -> RowLock<S, T, SkipLocked> {
        self.split(SkipLocked).0
    }

    /// With another thing to do about locked rows, and the one that it had.
    pub(super) fn split<V>(self, what_to_do: V) -> (RowLock<S, T, V>, W) {
        let lock = RowLock {
            strength: PhantomData,
            tables: self.tables,
            what_to_do,
        };
        (lock, self.what_to_do)
    }
}

impl<S, T, W> QueryFragment<Pg> for RowLock<S, T, W>
where
    S: Strength,
    T: QueryFragment<Pg>,
    W: WhatToDo,
{
    #[inline(always)]
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(S::SQL);
        self.tables.walk_ast(out.reborrow())?;
        self.what_to_do.walk_ast(out)
    }
}

/// The SQL depends on nothing but the types.
impl<S: 'static, T: 'static, W: 'static> QueryId for RowLock<S, T, W> {
    type QueryId = Self;
    const HAS_STATIC_QUERY_ID: bool = true;
}

/// How strong a [`RowLock`] is.
pub trait Strength: Sealed + 'static {
    #[doc(hidden)]
    const SQL: &'static str;
}

/// What a [`RowLock`] does about rows that another transaction has locked.
pub trait WhatToDo: Sealed + QueryFragment<Pg> + QueryId + 'static {}

macro_rules! strengths {
    ($($name:ident, $sql:literal, $doc:literal;)*) => {$(
        #[doc = $doc]
        #[derive(Debug, Clone, Copy)]
        pub enum $name {}

        impl Sealed for $name {}

        impl Strength for $name {
            const SQL: &'static str = $sql;
        }
    )*};
}

strengths! {
    ForUpdate, " FOR UPDATE", "The strength of [`RowLock::for_update`].";
    ForNoKeyUpdate, " FOR NO KEY UPDATE", "The strength of [`RowLock::for_no_key_update`].";
    ForShare, " FOR SHARE", "The strength of [`RowLock::for_share`].";
    ForKeyShare, " FOR KEY SHARE", "The strength of [`RowLock::for_key_share`].";
}

macro_rules! things_to_do {
    ($($name:ident, $sql:literal, $doc:literal;)*) => {$(
        #[doc = $doc]
        #[derive(Debug, Clone, Copy, QueryId)]
        pub struct $name;

        impl Sealed for $name {}

        impl WhatToDo for $name {}

        impl QueryFragment<Pg> for $name {
            // Diesel walks through a query several times for each run.
            #[inline(always)]
            fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
                if !$sql.is_empty() {
                    out.push_sql($sql);
                }
                Ok(())
            }
        }
    )*};
}

things_to_do! {
    Waiting, "", "A [`RowLock`] that waits for other transactions.";
    NoWait, " NOWAIT", "A [`RowLock`] after [`nowait`](RowLock::nowait).";
    SkipLocked, " SKIP LOCKED", "A [`RowLock`] after [`skip_locked`](RowLock::skip_locked).";
}
