DROP VIEW diesel_locks.lock_holders;
DROP TABLE diesel_locks.lock_names;
DROP SCHEMA diesel_locks;
