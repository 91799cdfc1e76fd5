//! The one place that reads the server's messages, for want of an SQLSTATE in Diesel 2.3.

use diesel::result::{DatabaseErrorInformation, DatabaseErrorKind, Error};

use super::messages::{MESSAGES, Message};
use super::target::{DeadlockedProcess, LockTarget};

/// What Diesel's error says, with its details.
#[derive(Debug, PartialEq)]
pub(super) enum Class {
    NotAvailable(LockTarget),
    LockTimeout,
    Deadlock { processes: Vec<DeadlockedProcess> },
    SerializationFailure,
    StatementTimeout,
    Canceled,
    TransactionAborted,
    ConnectionLost,
    Unknown,
}

pub(super) fn classify(error: &Error) -> Class {
    match error {
        Error::DatabaseError(kind, information) => database_class(kind, &**information),
        // Diesel gives up a connection like this when libpq no longer knows its state.
        Error::BrokenTransactionManager => Class::ConnectionLost,
        Error::RollbackErrorOnCommit { commit_error, .. } => classify(commit_error),
        _ => Class::Unknown,
    }
}

fn database_class(kind: &DatabaseErrorKind, information: &dyn DatabaseErrorInformation) -> Class {
    match kind {
        DatabaseErrorKind::SerializationFailure => Class::SerializationFailure,
        DatabaseErrorKind::ClosedConnection => Class::ConnectionLost,
        DatabaseErrorKind::UnableToSendCommand => unsent_class(information.message()),
        DatabaseErrorKind::Unknown => server_class(information),
        _ => Class::Unknown,
    }
}

/// libpq sends no command on a dead connection, and for two reasons on one that is not.
fn unsent_class(message: &str) -> Class {
    let is_misused = message.starts_with("number of parameters must be between")
        || message.starts_with("another command is already in progress");
    if is_misused {
        Class::Unknown
    } else {
        Class::ConnectionLost
    }
}

/// What libpq itself says of a connection that has broken, and how the server's last words begin.
const LAST_WORDS: [&str; 6] = [
    "server closed the connection unexpectedly",
    "no connection to the server",
    "could not receive data from server",
    "could not send data to server",
    "SSL ",
    "terminating connection ",
];

fn server_class(information: &dyn DatabaseErrorInformation) -> Class {
    let text = information.message();
    let known = MESSAGES
        .iter()
        .find_map(|(message, template)| Some((message, name_in(text, template)?)));
    let Some((message, relation)) = known else {
        let is_last = LAST_WORDS.iter().any(|words| text.starts_with(words));
        return if is_last {
            Class::ConnectionLost
        } else {
            Class::Unknown
        };
    };
    let relation = relation.to_owned();
    match message {
        Message::RowNotAvailable => Class::NotAvailable(LockTarget::Row { relation }),
        Message::RelationNotAvailable => Class::NotAvailable(LockTarget::Relation { relation }),
        Message::LockTimeout => Class::LockTimeout,
        Message::Deadlock => Class::Deadlock {
            processes: information.details().map_or_else(Vec::new, processes),
        },
        Message::StatementTimeout => Class::StatementTimeout,
        Message::Canceled => Class::Canceled,
        Message::TransactionAborted => Class::TransactionAborted,
        Message::ConnectionLost => Class::ConnectionLost,
    }
}

/// What `text` has in the place of the template's `%s`, if it is the template otherwise.
fn name_in<'t>(text: &'t str, template: &str) -> Option<&'t str> {
    match template.split_once("%s") {
        Some((before, after)) => text.strip_prefix(before)?.strip_suffix(after),
        None => (text == template).then_some(""),
    }
}

/// The lines of a deadlock's detail, one for each process, such as
/// `Process 7 waits for ShareLock on transaction 9; blocked by process 8.`
///
/// In every language a line has the process first, its blocker last, and the lock mode in
/// English between them.
fn processes(detail: &str) -> Vec<DeadlockedProcess> {
    detail.lines().filter_map(process).collect()
}

fn process(line: &str) -> Option<DeadlockedProcess> {
    let mut numbers = line
        .split(|c: char| !c.is_ascii_digit())
        .filter(|number| !number.is_empty());
    let pid = numbers.next()?.parse().ok()?;
    let blocked_by = numbers.next_back()?.parse().ok()?;
    let mode = line
        .split(|c: char| !c.is_ascii_alphabetic())
        .find(|word| word.len() > "Lock".len() && word.ends_with("Lock"))?;
    let object = line
        .split_once(" on ")
        .and_then(|(_, rest)| rest.split_once("; blocked by "))
        .map_or(line, |(object, _)| object);
    Some(DeadlockedProcess {
        pid,
        mode: mode.to_owned(),
        object: object.to_owned(),
        blocked_by,
    })
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests {
    use super::*;

    fn unknown(message: &str) -> Class {
        classify(&Error::DatabaseError(
            DatabaseErrorKind::Unknown,
            Box::new(message.to_owned()),
        ))
    }

    #[test]
    fn a_relation_keeps_the_quotes_in_its_name() {
        assert_eq!(
            unknown(r#"could not obtain lock on row in relation "a "quoted" name""#),
            Class::NotAvailable(LockTarget::Row {
                relation: r#"a "quoted" name"#.to_owned()
            })
        );
        assert_eq!(
            unknown(r#"could not obtain lock on relation "accounts""#),
            Class::NotAvailable(LockTarget::Relation {
                relation: "accounts".to_owned()
            })
        );
    }

    #[test]
    fn text_around_a_known_message_makes_it_unknown() {
        assert_eq!(unknown("deadlock detected, or not"), Class::Unknown);
        assert_eq!(
            unknown("could not obtain lock on row in relation accounts"),
            Class::Unknown
        );
        assert_eq!(unknown(""), Class::Unknown);
    }

    #[test]
    fn a_command_that_libpq_has_not_sent_says_whether_the_connection_is_lost() {
        let unsent = |message: &str| {
            classify(&Error::DatabaseError(
                DatabaseErrorKind::UnableToSendCommand,
                Box::new(message.to_owned()),
            ))
        };
        assert_eq!(
            unsent("no connection to the server\n"),
            Class::ConnectionLost
        );
        let misused = [
            "another command is already in progress\n",
            "number of parameters must be between 0 and 65535\n",
        ];
        for message in misused {
            assert_eq!(unsent(message), Class::Unknown, "{message}");
        }
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
            classify(&Error::RollbackErrorOnCommit {
                rollback_error: error("anything"),
                commit_error: error("deadlock detected"),
            }),
            Class::Deadlock { processes: vec![] }
        );
    }

    #[test]
    fn a_deadlock_names_its_processes_in_every_language() {
        let english = "Process 11 waits for ShareLock on transaction 700; blocked by process 12.\n\
                       Process 12 waits for ExclusiveLock on advisory lock [5,0,1,1]; blocked by \
                       process 11.";
        let cycle = processes(english);
        let parts = |process: &DeadlockedProcess| {
            let DeadlockedProcess {
                pid,
                mode,
                object,
                blocked_by,
            } = process.clone();
            (pid, mode, object, blocked_by)
        };
        assert_eq!(
            cycle.iter().map(parts).collect::<Vec<_>>(),
            [
                (11, "ShareLock".to_owned(), "transaction 700".to_owned(), 12),
                (
                    12,
                    "ExclusiveLock".to_owned(),
                    "advisory lock [5,0,1,1]".to_owned(),
                    11
                ),
            ]
        );
        let german = "Prozess 11 wartet auf ShareLock-Sperre auf Transaktion 700; blockiert von \
                      Prozess 12.";
        let [process] = &processes(german)[..] else {
            panic!("{german}");
        };
        assert_eq!((process.pid, process.blocked_by), (11, 12));
        assert_eq!((&*process.mode, &*process.object), ("ShareLock", german));
        let word = "Lock: process 11 waits for ShareLock; blocked by process 12.";
        assert_eq!(processes(word)[0].mode, "ShareLock");
        assert_eq!(processes("no such line"), []);
        assert_eq!(processes(""), []);
    }

    #[test]
    fn every_message_is_known_as_what_it_is_and_as_nothing_else() {
        for (message, template) in MESSAGES {
            let found = unknown(&template.replace("%s", "accounts"));
            let relation = "accounts".to_owned();
            let expected = match message {
                Message::RowNotAvailable => Class::NotAvailable(LockTarget::Row { relation }),
                Message::RelationNotAvailable => {
                    Class::NotAvailable(LockTarget::Relation { relation })
                }
                Message::LockTimeout => Class::LockTimeout,
                Message::Deadlock => Class::Deadlock { processes: vec![] },
                Message::StatementTimeout => Class::StatementTimeout,
                Message::Canceled => Class::Canceled,
                Message::TransactionAborted => Class::TransactionAborted,
                Message::ConnectionLost => Class::ConnectionLost,
            };
            assert_eq!(found, expected, "{template}");
        }
    }
}
