//! The SQL that all questions begin with: sessions and locks, as functions of the server say them.
//!
//! The views `pg_locks` and `pg_stat_activity` are made of the same functions, and of tables that
//! this does not need, so that no lock can hold it up but one of a whole catalogue.

/// What the sessions do, all that the role may see.
///
/// A transaction looks once and then sees the same for ever: so what it has seen is forgotten
/// first, and only what depends on that is asked.
pub(super) const ACTIVITY: &str = "\
    diesel_locks_activity AS MATERIALIZED (SELECT activity.* \
    FROM (SELECT pg_catalog.pg_stat_clear_snapshot() AS nothing OFFSET 0) AS forgotten, \
    LATERAL pg_catalog.pg_stat_get_activity(CASE WHEN nothing IS NULL THEN 0 END) AS activity)";

/// All locks. `waitstart` is from PostgreSQL 14 on: where the function does not have it, the name
/// means the null outside.
pub(super) const TAKEN: &str = "\
    diesel_locks_taken AS MATERIALIZED (SELECT taken.* \
    FROM (SELECT NULL::pg_catalog.timestamptz AS waitstart OFFSET 0) AS before, \
    LATERAL (SELECT locktype, database, relation, page, tuple, virtualxid, transactionid, classid, \
    objid, objsubid, virtualtransaction, coalesce(pid, 0) AS pid, mode, granted, fastpath, \
    waitstart FROM pg_catalog.pg_lock_status() AS status) AS taken)";

/// The prepared transactions, each with what its locks are known by: a virtual transaction, and no
/// pid. Each has a lock on its own transaction.
pub(super) const PREPARED: &str = "\
    diesel_locks_prepared AS MATERIALIZED (SELECT prepared.*, virtualtransaction \
    FROM pg_catalog.pg_prepared_xact() AS prepared JOIN diesel_locks_taken AS own \
    ON own.pid OPERATOR(pg_catalog.=) 0 AND own.granted \
    AND own.locktype OPERATOR(pg_catalog.=) 'transactionid' \
    AND own.transactionid OPERATOR(pg_catalog.=) prepared.transaction)";

/// The sessions and the prepared transactions, as a `SessionInfo` has them.
pub(super) const SESSIONS: &str = "\
    diesel_locks_sessions AS MATERIALIZED (SELECT pid, NULL::pg_catalog.text AS prepared, \
    CASE WHEN application_name OPERATOR(pg_catalog.<>) '' THEN application_name END AS application, \
    pg_catalog.pg_get_userbyid(usesysid)::pg_catalog.text AS \"user\", \
    pg_catalog.host(client_addr) AS client, datname::pg_catalog.text AS database, backend_type, \
    state, CASE WHEN query OPERATOR(pg_catalog.<>) '' AND backend_type IS NOT NULL THEN query END \
    AS query, pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) \
    coalesce(xact_start, state_change, backend_start) AS age, backend_start \
    FROM diesel_locks_activity LEFT JOIN pg_catalog.pg_database \
    ON pg_database.oid OPERATOR(pg_catalog.=) datid \
    UNION ALL SELECT 0, gid, NULL, pg_catalog.pg_get_userbyid(ownerid)::pg_catalog.text, NULL, \
    datname::pg_catalog.text, NULL, NULL, NULL, \
    pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) prepared, NULL \
    FROM diesel_locks_prepared LEFT JOIN pg_catalog.pg_database \
    ON pg_database.oid OPERATOR(pg_catalog.=) dbid)";

/// The columns of a `SessionInfo`.
pub(super) const SESSION: &str = "sessions.pid, sessions.prepared, sessions.application, \
    sessions.\"user\", sessions.client, sessions.database, sessions.backend_type, \
    sessions.state, sessions.query, sessions.age, sessions.backend_start";

/// Who holds a lock `taken`: a session by its pid, a prepared transaction by its virtual one.
pub(super) const HELD_BY: &str = "taken.pid OPERATOR(pg_catalog.=) sessions.pid \
    AND (sessions.prepared IS NULL OR EXISTS (SELECT FROM diesel_locks_prepared AS prepared \
    WHERE prepared.gid OPERATOR(pg_catalog.=) sessions.prepared \
    AND prepared.virtualtransaction OPERATOR(pg_catalog.=) taken.virtualtransaction))";

/// The current database.
pub(super) const HERE: &str = "(SELECT oid FROM pg_catalog.pg_database \
    WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database())";
