//! What holds a connection is shown without it, and a refusal as the error that it is.

use std::error::Error as _;
use std::time::Duration;

use diesel::prelude::*;
use diesel_locks::prelude::*;
use diesel_locks::{End, OwnedAdvisoryLockGuard, Prioritized, Retry, Wait};
use serial_test::parallel;

use crate::support::{backend_pid, database, two_sessions};

#[test]
#[parallel]
fn what_holds_a_connection_is_shown_without_it() {
    let (database, mut here, _there) = two_sessions(database());
    let pid = backend_pid(&mut here);
    let guard = here.advisory_lock("x").unwrap();
    let shown = format!("{guard:?}");
    let of_lock = format!("{:?}", guard.lock());
    assert!(shown.starts_with("AdvisoryLockGuard { held: "), "{shown}");
    assert!(shown.contains(&of_lock), "{shown}");
    guard.release().unwrap();

    let guard = OwnedAdvisoryLockGuard::connect(database.url(), "x", Wait::NoWait).unwrap();
    let shown = format!("{guard:?}");
    assert!(
        shown.starts_with("OwnedAdvisoryLockGuard { held: "),
        "{shown}"
    );
    assert!(shown.contains(&of_lock), "{shown}");
    let guard = guard.watch(Duration::from_secs(9)).unwrap();
    assert_eq!(
        format!("{guard:?}"),
        format!("WatchedAdvisoryLockGuard {{ lock: {of_lock}, interval: 9s, .. }}")
    );
    drop(guard);

    let retry = Retry::new();
    assert_eq!(
        format!("{:?}", here.retrying(retry)),
        format!("Retrying {{ retry: {retry:?}, .. }}")
    );
    let second = PgConnection::establish(database.url()).unwrap();
    let how = End::Cancel;
    let prioritized = Prioritized::start(&mut here, second, how, Duration::from_secs(9)).unwrap();
    let shown = format!("{prioritized:?}");
    assert_eq!(shown, format!("Prioritized {{ pid: {pid}, .. }}"));
    prioritized.stop().unwrap();
}

#[test]
#[parallel]
fn a_refusal_with_a_connection_is_shown_as_the_error_that_it_is() {
    let (_database, mut here, there) = two_sessions(database());
    let _guard = here.advisory_lock("x").unwrap();
    let wait = Wait::Timeout(Duration::from_millis(1));
    let refused = OwnedAdvisoryLockGuard::acquire(there, "x", wait).unwrap_err();
    assert_eq!(refused.to_string(), refused.error.to_string());
    assert_eq!(
        format!("{refused:?}"),
        format!("AcquireError {{ error: {:?}, .. }}", refused.error)
    );
    let source = refused.source().map(ToString::to_string);
    assert!(source.is_some());
    assert_eq!(source, refused.error.source().map(ToString::to_string));
}
