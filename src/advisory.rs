#[cfg(feature = "r2d2")]
mod clean;
mod ext;
mod functions;
mod guard;
mod owned;
mod owner;
mod session;
mod several;
#[cfg(feature = "watch")]
mod watch;
mod xact;

#[cfg(feature = "r2d2")]
pub(crate) use self::clean::give_back_all;
pub use self::ext::AdvisoryLockExt;
pub use self::guard::AdvisoryLockGuard;
pub use self::owned::OwnedAdvisoryLockGuard;
#[cfg(feature = "watch")]
pub use self::watch::WatchedAdvisoryLockGuard;
