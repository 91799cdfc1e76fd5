mod ext;
mod manager;

pub use self::ext::{PoolLockExt, PooledGuard};
pub use self::manager::LockAwareManager;
