//! What the server says is read, whatever it is.

use diesel::result::{DatabaseErrorInformation, DatabaseErrorKind, Error};
use diesel_locks::{Condition, LockError, LockTarget, condition};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::hostile::{cases, text};

#[derive(Debug)]
struct Said {
    message: String,
    details: Option<String>,
}

impl DatabaseErrorInformation for Said {
    fn message(&self) -> &str {
        &self.message
    }
    fn details(&self) -> Option<&str> {
        self.details.as_deref()
    }
    fn hint(&self) -> Option<&str> {
        None
    }
    fn table_name(&self) -> Option<&str> {
        None
    }
    fn column_name(&self) -> Option<&str> {
        None
    }
    fn constraint_name(&self) -> Option<&str> {
        None
    }
    fn statement_position(&self) -> Option<i32> {
        None
    }
}

fn error(message: &str, details: Option<String>) -> LockError {
    let said = Said {
        message: message.to_owned(),
        details,
    };
    Error::DatabaseError(DatabaseErrorKind::Unknown, Box::new(said)).into()
}

/// A line of a deadlock's detail, and what it says.
fn waits() -> impl Strategy<Value = (String, (i32, String, String, i32))> {
    let mode = select(vec![
        "ShareLock",
        "ExclusiveLock",
        "AccessExclusiveLock",
        "RowShareLock",
    ]);
    let number = 0..=u32::MAX;
    let object = prop_oneof![
        number.clone().prop_map(|id| format!("transaction {id}")),
        (number.clone(), number.clone()).prop_map(|(a, b)| format!("relation {a} of database {b}")),
        (any::<[u32; 2]>(), any::<u16>())
            .prop_map(|([a, b], c)| format!("tuple ({a},{c}) of relation {b} of database {a}")),
        any::<[u32; 3]>().prop_map(|[a, b, c]| format!("advisory lock [{a},{b},{c},1]")),
        (any::<i32>(), number).prop_map(|(a, b)| format!("virtual transaction {a}/{b}")),
    ];
    (1..=i32::MAX, mode, object, 1..=i32::MAX).prop_map(|(pid, mode, object, by)| {
        let line = format!("Process {pid} waits for {mode} on {object}; blocked by process {by}.");
        (line, (pid, mode.to_owned(), object, by))
    })
}

proptest! {
    #![proptest_config(cases(512))]

    #[test]
    fn a_deadlock_is_read_as_it_was_written(lines in vec(waits(), 0..9)) {
        let (lines, expected): (Vec<_>, Vec<_>) = lines.into_iter().unzip();
        let error = error("deadlock detected", Some(lines.join("\n")));
        let LockError::Deadlock { processes, .. } = &error else { panic!("{error:?}") };
        let read: Vec<_> = processes
            .iter()
            .map(|it| (it.pid, it.mode.clone(), it.object.clone(), it.blocked_by))
            .collect();
        prop_assert_eq!(read, expected);
    }

    #[test]
    fn any_detail_of_a_deadlock_is_borne(lines in vec(text(), 0..5)) {
        let error = error("deadlock detected", Some(lines.join("\n")));
        prop_assert_eq!(condition(&error), Some(Condition::Deadlock));
        let _ = (error.to_string(), format!("{error:?}"));
    }

    #[test]
    fn a_relation_is_called_as_it_is(name in text()) {
        let row = error(&format!("could not obtain lock on row in relation \"{name}\""), None);
        let LockError::NotAvailable { target, .. } = row else { panic!("{row:?}") };
        prop_assert_eq!(target, LockTarget::Row { relation: name });
    }

    #[test]
    fn what_is_no_message_of_locks_stays_diesels_own(text in text()) {
        let error = error(&text, Some(text.clone()));
        let LockError::Database(Error::DatabaseError(_, said)) = error else { panic!("{error:?}") };
        prop_assert_eq!((said.message(), said.details()), (&*text, Some(&*text)));
    }
}
