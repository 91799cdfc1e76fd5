mod clause;
mod count;
mod dsl;
mod endings;
mod ext;
mod load;
mod locked;
mod of;
mod relation;

pub use clause::{
    ForKeyShare, ForNoKeyUpdate, ForShare, ForUpdate, NoWait, RowLock, SkipLocked, Strength,
    Waiting, WhatToDo,
};
pub use dsl::{Behind, LockRows, RowLockDsl, Unlocked};
pub use ext::RowLockExt;
pub use locked::{AlreadyLocked, Appended, Base, Boxed, ByDiesel, Locked, LockedQuery};
pub use of::{AllTables, LockedTables, Of, One, Several};
