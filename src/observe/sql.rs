//! The SQL that all questions begin with: sessions and locks, as functions of the server say them.
//!
//! The views `pg_locks` and `pg_stat_activity` are made of the same functions, and of tables that
//! this does not need, so that no lock can hold it up but one of a whole catalogue.

/// What the sessions do, all that the role may see, and one time that all ages are counted to.
///
/// A transaction looks once and then sees the same for ever: so what it has seen is forgotten
/// first, and only what depends on that is asked.
pub(super) const ACTIVITY: &str = "\
    diesel_locks_activity AS MATERIALIZED (SELECT activity.*, asked_at \
    FROM (SELECT pg_catalog.pg_stat_clear_snapshot() AS nothing, \
    pg_catalog.clock_timestamp() AS asked_at OFFSET 0) AS forgotten, \
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
///
/// A statement is in the encoding of its own database, which the server does not look at: of another
/// encoding than here, all but ASCII is said by its bytes, such as `\351`.
pub(super) const SESSIONS: &str = "\
    diesel_locks_sessions AS MATERIALIZED (SELECT pid, NULL::pg_catalog.text AS prepared, \
    CASE WHEN application_name OPERATOR(pg_catalog.<>) '' THEN application_name END AS application, \
    pg_catalog.pg_get_userbyid(usesysid)::pg_catalog.text AS \"user\", \
    pg_catalog.host(client_addr) AS client, datname::pg_catalog.text AS database, backend_type, \
    state, CASE WHEN query OPERATOR(pg_catalog.=) '' OR backend_type IS NULL THEN NULL \
    WHEN pg_database.encoding OPERATOR(pg_catalog.<>) \
    pg_catalog.pg_char_to_encoding(pg_catalog.getdatabaseencoding()) \
    THEN pg_catalog.replace(pg_catalog.encode(pg_catalog.textsend(query), 'escape'), \
    pg_catalog.repeat(pg_catalog.chr(92), 2), pg_catalog.chr(92)) ELSE query END \
    AS query, asked_at OPERATOR(pg_catalog.-) \
    coalesce(xact_start, state_change, backend_start) AS age, backend_start, \
    leader_pid AS leader, query_start, asked_at \
    FROM diesel_locks_activity LEFT JOIN pg_catalog.pg_database \
    ON pg_database.oid OPERATOR(pg_catalog.=) datid \
    UNION ALL SELECT 0, gid, NULL, pg_catalog.pg_get_userbyid(ownerid)::pg_catalog.text, NULL, \
    datname::pg_catalog.text, NULL, NULL, NULL, \
    asked_at OPERATOR(pg_catalog.-) prepared, NULL, NULL, NULL, asked_at \
    FROM (SELECT asked_at FROM diesel_locks_activity LIMIT 1) AS activity, \
    diesel_locks_prepared LEFT JOIN pg_catalog.pg_database \
    ON pg_database.oid OPERATOR(pg_catalog.=) dbid)";

/// The columns of a `SessionInfo`.
pub(super) const SESSION: &str = "sessions.pid, sessions.prepared, sessions.application, \
    sessions.\"user\", sessions.client, sessions.database, sessions.backend_type, \
    sessions.state, sessions.query, sessions.age, sessions.backend_start, sessions.leader";

/// Who holds a lock `taken`: a session by its pid, a prepared transaction by its virtual one.
pub(super) const HELD_BY: &str = "taken.pid OPERATOR(pg_catalog.=) sessions.pid \
    AND (sessions.prepared IS NULL OR EXISTS (SELECT FROM diesel_locks_prepared AS prepared \
    WHERE prepared.gid OPERATOR(pg_catalog.=) sessions.prepared \
    AND prepared.virtualtransaction OPERATOR(pg_catalog.=) taken.virtualtransaction))";

/// The current database.
pub(super) const HERE: &str = "(SELECT oid FROM pg_catalog.pg_database \
    WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database())";

/// The locks, each with its session, as a `LockInfo` has them.
///
/// A name can be had of what is in this database, or in all of them. Who waits for a row waits for
/// the transaction that has locked it, and has the row's own lock meanwhile: that tells which row.
pub(super) const LOCKS: &str = "\
    diesel_locks_locks AS (SELECT locks.pid, locks.gid AS prepared, application, \"user\", client, \
    sessions.database, backend_type, state, query, age, backend_start, leader, \
    locktype AS kind, nspname::pg_catalog.text AS schema, relname::pg_catalog.text AS relation, \
    locks.relation AS relation_oid, page, tuple AS \"row\", virtualxid, \
    transactionid::pg_catalog.text::bigint AS transactionid, classid AS class, objid AS object, \
    objsubid AS subobject, mode, granted, fastpath AS fast_path, CASE WHEN NOT granted THEN \
    asked_at OPERATOR(pg_catalog.-) coalesce(waitstart, query_start) END \
    AS waiting FROM (SELECT taken.locktype, taken.virtualxid, taken.transactionid, \
    taken.classid, taken.objid, taken.objsubid, taken.pid, taken.mode, taken.granted, \
    taken.fastpath, taken.waitstart, prepared.gid, coalesce(taken.database, tuples.database) \
    AS database, coalesce(taken.relation, tuples.relation) AS relation, \
    coalesce(taken.page, tuples.page) AS page, coalesce(taken.tuple, tuples.tuple) AS tuple \
    FROM diesel_locks_taken AS taken LEFT JOIN diesel_locks_prepared AS prepared \
    ON taken.pid OPERATOR(pg_catalog.=) 0 \
    AND prepared.virtualtransaction OPERATOR(pg_catalog.=) taken.virtualtransaction \
    LEFT JOIN diesel_locks_taken AS tuples ON NOT taken.granted \
    AND taken.locktype OPERATOR(pg_catalog.=) 'transactionid' \
    AND tuples.locktype OPERATOR(pg_catalog.=) 'tuple' AND tuples.granted \
    AND tuples.pid OPERATOR(pg_catalog.=) taken.pid) AS locks \
    LEFT JOIN diesel_locks_sessions AS sessions ON sessions.pid OPERATOR(pg_catalog.=) locks.pid \
    AND coalesce(sessions.prepared, '') OPERATOR(pg_catalog.=) coalesce(locks.gid, '') \
    LEFT JOIN pg_catalog.pg_database ON datname OPERATOR(pg_catalog.=) pg_catalog.current_database() \
    LEFT JOIN pg_catalog.pg_class ON pg_class.oid OPERATOR(pg_catalog.=) \
    CASE WHEN locktype OPERATOR(pg_catalog.=) 'object' THEN classid \
    WHEN locks.database OPERATOR(pg_catalog.=) 0 \
    OR locks.database OPERATOR(pg_catalog.=) pg_database.oid THEN locks.relation END \
    LEFT JOIN pg_catalog.pg_namespace ON pg_namespace.oid OPERATOR(pg_catalog.=) relnamespace)";

/// The modes of a lock, each with those that are in its way.
pub(super) const MODES: &str = "\
    diesel_locks_modes AS (SELECT place, mode, against FROM (VALUES \
    (1, 'AccessShareLock', '00000001'), (2, 'RowShareLock', '00000011'), \
    (3, 'RowExclusiveLock', '00001111'), (4, 'ShareUpdateExclusiveLock', '00011111'), \
    (5, 'ShareLock', '00110111'), (6, 'ShareRowExclusiveLock', '00111111'), \
    (7, 'ExclusiveLock', '01111111'), (8, 'AccessExclusiveLock', '11111111')) \
    AS modes (place, mode, against))";

/// The locks that are waited for, each with the sessions that its session waits for, which the
/// server says, and the prepared transactions, which it calls 0: those that have a lock of the same
/// thing in the way. A process waits for one lock at a time.
pub(super) const WAITS: &str = "\
    diesel_locks_waits AS (SELECT locks.*, blockers, \
    CASE WHEN 0 OPERATOR(pg_catalog.=) ANY (blockers) THEN ARRAY(SELECT gid \
    FROM diesel_locks_prepared AS prepared JOIN diesel_locks_taken AS held \
    ON held.pid OPERATOR(pg_catalog.=) 0 AND held.granted \
    AND held.virtualtransaction OPERATOR(pg_catalog.=) prepared.virtualtransaction \
    JOIN diesel_locks_modes AS holds ON holds.mode OPERATOR(pg_catalog.=) held.mode \
    JOIN diesel_locks_modes AS wants ON wants.mode OPERATOR(pg_catalog.=) waited.mode \
    WHERE held.locktype OPERATOR(pg_catalog.=) waited.locktype \
    AND coalesce(held.database, 0) OPERATOR(pg_catalog.=) coalesce(waited.database, 0) \
    AND coalesce(held.relation, 0) OPERATOR(pg_catalog.=) coalesce(waited.relation, 0) \
    AND coalesce(held.page, 0) OPERATOR(pg_catalog.=) coalesce(waited.page, 0) \
    AND coalesce(held.tuple, 0) OPERATOR(pg_catalog.=) coalesce(waited.tuple, 0) \
    AND coalesce(held.virtualxid, '') OPERATOR(pg_catalog.=) coalesce(waited.virtualxid, '') \
    AND coalesce(held.transactionid, '0') OPERATOR(pg_catalog.=) \
    coalesce(waited.transactionid, '0') \
    AND coalesce(held.classid, 0) OPERATOR(pg_catalog.=) coalesce(waited.classid, 0) \
    AND coalesce(held.objid, 0) OPERATOR(pg_catalog.=) coalesce(waited.objid, 0) \
    AND coalesce(held.objsubid, 0) OPERATOR(pg_catalog.=) coalesce(waited.objsubid, 0) \
    AND pg_catalog.substr(wants.against, holds.place, 1) OPERATOR(pg_catalog.=) '1' \
    ORDER BY gid) ELSE ARRAY[]::pg_catalog.text[] END AS prepared_blockers \
    FROM diesel_locks_locks AS locks JOIN diesel_locks_taken AS waited \
    ON waited.pid OPERATOR(pg_catalog.=) locks.pid AND NOT waited.granted, \
    LATERAL (SELECT pg_catalog.pg_blocking_pids(waited.pid) AS blockers OFFSET 0) AS blocking \
    WHERE NOT locks.granted AND pg_catalog.cardinality(blockers) OPERATOR(pg_catalog.>) 0)";

/// All of them, in the order in which each needs those before it.
pub(super) const ALL: [&str; 7] = [ACTIVITY, TAKEN, PREPARED, SESSIONS, LOCKS, MODES, WAITS];
