//! The one place that reads the server's messages, for want of an SQLSTATE in Diesel 2.3.

use diesel::result::{DatabaseErrorInformation, DatabaseErrorKind, Error};

use super::LockTarget;

#[derive(Debug, PartialEq)]
pub(super) enum Condition {
    NotAvailable(LockTarget),
    LockTimeout,
    Deadlock { processes: Vec<i32> },
    SerializationFailure,
    StatementTimeout,
    Canceled,
    TransactionAborted,
    ConnectionLost,
    Unknown,
}

pub(super) fn condition(error: &Error) -> Condition {
    match error {
        Error::DatabaseError(kind, information) => database_condition(kind, &**information),
        // Diesel gives up a connection like this when libpq no longer knows its state.
        Error::BrokenTransactionManager => Condition::ConnectionLost,
        Error::RollbackErrorOnCommit { commit_error, .. } => condition(commit_error),
        _ => Condition::Unknown,
    }
}

fn database_condition(
    kind: &DatabaseErrorKind,
    information: &dyn DatabaseErrorInformation,
) -> Condition {
    match kind {
        DatabaseErrorKind::SerializationFailure => Condition::SerializationFailure,
        DatabaseErrorKind::ClosedConnection => Condition::ConnectionLost,
        DatabaseErrorKind::UnableToSendCommand => unsent_condition(information.message()),
        DatabaseErrorKind::Unknown => server_condition(information),
        _ => Condition::Unknown,
    }
}

/// libpq sends no command on a dead connection, nor one with more parameters than the protocol
/// can count.
fn unsent_condition(message: &str) -> Condition {
    if message.starts_with("number of parameters must be between") {
        Condition::Unknown
    } else {
        Condition::ConnectionLost
    }
}

fn server_condition(information: &dyn DatabaseErrorInformation) -> Condition {
    let message = information.message();
    match message {
        "canceling statement due to lock timeout" => Condition::LockTimeout,
        "canceling statement due to statement timeout" => Condition::StatementTimeout,
        "canceling statement due to user request" => Condition::Canceled,
        "deadlock detected" => Condition::Deadlock {
            processes: information.details().map_or_else(Vec::new, processes),
        },
        "current transaction is aborted, commands ignored until end of transaction block" => {
            Condition::TransactionAborted
        }
        "terminating connection due to administrator command" => Condition::ConnectionLost,
        _ => {
            if let Some(relation) = quoted(message, "could not obtain lock on row in relation ") {
                Condition::NotAvailable(LockTarget::Row { relation })
            } else if let Some(relation) = quoted(message, "could not obtain lock on relation ") {
                Condition::NotAvailable(LockTarget::Relation { relation })
            } else {
                Condition::Unknown
            }
        }
    }
}

/// The quoted name that alone follows `prefix`.
fn quoted(message: &str, prefix: &str) -> Option<String> {
    let name = message.strip_prefix(prefix)?;
    let name = name.strip_prefix('"')?.strip_suffix('"')?;
    Some(name.to_owned())
}

/// The waiting process of each line of a deadlock's detail, such as
/// `Process 7 waits for ShareLock on transaction 9; blocked by process 8.`
fn processes(detail: &str) -> Vec<i32> {
    detail
        .lines()
        .filter_map(|line| {
            let (pid, _) = line.strip_prefix("Process ")?.split_once(" waits for ")?;
            pid.parse().ok()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unknown(message: &str) -> Condition {
        condition(&Error::DatabaseError(
            DatabaseErrorKind::Unknown,
            Box::new(message.to_owned()),
        ))
    }

    #[test]
    fn a_relation_keeps_the_quotes_in_its_name() {
        assert_eq!(
            unknown(r#"could not obtain lock on row in relation "a "quoted" name""#),
            Condition::NotAvailable(LockTarget::Row {
                relation: r#"a "quoted" name"#.to_owned()
            })
        );
        assert_eq!(
            unknown(r#"could not obtain lock on relation "accounts""#),
            Condition::NotAvailable(LockTarget::Relation {
                relation: "accounts".to_owned()
            })
        );
    }

    #[test]
    fn text_around_a_known_message_makes_it_unknown() {
        assert_eq!(unknown("deadlock detected, or not"), Condition::Unknown);
        assert_eq!(
            unknown("could not obtain lock on row in relation accounts"),
            Condition::Unknown
        );
        assert_eq!(unknown(""), Condition::Unknown);
    }

    #[test]
    fn the_error_of_a_failed_commit_counts_and_not_that_of_its_rollback() {
        let error = |message: &str| {
            Box::new(Error::DatabaseError(
                DatabaseErrorKind::Unknown,
                Box::new(message.to_owned()),
            ))
        };
        assert_eq!(
            condition(&Error::RollbackErrorOnCommit {
                rollback_error: error("anything"),
                commit_error: error("deadlock detected"),
            }),
            Condition::Deadlock { processes: vec![] }
        );
    }

    #[test]
    fn a_deadlock_names_its_processes() {
        let detail = "Process 11 waits for ShareLock on transaction 700; blocked by process 12.\n\
                      Process 12 waits for ShareLock on transaction 701; blocked by process 11.";
        assert_eq!(processes(detail), [11, 12]);
        assert_eq!(processes("Prozess 11 wartet"), [0; 0]);
    }
}
