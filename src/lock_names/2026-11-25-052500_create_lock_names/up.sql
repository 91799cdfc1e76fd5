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
-- themselves as the role that asks may see. The server calls every prepared transaction 0 that is
-- in the way: `blocked_by_prepared` has those that have a lock of the same thing, in a mode that the
-- wanted one does not go with.
CREATE VIEW diesel_locks.lock_holders AS
WITH locks AS MATERIALIZED (
    SELECT * FROM pg_catalog.pg_locks
),
prepared AS MATERIALIZED (
    SELECT gid, prepared, owner, virtualtransaction
    FROM pg_catalog.pg_prepared_xacts
    JOIN locks AS own ON own.pid IS NULL AND transactionid OPERATOR(pg_catalog.=) transaction
),
modes (place, mode, against) AS (
    VALUES
        (1, 'AccessShareLock', '00000001'), (2, 'RowShareLock', '00000011'),
        (3, 'RowExclusiveLock', '00001111'), (4, 'ShareUpdateExclusiveLock', '00011111'),
        (5, 'ShareLock', '00110111'), (6, 'ShareRowExclusiveLock', '00111111'),
        (7, 'ExclusiveLock', '01111111'), (8, 'AccessExclusiveLock', '11111111')
)
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
    CASE
        WHEN pg_catalog.cardinality(blocking.pids) OPERATOR(pg_catalog.>) 0
            THEN blocking.pids
    END AS blocked_by,
    blocking.gids AS blocked_by_prepared,
    query
FROM locks
LEFT JOIN pg_catalog.pg_stat_activity AS activity
    ON activity.pid OPERATOR(pg_catalog.=) locks.pid
LEFT JOIN prepared
    ON locks.pid IS NULL
    AND prepared.virtualtransaction OPERATOR(pg_catalog.=) locks.virtualtransaction
LEFT JOIN diesel_locks.lock_names
    ON lock_names.classid OPERATOR(pg_catalog.=) locks.classid
    AND lock_names.objid OPERATOR(pg_catalog.=) locks.objid
    AND lock_names.objsubid OPERATOR(pg_catalog.=) locks.objsubid
    AND locktype OPERATOR(pg_catalog.=) 'advisory'
LEFT JOIN LATERAL (
    SELECT
        pg_catalog.array_remove(said, 0) AS pids,
        CASE
            WHEN 0 OPERATOR(pg_catalog.=) ANY (said) THEN ARRAY(
                SELECT blocker.gid
                FROM prepared AS blocker
                JOIN locks AS held
                    ON held.pid IS NULL AND held.granted
                    AND held.virtualtransaction OPERATOR(pg_catalog.=) blocker.virtualtransaction
                JOIN modes AS holds ON holds.mode OPERATOR(pg_catalog.=) held.mode
                JOIN modes AS wants ON wants.mode OPERATOR(pg_catalog.=) locks.mode
                WHERE held.locktype OPERATOR(pg_catalog.=) locks.locktype
                    AND coalesce(held.database, 0) OPERATOR(pg_catalog.=) coalesce(locks.database, 0)
                    AND coalesce(held.relation, 0) OPERATOR(pg_catalog.=) coalesce(locks.relation, 0)
                    AND coalesce(held.page, 0) OPERATOR(pg_catalog.=) coalesce(locks.page, 0)
                    AND coalesce(held.tuple, 0) OPERATOR(pg_catalog.=) coalesce(locks.tuple, 0)
                    AND coalesce(held.virtualxid, '')
                        OPERATOR(pg_catalog.=) coalesce(locks.virtualxid, '')
                    AND coalesce(held.transactionid, '0')
                        OPERATOR(pg_catalog.=) coalesce(locks.transactionid, '0')
                    AND coalesce(held.classid, 0) OPERATOR(pg_catalog.=) coalesce(locks.classid, 0)
                    AND coalesce(held.objid, 0) OPERATOR(pg_catalog.=) coalesce(locks.objid, 0)
                    AND coalesce(held.objsubid, 0) OPERATOR(pg_catalog.=) coalesce(locks.objsubid, 0)
                    AND pg_catalog.substr(wants.against, holds.place, 1)
                        OPERATOR(pg_catalog.=) '1'
                ORDER BY blocker.gid
            )
        END AS gids
    FROM (SELECT pg_catalog.pg_blocking_pids(locks.pid) AS said OFFSET 0) AS blockers
) AS blocking ON NOT locks.granted
WHERE coalesce(locks.pid, 0) OPERATOR(pg_catalog.<>) pg_catalog.pg_backend_pid()
    AND (locktype OPERATOR(pg_catalog.=) 'advisory'
        OR locktype OPERATOR(pg_catalog.=) 'relation' OR NOT granted)
    AND (locks.database IS NULL OR locks.database OPERATOR(pg_catalog.=) (
        SELECT oid FROM pg_catalog.pg_database
        WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database()
    ));

GRANT USAGE ON SCHEMA diesel_locks TO pg_monitor;
GRANT SELECT ON diesel_locks.lock_names, diesel_locks.lock_holders TO pg_monitor;
