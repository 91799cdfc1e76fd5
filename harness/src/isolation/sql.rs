//! SQL as it stands in a file, and errors as `isolationtester` tells them.

use diesel::QueryResult;
use diesel::connection::SimpleConnection;
use diesel::result::{DatabaseErrorKind, Error};

use crate::sessions::{Pending, Session};

/// Sends SQL as it stands.
pub(super) fn execute<C: SimpleConnection + ?Sized>(conn: &mut C, sql: &str) -> QueryResult<()> {
    match conn.batch_execute(sql) {
        Err(error) if is_empty_query(&error) => Ok(()),
        executed => executed,
    }
}

/// Has a session do it.
pub(super) fn launch<C: SimpleConnection>(
    session: &Session<C>,
    label: &str,
    sql: &str,
) -> Pending<(), Error> {
    let sql = sql.to_owned();
    session.start(label, move |conn| execute(conn, &sql))
}

/// An error in isolationtester's words.
pub(super) fn message(error: &Error) -> String {
    match error {
        // Not the server's words, but libpq's, which has nothing more to show of them.
        Error::DatabaseError(DatabaseErrorKind::ClosedConnection, error) => {
            error.message().to_owned()
        }
        Error::DatabaseError(_, error) => format!("ERROR:  {}", error.message()),
        error => error.to_string(),
    }
}

/// Whether there was no statement in what was sent, which is an error for Diesel alone.
fn is_empty_query(error: &Error) -> bool {
    matches!(error, Error::DatabaseError(DatabaseErrorKind::Unknown, information)
        if information.message() == "Received an empty query")
}
