mod clause;
mod dsl;
mod ext;
mod of;

pub use clause::{
    ForKeyShare, ForNoKeyUpdate, ForShare, ForUpdate, NoWait, RowLock, SkipLocked, Strength,
    Waiting, WhatToDo,
};
pub use dsl::{AlreadyLocked, Boxed, BoxedAndLocked, LockRows, Locked, RowLockDsl, Unlocked};
pub use ext::RowLockExt;
pub use of::{AllTables, LockedTables, Of, One, Several};
