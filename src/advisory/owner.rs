//! Whether a session of the server is one connection's own.
//!
//! A pooler in transaction mode lends a session to one client after the other, and to the server
//! all of them are one: whoever asks for a lock that another one left there is granted it too. So
//! each statement that takes a lock looks for the name of a connection in a setting of the session,
//! and puts its own there.

use diesel::connection::LoadConnection;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::Bool;
use diesel::{QueryResult, RunQueryDsl};

use crate::slot::Owner;

/// Whether the session is marked with its owner: a type, because it is part of the SQL that is
/// prepared. The name is a part too, and constant as long as the connection that prepares it.
pub(super) trait Mark: 'static {
    /// Writes what is true if the session has the mark now, and false if it is another's.
    fn claim(&self, out: &mut AstPass<'_, '_, Pg>);

    /// The SQL, in parts, of what is true if the session has another's mark.
    fn is_foreign(&self) -> [&str; 3];
}

/// With no mark, for connections that have no slot.
pub(super) struct Unmarked;

impl Mark for Unmarked {
    fn claim(&self, out: &mut AstPass<'_, '_, Pg>) {
        out.push_sql("true");
    }

    fn is_foreign(&self) -> [&str; 3] {
        ["false", "", ""]
    }
}

impl Mark for Owner {
    fn claim(&self, out: &mut AstPass<'_, '_, Pg>) {
        out.push_sql(
            "CASE WHEN pg_catalog.current_setting('diesel_locks.owner', true) \
             OPERATOR(pg_catalog.=) '",
        );
        out.push_sql(self.as_str());
        out.push_sql(
            "' THEN true WHEN pg_catalog.current_setting('diesel_locks.owner', true) \
             OPERATOR(pg_catalog.<>) '' THEN false ELSE ",
        );
        set(self, out);
        out.push_sql(" END");
    }

    fn is_foreign(&self) -> [&str; 3] {
        [
            "(pg_catalog.current_setting('diesel_locks.owner', true) \
             OPERATOR(pg_catalog.<>) ALL (ARRAY['', '",
            self.as_str(),
            "'])) IS TRUE",
        ]
    }
}

fn set(owner: &Owner, out: &mut AstPass<'_, '_, Pg>) {
    out.push_sql("pg_catalog.set_config('diesel_locks.owner', '");
    out.push_sql(owner.as_str());
    out.push_sql("', false) IS NOT NULL");
}

/// Puts the mark in the place of another's who has left no lock in the session, and says whether
/// that was so.
pub(super) fn take_over<C>(conn: &mut C, owner: &Owner) -> QueryResult<bool>
where
    C: LoadConnection<Backend = Pg>,
{
    Ok(TakeOver(owner.clone()).execute(conn)? == 1)
}

struct TakeOver(Owner);

impl QueryFragment<Pg> for TakeOver {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("SELECT ");
        set(&self.0, &mut out);
        out.push_sql(
            " WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_locks \
             WHERE locktype OPERATOR(pg_catalog.=) 'advisory' AND granted \
             AND pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid())",
        );
        Ok(())
    }
}

impl QueryId for TakeOver {
    type QueryId = Self;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl Query for TakeOver {
    type SqlType = Bool;
}

impl<C> RunQueryDsl<C> for TakeOver {}
