-- The names of advisory locks, as the application registers them. A key is what `pg_locks` has.
CREATE SCHEMA diesel_locks;

CREATE TABLE diesel_locks.lock_names (
    classid pg_catalog.oid NOT NULL,
    objid pg_catalog.oid NOT NULL,
    objsubid pg_catalog.int2 NOT NULL,
    name pg_catalog.text NOT NULL,
    PRIMARY KEY (classid, objid, objsubid)
);

-- Who holds what and who waits, in this database, with those names. The sessions show as much of
-- themselves as the role that asks may see.
CREATE VIEW diesel_locks.lock_holders AS
SELECT
    CASE
        WHEN locktype OPERATOR(pg_catalog.=) 'advisory' THEN coalesce(
            pg_catalog.quote_ident(name),
            CASE
                WHEN locks.objsubid OPERATOR(pg_catalog.=) 2 THEN pg_catalog.format(
                    '(%s, %s)',
                    (locks.classid::bigint::bit(32))::integer,
                    (locks.objid::bigint::bit(32))::integer
                )
                ELSE ((locks.classid::bigint OPERATOR(pg_catalog.<<) 32)
                    OPERATOR(pg_catalog.|) locks.objid::bigint)::pg_catalog.text
            END
        )
        WHEN relation IS NOT NULL THEN relation::pg_catalog.regclass::pg_catalog.text
        ELSE coalesce(transactionid::pg_catalog.text, virtualxid)
    END AS lock,
    locktype AS kind,
    mode,
    granted,
    locks.pid,
    gid AS prepared,
    application_name AS application,
    coalesce(usename, owner) AS role,
    state,
    pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) coalesce(xact_start, state_change, prepared)
        AS age,
    CASE WHEN NOT granted THEN pg_catalog.pg_blocking_pids(locks.pid) END AS blocked_by,
    query
FROM pg_catalog.pg_locks AS locks
LEFT JOIN pg_catalog.pg_stat_activity AS activity
    ON activity.pid OPERATOR(pg_catalog.=) locks.pid
LEFT JOIN (
    SELECT gid, prepared, owner, virtualtransaction
    FROM pg_catalog.pg_prepared_xacts
    JOIN pg_catalog.pg_locks AS own
        ON own.pid IS NULL AND transactionid OPERATOR(pg_catalog.=) transaction
) AS prepared
    ON locks.pid IS NULL
    AND prepared.virtualtransaction OPERATOR(pg_catalog.=) locks.virtualtransaction
LEFT JOIN diesel_locks.lock_names
    ON lock_names.classid OPERATOR(pg_catalog.=) locks.classid
    AND lock_names.objid OPERATOR(pg_catalog.=) locks.objid
    AND lock_names.objsubid OPERATOR(pg_catalog.=) locks.objsubid
    AND locktype OPERATOR(pg_catalog.=) 'advisory'
WHERE coalesce(locks.pid, 0) OPERATOR(pg_catalog.<>) pg_catalog.pg_backend_pid()
    AND (locktype OPERATOR(pg_catalog.=) 'advisory'
        OR locktype OPERATOR(pg_catalog.=) 'relation' OR NOT granted)
    AND (locks.database IS NULL OR locks.database OPERATOR(pg_catalog.=) (
        SELECT oid FROM pg_catalog.pg_database
        WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database()
    ));

GRANT USAGE ON SCHEMA diesel_locks TO pg_monitor;
GRANT SELECT ON diesel_locks.lock_names, diesel_locks.lock_holders TO pg_monitor;
