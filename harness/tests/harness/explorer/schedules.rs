//! Which orders are run.

use std::sync::Mutex;

use diesel::prelude::*;
use diesel::sql_types::Text;
use diesel_locks_harness::IsolationLevel;
use serial_test::parallel;

use super::fixture::{balance, both_count, deposit, explorer, schedules, write_skew};
use crate::support::database;

#[test]
#[parallel]
fn progress_is_told_from_the_begin_to_the_end_and_after_a_failure_too() {
    let database = database();
    let told = Mutex::new(Vec::new());
    let explorer = explorer(&database)
        .session("first", deposit())
        .session("second", deposit())
        .invariant(
            "both deposits count",
            |conn, _| Ok(balance(conn, 1)? == 120),
        )
        .on_progress(|progress| told.lock().unwrap().push(progress));
    let exploration = explorer.explore().unwrap();
    let progress = std::mem::take(&mut *told.lock().unwrap());
    let schedules = progress.iter().map(|progress| progress.schedules);
    assert!(schedules.eq([0, 1, 2, 3, 4, 5, 6, 6]), "{progress:?}");
    assert!(progress.iter().all(|progress| progress.at_most == 6));
    let ends = progress.iter().filter(|progress| progress.has_ended);
    assert_eq!(ends.count(), 1);
    let end = progress.last().unwrap();
    assert!(end.has_ended);
    assert_eq!(end.failures, exploration.failures().len());

    explorer
        .setup(|_| Err("no tables".into()))
        .explore()
        .unwrap_err();
    let progress = told.lock().unwrap();
    let ends = progress.iter().map(|progress| progress.has_ended);
    assert!(ends.eq([false, true]), "{progress:?}");
}

#[test]
#[parallel]
fn bounds_leave_out_what_comes_last() {
    let database = database();
    let some = || {
        explorer(&database)
            .session("first", deposit())
            .session("second", deposit())
            .invariant("both count", |conn, _| both_count(conn))
    };
    let exploration = some().max_preemptions(0).explore().unwrap();
    assert_eq!(
        (exploration.schedules(), exploration.failures().len()),
        (2, 0)
    );
    assert!(!exploration.is_complete());
    let exploration = some().max_schedules(3).explore().unwrap();
    assert_eq!(
        (exploration.schedules(), exploration.is_complete()),
        (3, false)
    );
    let exploration = some().max_failures(1).explore().unwrap();
    assert_eq!(exploration.failures().len(), 1);
    let exploration = some().max_schedules(6).explore().unwrap();
    assert!(exploration.is_complete());
}

#[test]
#[parallel]
fn the_same_seed_chooses_the_same_schedules() {
    let (one, two) = (database(), database());
    let some = |seed| {
        explorer(&one)
            .database(|| PgConnection::establish(two.url()))
            .session("first", deposit())
            .session("second", deposit())
            .invariant("none is well", |_, _| Ok(false))
            .random(seed, 4)
    };
    let found: Vec<_> = [1, 1, 2, 3].map(|seed| schedules(&some(seed))).into();
    assert_eq!(found[0], found[1]);
    assert!(found[1] != found[2] || found[2] != found[3], "{found:?}");
    assert!(!some(1).explore().unwrap().is_complete());
}

#[test]
#[parallel]
fn several_databases_find_what_one_finds() {
    let (one, two) = (database(), database());
    let level = IsolationLevel::RepeatableRead;
    let alone = write_skew(&one, level);
    let together = write_skew(&one, level).database(|| PgConnection::establish(two.url()));
    let found = schedules(&alone);
    assert!(!found.is_empty());
    for _ in 0..3 {
        assert_eq!(schedules(&together), found);
    }
}

#[test]
#[parallel]
fn what_is_read_at_the_end_is_not_compiled_first() {
    let database = database();
    let is_off = |conn: &mut PgConnection| {
        let setting = diesel::dsl::sql::<Text>("SELECT current_setting('jit')");
        let setting: String = setting.get_result(conn)?;
        Ok(setting == "off")
    };
    let exploration = explorer(&database)
        .code("ada", |conn| balance(conn, 1))
        .invariant("it is off", move |conn, _| is_off(conn))
        .explore()
        .unwrap();
    exploration.assert_passed();
}
