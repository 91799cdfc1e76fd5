//! Sessions that depend on each other by what is easily overlooked: where rows lie, what a view or
//! a trigger calls, who waits meanwhile. Each program comes to the same ends with every order and
//! with those that the Explorer holds for different.

use serial_test::parallel;

use super::same_ends::{Also, Session, lost_ends};
use super::tables::with_tables;

const SCHEMA: &str = "
    CREATE TABLE items (id int PRIMARY KEY, v int NOT NULL);
    CREATE TABLE parts (id int PRIMARY KEY, v int NOT NULL);
    CREATE TABLE notes (text text);
    CREATE SEQUENCE numbers;
    CREATE TABLE bills (id int DEFAULT nextval('numbers'), v int);
    CREATE TABLE votes (id int DEFAULT nextval('numbers'), v int);
    CREATE TABLE late (id int UNIQUE DEFERRABLE INITIALLY DEFERRED);
    CREATE TABLE users (id int PRIMARY KEY, mail text, name text,
        low text GENERATED ALWAYS AS (lower(mail)) STORED UNIQUE, tags int[] UNIQUE);
    CREATE FUNCTION worth() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT sum(v) FROM items';
    CREATE FUNCTION parts_of(items) RETURNS bigint LANGUAGE sql STABLE AS
        'SELECT sum(v) FROM parts';
    CREATE VIEW worths AS SELECT worth()::text AS shown;
    CREATE VIEW lockers AS SELECT count(*)::text AS shown FROM pg_locks WHERE locktype = 'advisory';
    CREATE VIEW claims AS SELECT pg_try_advisory_xact_lock(5)::text AS shown;
    CREATE FUNCTION has_notes() RETURNS boolean LANGUAGE sql STABLE AS
        'SELECT EXISTS (SELECT FROM notes)';
    CREATE FUNCTION mark() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN new.v := 77; RETURN new; END';
    CREATE TABLE marked (id int PRIMARY KEY, v int);
    CREATE TRIGGER marks BEFORE UPDATE ON marked FOR EACH ROW WHEN (has_notes())
        EXECUTE FUNCTION mark();
    CREATE FUNCTION start_again() RETURNS bigint LANGUAGE sql AS $$SELECT setval('numbers', 100)$$;
    CREATE TABLE days (day int, text text) PARTITION BY RANGE (day);
    CREATE TABLE days_1 PARTITION OF days FOR VALUES FROM (0) TO (10);
    CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN INSERT INTO notes VALUES (new.text); RETURN new; END';
    CREATE TRIGGER notes AFTER INSERT ON days_1 FOR EACH ROW EXECUTE FUNCTION noted();
    CREATE TABLE left_side (id int);
    CREATE TABLE right_side (id int);
    CREATE TABLE both_sides () INHERITS (left_side, right_side);
    CREATE TABLE copies (number int GENERATED ALWAYS AS IDENTITY, id int, v int);
    CREATE VIEW some_items AS SELECT id FROM items LIMIT 2;
    CREATE FUNCTION some_item() RETURNS text LANGUAGE sql AS 'SELECT id::text FROM items LIMIT 1';
    CREATE FUNCTION all_items() RETURNS text LANGUAGE plpgsql AS $$ DECLARE found text;
        BEGIN EXECUTE 'SELECT string_agg(id::text, $1) FROM items' INTO found USING ' ';
        RETURN found; END $$;
    CREATE TABLE tagged (id int PRIMARY KEY, tags int[]);
    CREATE FUNCTION part(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT count(*)::int FROM notes';
    CREATE TABLE parted (id int) PARTITION BY RANGE (part(id));
    CREATE TABLE parted_0 PARTITION OF parted FOR VALUES FROM (0) TO (1);
    CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (1) TO (9);
    CREATE TABLE owners (id int PRIMARY KEY, v int);
    CREATE TABLE owned (id int PRIMARY KEY,
        owner int DEFAULT 2 REFERENCES owners ON DELETE SET DEFAULT);
    CREATE TABLE hens (id int PRIMARY KEY, egg int);
    CREATE TABLE eggs (id int PRIMARY KEY, hen int REFERENCES hens ON DELETE CASCADE);
    ALTER TABLE hens ADD FOREIGN KEY (egg) REFERENCES eggs ON DELETE CASCADE;
    CREATE FUNCTION twice(value bigint DEFAULT worth()) RETURNS bigint LANGUAGE sql AS
        'SELECT value * 2';
    CREATE SCHEMA other CREATE TABLE items (id int PRIMARY KEY, v int);
    CREATE FUNCTION go_there() RETURNS void LANGUAGE plpgsql AS
        'BEGIN SET LOCAL search_path = other; END';
    CREATE FUNCTION mention() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN INSERT INTO notes VALUES ('x'); RETURN new; END $$;
    CREATE FUNCTION arm() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
        EXECUTE 'CREATE TRIGGER mentions AFTER UPDATE ON items FOR EACH ROW
            EXECUTE FUNCTION mention()'; END $$;";

const FILL: &str = "
    TRUNCATE items;
    DELETE FROM parts; DELETE FROM notes; DELETE FROM bills; DELETE FROM votes; DELETE FROM late;
    DELETE FROM users; DELETE FROM marked; DELETE FROM days; DELETE FROM left_side;
    DELETE FROM right_side; DELETE FROM owned; DELETE FROM owners; DELETE FROM tagged;
    DELETE FROM parted;
    DROP TRIGGER IF EXISTS mentions ON items;
    TRUNCATE copies RESTART IDENTITY; TRUNCATE hens, eggs, other.items;
    SELECT setval('numbers', 1, false);
    INSERT INTO items VALUES (1, 10), (2, 20), (3, 30);
    INSERT INTO parts VALUES (1, 5);
    INSERT INTO users (id, mail, tags) VALUES (1, 'a', '{1}'), (2, 'b', '{2}');
    INSERT INTO marked VALUES (1, 1);
    INSERT INTO owners VALUES (1, 1), (2, 2), (3, 3); INSERT INTO owned VALUES (1, 1);
    INSERT INTO hens VALUES (1); INSERT INTO eggs VALUES (1, 1); INSERT INTO hens VALUES (2, 1);
    INSERT INTO other.items VALUES (1, 100)";

#[rustfmt::skip]
const PROGRAMS: &[(&str, &[Session])] = &[
    ("rows in the order in which they lie", &[
        &["UPDATE items SET v = 11 WHERE id = 1", "SELECT id::text AS shown FROM items"],
        &["UPDATE items SET v = 21 WHERE id = 2"],
    ]),
    ("a row that is deleted and made again by who has locked it", &[
        &["BEGIN", "SELECT v::text AS shown FROM items WHERE id = 2 FOR UPDATE",
            "DELETE FROM items WHERE id = 2", "INSERT INTO items (id, v) VALUES (2, 5)", "COMMIT"],
        &["UPDATE items SET v = v + 1 WHERE id = 2"],
    ]),
    ("a condition that closes the circle", &[
        &["BEGIN", "UPDATE items SET v = v + 1 WHERE id = 1",
            "UPDATE items SET v = v + 1 WHERE v > 15 AND v < 25", "COMMIT"],
        &["BEGIN", "UPDATE items SET v = v + 1 WHERE v > 15 AND v < 25",
            "UPDATE items SET v = v + 1 WHERE id = 1", "COMMIT"],
    ]),
    ("a new key that closes the circle", &[
        &["BEGIN", "UPDATE items SET v = v + 1 WHERE id = 1", "INSERT INTO items VALUES (9, 1)",
            "COMMIT"],
        &["BEGIN", "INSERT INTO items VALUES (9, 2)", "UPDATE items SET v = v + 1 WHERE id = 1",
            "COMMIT"],
    ]),
    ("a table's lock that closes the circle", &[
        &["BEGIN", "UPDATE items SET v = v + 1 WHERE id = 1", "LOCK TABLE notes", "COMMIT"],
        &["BEGIN", "INSERT INTO notes VALUES ('x')", "UPDATE items SET v = v + 1 WHERE id = 1",
            "COMMIT"],
    ]),
    ("who waits for a row, and has the table", &[
        &["BEGIN", "SELECT v::text AS shown FROM items WHERE id = 1 FOR UPDATE", "COMMIT"],
        &["UPDATE items SET v = v + 1 WHERE id = 1"],
        &["BEGIN; LOCK TABLE items IN SHARE MODE NOWAIT; COMMIT;"],
    ]),
    ("who looks at who waits", &[
        &["BEGIN", "SELECT v::text AS shown FROM items WHERE id = 1 FOR UPDATE", "COMMIT"],
        &["UPDATE items SET v = v + 1 WHERE id = 1"],
        // Those of this database: other tests have waiting sessions, too.
        &["SELECT count(*)::text AS shown FROM pg_locks JOIN pg_stat_activity USING (pid) \
            WHERE NOT granted AND datname = current_database()"],
    ]),
    ("a lock that is shared, while one waits for it", &[
        &["SELECT pg_advisory_lock_shared(1)", "SELECT pg_advisory_unlock_shared(1)"],
        &["BEGIN", "SELECT pg_advisory_xact_lock(1)", "COMMIT"],
        &["SELECT pg_try_advisory_xact_lock_shared(1)::text AS shown"],
    ]),
    ("a table that is read twice", &[
        &["SELECT sum(b.v)::text AS shown FROM items a, items b WHERE a.id = 1"],
        &["UPDATE items SET v = 21 WHERE id = 2"],
    ]),
    ("a filter of an aggregate", &[
        &["SELECT count(*) FILTER (WHERE id = 1 AND v > 0)::text || max(v)::text AS shown FROM items"],
        &["UPDATE items SET v = 99 WHERE id = 2"],
    ]),
    ("a key in a case", &[
        &["SELECT sum(v)::text AS shown FROM items \
            WHERE CASE v WHEN 1 THEN v = 2 AND id = 1 AND true ELSE true END"],
        &["UPDATE items SET v = 99 WHERE id = 2"],
    ]),
    ("an end in parentheses", &[
        &["SELECT sum(v)::text AS shown FROM items \
            WHERE id = 1 AND substring(v::text for 1) = '1' OR id = 2"],
        &["UPDATE items SET v = 99 WHERE id = 2"],
    ]),
    ("a unique index that is looked at by the commit", &[
        &["BEGIN", "INSERT INTO late VALUES (1)", "COMMIT"],
        &["BEGIN", "INSERT INTO late VALUES (1)", "COMMIT"],
    ]),
    ("a column that is generated, and unique", &[
        &["UPDATE users SET mail = 'X' WHERE id = 1"],
        &["UPDATE users SET mail = 'x' WHERE id = 2"],
    ]),
    ("an element of what is unique", &[
        &["UPDATE users SET tags[1] = 9 WHERE id = 1"],
        &["UPDATE users SET tags[1] = 9 WHERE id = 2"],
    ]),
    ("a sequence of two tables", &[
        &["INSERT INTO bills (v) VALUES (1)"],
        &["INSERT INTO votes (v) VALUES (1)"],
    ]),
    ("a default that is taken by an update", &[
        &["INSERT INTO bills (id, v) VALUES (0, 1)", "UPDATE bills SET id = DEFAULT"],
        &["INSERT INTO votes (v) VALUES (2)"],
    ]),
    ("a view that calls a function", &[
        &["SELECT shown FROM worths"],
        &["UPDATE items SET v = 99 WHERE id = 2"],
    ]),
    ("a view of the server's locks", &[
        &["SELECT shown FROM lockers"],
        &["SELECT pg_advisory_lock(1)", "SELECT pg_advisory_unlock(1)"],
    ]),
    ("a view that locks", &[
        &["BEGIN", "SELECT shown FROM claims", "COMMIT"],
        &["SELECT shown FROM claims"],
    ]),
    ("a function in the place of a column", &[
        &["SELECT i.parts_of::text AS shown FROM items i WHERE i.id = 1"],
        &["UPDATE parts SET v = 9 WHERE id = 1"],
    ]),
    ("a condition of a trigger", &[
        &["UPDATE marked SET v = 5 WHERE id = 1"],
        &["INSERT INTO notes VALUES ('x')"],
    ]),
    ("a function that sets a sequence", &[
        &["SELECT start_again()::text AS shown"],
        &["SELECT nextval('numbers')::text AS shown"],
    ]),
    ("a trigger of a partition", &[
        &["INSERT INTO days VALUES (1, 'x')"],
        &["SELECT count(*)::text AS shown FROM notes"],
    ]),
    ("a table of two parents", &[
        &["INSERT INTO both_sides VALUES (5)"],
        &["SELECT count(*)::text AS shown FROM right_side"],
        &["SELECT count(*)::text AS shown FROM left_side"],
    ]),
    ("locks that are let go outside of a transaction, as a pool does", &[
        &["SELECT pg_advisory_lock(1)", "SELECT v::text AS shown FROM items WHERE id = 1",
            "SELECT pg_catalog.pg_advisory_unlock_all()",
            "SELECT v::text AS shown FROM items WHERE id = 2"],
        &["SELECT pg_try_advisory_xact_lock(1)::text AS shown"],
    ]),
    ("locks that are let go with all else", &[
        &["SELECT pg_advisory_lock(1)", "DISCARD ALL",
            "SELECT v::text AS shown FROM items WHERE id = 2"],
        &["BEGIN; SELECT pg_advisory_xact_lock(1); COMMIT;",
            "UPDATE items SET v = 99 WHERE id = 2"],
    ]),
    ("a table that is read by its name", &[
        &["SELECT table_to_xml('items', true, false, '')::text AS shown"],
        &["UPDATE items SET v = 99 WHERE id = 2"],
    ]),
    ("columns in parentheses, where they lie", &[
        &["UPDATE items SET v = 1 WHERE id = 1"],
        &["UPDATE items SET v = 2 WHERE id = 2",
            "SELECT (id || ':' || v) AS shown FROM items"],
    ]),
    ("an array of them", &[
        &["UPDATE items SET v = 1 WHERE id = 1"],
        &["UPDATE items SET v = 2 WHERE id = 2",
            "SELECT (array_agg(id))::text AS shown FROM items"],
    ]),
    ("a text of them, behind an aggregate", &[
        &["UPDATE items SET v = 1 WHERE id = 1"],
        &["UPDATE items SET v = 2 WHERE id = 2",
            "SELECT coalesce(min(v)::text || string_agg(id::text, ''), '') AS shown FROM items"],
    ]),
    ("a key that equals a column", &[
        &["UPDATE items SET v = 1 WHERE id = 1"],
        &["UPDATE items SET v = 2 WHERE id = 2",
            "SELECT id::text AS shown FROM items WHERE id = v"],
    ]),
    ("rows sorted by what is made of their key", &[
        &["UPDATE items SET v = 1 WHERE id = 1"],
        &["UPDATE items SET v = 2 WHERE id = 2",
            "SELECT id::text AS shown FROM items ORDER BY (id = 3) DESC"],
    ]),
    ("rows sorted by what is called like their key", &[
        &["UPDATE items SET v = 1 WHERE id = 1"],
        &["UPDATE items SET v = 2 WHERE id = 2",
            "SELECT v > 0 AS id, id::text AS shown FROM items ORDER BY id"],
    ]),
    ("rows sorted by the key of one of them", &[
        &["UPDATE items SET v = 1 WHERE id = 1"],
        &["UPDATE items SET v = 2 WHERE id = 2",
            "SELECT (a.id || ',' || b.id) AS shown FROM items a, items b ORDER BY a.id"],
    ]),
    ("numbers of rows", &[
        &["UPDATE items SET v = 1 WHERE id = 1"],
        &["UPDATE items SET v = 2 WHERE id = 2",
            "SELECT id || ':' || row_number() OVER (ORDER BY v > 1000) AS shown FROM items ORDER BY id"],
    ]),
    ("a table that is copied", &[
        &["UPDATE items SET v = 1 WHERE id = 1"],
        &["UPDATE items SET v = 2 WHERE id = 2",
            "INSERT INTO copies (id, v) TABLE items"],
    ]),
    ("a view of some rows", &[
        &["UPDATE items SET v = 1 WHERE id = 1"],
        &["UPDATE items SET v = 2 WHERE id = 2",
            "SELECT sum(id)::text AS shown FROM some_items"],
    ]),
    ("a function that reads some row", &[
        &["UPDATE items SET v = 1 WHERE id = 1"],
        &["UPDATE items SET v = 2 WHERE id = 2", "UPDATE items SET v = 3 WHERE id = 3",
            "INSERT INTO notes VALUES (some_item())"],
    ]),
    ("some rows of a table", &[
        &["UPDATE items SET v = 1 WHERE id = 1"],
        &["UPDATE items SET v = 2 WHERE id = 2",
            "SELECT sum(id)::text AS shown FROM (TABLE items FETCH FIRST 2 ROWS ONLY) AS two"],
    ]),
    ("a function that tells to which partition a row belongs", &[
        &["INSERT INTO parted VALUES (1)"],
        &["INSERT INTO notes VALUES ('x')"],
    ]),
    ("rows that are read by what is not known", &[
        &["UPDATE items SET v = 1 WHERE id = 1"],
        &["UPDATE items SET v = 2 WHERE id = 2",
            "SELECT all_items() AS shown"],
    ]),
    ("an array before the key", &[
        &["INSERT INTO tagged (tags, id) VALUES (ARRAY[7, 8, 9], 5)"],
        &["INSERT INTO tagged (tags, id) VALUES (ARRAY[1, 2, 3], 5)"],
    ]),
    ("a list with a column that is called like the key", &[
        &["SELECT sum(v)::text AS shown FROM (VALUES (1)) AS g (id), items WHERE g.id = 1"],
        &["UPDATE items SET v = 99 WHERE id = 2"],
    ]),
    ("a parent by default", &[
        &["BEGIN", "DELETE FROM owners WHERE id = 1", "UPDATE items SET v = 1 WHERE id = 1",
            "COMMIT"],
        &["BEGIN", "UPDATE items SET v = 2 WHERE id = 1",
            "SELECT v::text AS shown FROM owners WHERE id = 2 FOR UPDATE", "COMMIT"],
    ]),
    ("a cascade that comes back", &[
        &["BEGIN", "DELETE FROM hens WHERE id = 1", "COMMIT"],
        &["BEGIN", "SELECT id::text AS shown FROM hens WHERE id = 2",
            "SELECT id::text AS shown FROM hens WHERE id = 2 FOR UPDATE", "COMMIT"],
    ]),
    ("a key that is set only where there is another one", &[
        &["INSERT INTO items (id, v) VALUES (1, 5) ON CONFLICT (id) WHERE v > 0 DO UPDATE SET id = 9"],
        &["INSERT INTO items (id, v) VALUES (9, 6)"],
    ]),
    ("a key that is set after a query", &[
        &["BEGIN",
            "UPDATE owners SET v = (SELECT max(v) FROM items WHERE v > 50), \
                id = CASE id WHEN 3 THEN 13 ELSE id END",
            "UPDATE items SET v = 1 WHERE id = 1", "COMMIT"],
        &["BEGIN", "UPDATE items SET v = 2 WHERE id = 1", "INSERT INTO owned VALUES (2, 3)",
            "COMMIT"],
    ]),
    ("a level that can't be set any more", &[
        &["BEGIN", "SELECT sum(v)::text AS shown FROM items", "SAVEPOINT s",
            "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "ROLLBACK TO s",
            "SELECT sum(v)::text AS shown FROM items", "COMMIT"],
        &["UPDATE items SET v = 99 WHERE id = 2"],
    ]),
    ("a level that is set where a transaction is open", &[
        &["BEGIN", "BEGIN ISOLATION LEVEL REPEATABLE READ",
            "SELECT count(*)::text AS shown FROM notes",
            "UPDATE items SET v = v + 1 WHERE id = 2", "COMMIT"],
        &["UPDATE items SET v = 99 WHERE id = 2"],
    ]),
    ("a key with a sign", &[
        &["BEGIN", "SELECT pg_advisory_xact_lock(-0)", "UPDATE items SET v = 1 WHERE id = 1",
            "COMMIT"],
        &["SELECT pg_try_advisory_xact_lock(0)::text AS shown"],
    ]),
    ("a row that fails an update, which does not wait for it then", &[
        &["BEGIN", "UPDATE items SET v = 15 WHERE id = 1",
            "SELECT nextval('numbers')::text AS shown", "COMMIT"],
        &["SELECT nextval('numbers')::text AS shown",
            "UPDATE items SET v = 10 / (v - 10) WHERE id = 1"],
    ]),
    ("a row that a session has by a statement that fails elsewhere", &[
        &["BEGIN", "UPDATE items SET v = 10 / (v - 10) WHERE id = 2",
            "UPDATE items SET v = v + 1 WHERE id = 2", "COMMIT"],
        &["SELECT sum(v)::text AS shown FROM items",
            "UPDATE items SET v = 10 / (v - 10) WHERE id = 1"],
    ]),
    ("a row that is not there, for a session that has another one", &[
        &["BEGIN", "SELECT v::text AS shown FROM items WHERE id = 1 FOR UPDATE",
            "UPDATE items SET v = 1 WHERE id = 9", "INSERT INTO notes VALUES ('x')",
            "UPDATE parts SET v = 1 WHERE id = 1", "COMMIT"],
        &["INSERT INTO items VALUES (9, 1)", "UPDATE items SET v = 2 WHERE id = 9",
            "SELECT v::text AS shown FROM parts WHERE id = 1"],
    ]),
    ("a row that two share, one of them with an old snapshot", &[
        &["BEGIN", "SELECT v::text AS shown FROM items WHERE id = 2 FOR SHARE", "COMMIT"],
        &["BEGIN ISOLATION LEVEL REPEATABLE READ", "SELECT count(*)::text AS shown FROM notes",
            "SELECT v::text AS shown FROM items WHERE id = 2 FOR SHARE",
            "UPDATE items SET id = 3 WHERE id = 1", "COMMIT"],
    ]),
    ("a limit that is nothing", &[
        &["BEGIN", "SELECT v::text AS shown FROM items WHERE id = 1 LIMIT (1 - 1) FOR UPDATE",
            "SELECT nextval('numbers')::text AS shown", "SELECT count(*)::text AS shown FROM notes",
            "COMMIT"],
        &["SELECT nextval('numbers')::text AS shown", "UPDATE items SET v = 1 WHERE id = 1",
            "INSERT INTO notes VALUES ('x')"],
    ]),
    ("what a function takes by default", &[
        &["SELECT twice()::text AS shown"],
        &["UPDATE items SET v = 99 WHERE id = 2"],
    ]),
    ("a function that sets where names are looked up", &[
        &["BEGIN", "SELECT go_there()", "SELECT sum(v)::text AS shown FROM items", "COMMIT"],
        &["UPDATE other.items SET v = 99 WHERE id = 1"],
    ]),
    ("a function that creates a trigger", &[
        &["SELECT arm()"],
        &["SELECT count(*)::text AS shown FROM notes"],
        &["UPDATE items SET v = 1 WHERE id = 1"],
    ]),
];

/// What calls a function without its name, where it is the application's, and sessions that meet by
/// it.
#[rustfmt::skip]
const UNNAMED: &[(&str, &str, &[Session])] = &[
    ("an operator", "
        CREATE FUNCTION plus(int, int) RETURNS int LANGUAGE sql AS
            'SELECT $1 + $2 + count(*)::int FROM notes';
        CREATE OPERATOR @@@ (LEFTARG = int, RIGHTARG = int, FUNCTION = plus)", &[
        &["SELECT (v @@@ 1)::text AS shown FROM items WHERE id = 1"],
        &["INSERT INTO notes VALUES ('x')"],
    ]),
    ("a cast", "
        CREATE TYPE amount AS (v int);
        CREATE FUNCTION counted(int) RETURNS amount LANGUAGE sql AS
            'SELECT ROW ($1 + count(*)::int)::amount FROM notes';
        CREATE CAST (int AS amount) WITH FUNCTION counted(int)", &[
        &["SELECT v::amount::text AS shown FROM items WHERE id = 1"],
        &["INSERT INTO notes VALUES ('x')"],
    ]),
    ("a domain's condition", "
        CREATE FUNCTION is_free() RETURNS boolean LANGUAGE sql AS
            'SELECT NOT EXISTS (SELECT FROM notes)';
        CREATE DOMAIN free AS int CHECK (is_free())", &[
        &["SELECT v::free::text AS shown FROM items WHERE id = 1"],
        &["INSERT INTO notes VALUES ('x')"],
    ]),
    ("a domain's default", "
        CREATE DOMAIN number AS bigint DEFAULT nextval('numbers');
        ALTER TABLE bills ALTER id DROP DEFAULT, ALTER id TYPE number", &[
        &["INSERT INTO bills (v) VALUES (1) RETURNING id::text AS shown"],
        &["SELECT nextval('numbers')::text AS shown"],
    ]),
];

#[rustfmt::skip]
const CRASHES: &[(&str, &[Session])] = &[
    ("a lock that was tried, and its session ends", &[
        &["SELECT pg_try_advisory_lock(1)::text AS shown",
            "SELECT v::text AS shown FROM items WHERE id = 1"],
        &["SELECT pg_try_advisory_lock(1)::text AS shown"],
    ]),
    ("a lock of some key, and its session ends", &[
        &["SELECT pg_advisory_lock(id) FROM items WHERE id = 1",
            "SELECT v::text AS shown FROM items WHERE id = 1"],
        &["SELECT pg_try_advisory_lock(1)::text AS shown"],
    ]),
];

#[test]
#[parallel]
fn sessions_that_meet_by_what_is_easily_overlooked_come_to_every_end() {
    assert_same_ends(PROGRAMS, |explorer| explorer);
}

#[test]
#[parallel]
fn sessions_that_end_early_come_to_every_end() {
    assert_same_ends(CRASHES, |explorer| explorer.crashes());
}

#[test]
#[parallel]
fn what_calls_a_function_without_its_name_comes_to_every_end() {
    for (what, definition, sessions) in UNNAMED {
        let database = with_tables(&format!("{SCHEMA}{definition}"));
        let lost = lost_ends(&database, FILL, what, sessions, |explorer| explorer);
        assert_eq!(lost, None, "{what}");
    }
}

fn assert_same_ends(programs: &[(&'static str, &[Session])], also: Also) {
    let database = with_tables(SCHEMA);
    let lost = |(what, sessions): &(&'static str, &[Session])| {
        Some((*what, lost_ends(&database, FILL, what, sessions, also)?))
    };
    let lost: Vec<_> = programs.iter().filter_map(lost).collect();
    assert!(lost.is_empty(), "{lost:#?}");
}
