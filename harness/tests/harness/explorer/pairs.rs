//! Pairs of sessions that meet by what their words do not say: an index, a constraint that is
//! deferred, a cascade, a rule, a partition, a function. Each comes to the same ends with every
//! order and with those that the Explorer holds for different.

use serial_test::parallel;

use super::same_ends::{Session, lost_ends};
use super::tables::with_tables;

const SCHEMA: &str = "
    CREATE TABLE seats (id int PRIMARY KEY, owner text UNIQUE, row int);
    CREATE TABLE guests (id int PRIMARY KEY,
        seat int REFERENCES seats ON DELETE SET NULL ON UPDATE CASCADE DEFERRABLE);
    CREATE TABLE late (id int PRIMARY KEY, seat int REFERENCES seats DEFERRABLE INITIALLY DEFERRED);
    CREATE TABLE log (text text);
    CREATE TABLE events (at int, text text) PARTITION BY RANGE (at);
    CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (0) TO (10);
    CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM (10) TO (20);
    CREATE VIEW front AS SELECT id, owner FROM seats WHERE row = 1;
    CREATE VIEW diary AS SELECT text FROM log;
    CREATE RULE write AS ON INSERT TO diary DO INSTEAD INSERT INTO log VALUES (new.text);
    CREATE FUNCTION take(seat int, name text) RETURNS void LANGUAGE plpgsql AS $$
        BEGIN EXECUTE format('UPDATE seats SET owner = %L WHERE id = %s', name, seat); END $$;
    CREATE FUNCTION logged() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN INSERT INTO log VALUES (new.text); RETURN new; END $$;
    CREATE TRIGGER logs AFTER INSERT ON events FOR EACH ROW EXECUTE FUNCTION logged();
    CREATE FUNCTION seats_taken() RETURNS bigint LANGUAGE sql STABLE AS
        'SELECT count(*) FROM seats WHERE owner IS NOT NULL';
    CREATE SEQUENCE tickets;
    CREATE TABLE words (id int PRIMARY KEY, word text, uses int NOT NULL DEFAULT 0);
    CREATE UNIQUE INDEX ON words (lower(word));
    CREATE TABLE books (id int PRIMARY KEY, name text, changes int NOT NULL DEFAULT 0);
    CREATE UNIQUE INDEX ON books (name) WHERE changes < 5;
    CREATE TABLE used (book int REFERENCES books, word int REFERENCES words ON DELETE CASCADE,
        PRIMARY KEY (book, word));
    CREATE FUNCTION counted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF (TG_OP = 'INSERT') THEN
            UPDATE words SET uses = uses + 1 WHERE id = new.word;
            RETURN new;
        ELSIF (TG_OP = 'DELETE') THEN
            UPDATE public.words SET uses = uses - 1 WHERE id = old.word;
            RETURN old;
        END IF; END $$;
    CREATE FUNCTION touched() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF EXISTS (SELECT FROM words WHERE uses > 1) THEN
            UPDATE ONLY books SET changes = changes + 1 WHERE id = new.book;
        END IF;
        RETURN new; END $$;
    CREATE TRIGGER counts BEFORE INSERT OR DELETE ON used
        FOR EACH ROW EXECUTE FUNCTION counted();
    CREATE TRIGGER touches AFTER INSERT ON used FOR EACH ROW EXECUTE FUNCTION touched();
    CREATE TABLE renamed (id int PRIMARY KEY, other int);
    ALTER TABLE renamed RENAME id TO key;
    ALTER TABLE renamed RENAME other TO id;
    CREATE TABLE notes (id int PRIMARY KEY, text text);
    CREATE TRIGGER logs AFTER UPDATE ON notes FOR EACH ROW EXECUTE FUNCTION logged();
    CREATE TABLE drafts (id int PRIMARY KEY);
    CREATE FUNCTION again() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        DELETE FROM notes WHERE id = new.id;
        INSERT INTO notes VALUES (new.id, 'again');
        RETURN new; END $$;
    CREATE TRIGGER agains AFTER INSERT ON drafts FOR EACH ROW EXECUTE FUNCTION again();
    CREATE TRIGGER inserts AFTER INSERT ON notes FOR EACH ROW EXECUTE FUNCTION logged();
    CREATE TABLE pages (id int PRIMARY KEY, v int);
    CREATE TABLE marks (page int REFERENCES pages ON UPDATE CASCADE);
    CREATE FUNCTION moved() RETURNS trigger LANGUAGE plpgsql AS $$ DECLARE page ALIAS FOR new;
        BEGIN page.id := 7; RETURN new; END $$;
    CREATE TRIGGER moves BEFORE UPDATE ON pages FOR EACH ROW EXECUTE FUNCTION moved();
    CREATE TABLE leaves (id int PRIMARY KEY, v int);
    CREATE TABLE veins (leaf int REFERENCES leaves ON UPDATE CASCADE);
    CREATE FUNCTION kept() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN old.id := 7; RETURN old; END $$;
    CREATE TRIGGER keeps BEFORE UPDATE ON leaves FOR EACH ROW EXECUTE FUNCTION kept();
    CREATE TABLE stems (id int PRIMARY KEY, v int);
    CREATE TABLE roots (stem int REFERENCES stems ON UPDATE CASCADE);
    CREATE FUNCTION filled() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN SELECT 7, 7 INTO STRICT new; RETURN new; END $$;
    CREATE TRIGGER fills BEFORE UPDATE ON stems FOR EACH ROW EXECUTE FUNCTION filled();
    CREATE FUNCTION log_size(int) RETURNS int LANGUAGE sql IMMUTABLE AS
        'SELECT count(*)::int FROM log';
    CREATE TABLE gauges (id int PRIMARY KEY, v int,
        size int GENERATED ALWAYS AS (log_size(v)) STORED);
    CREATE TABLE defaults (id int PRIMARY KEY, v int, size int DEFAULT log_size(1));
    CREATE TABLE dials (id int PRIMARY KEY,
        gauge int DEFAULT log_size(1) REFERENCES gauges ON DELETE SET DEFAULT);";

const FILL: &str = "
    TRUNCATE seats, guests, late, log, events, words, books, used, notes, renamed, drafts,
        pages, marks, leaves, veins, gauges, defaults, dials,
        stems, roots;
    SELECT setval('tickets', 1, false);
    INSERT INTO seats VALUES (1, NULL, 1), (2, 'eve', 1), (3, NULL, 2);
    INSERT INTO guests VALUES (1, 1), (2, 2);
    INSERT INTO words VALUES (1, 'one'), (2, 'two');
    INSERT INTO books VALUES (1, 'a'), (2, 'b');
    INSERT INTO used VALUES (1, 1), (2, 2);
    INSERT INTO notes VALUES (1, 'one');
    INSERT INTO renamed VALUES (5, 1);
    INSERT INTO pages VALUES (1, 1);
    INSERT INTO marks VALUES (1);
    INSERT INTO leaves VALUES (1, 1);
    INSERT INTO veins VALUES (1);
    INSERT INTO gauges VALUES (1, 1), (2, 1);
    INSERT INTO dials VALUES (1, 1);
    INSERT INTO stems VALUES (1, 1);
    INSERT INTO roots VALUES (1);
    INSERT INTO defaults VALUES (1, 1);";

const PAIRS: [(&str, Session, Session); 45] = [
    (
        "a trigger that fills its row with what it finds",
        &["UPDATE stems SET v = 2"],
        &["SELECT stem::text AS shown FROM roots"],
    ),
    (
        "a default that is made by a function when what a row refers to goes",
        &["DELETE FROM gauges WHERE id = 1"],
        &["INSERT INTO log VALUES ('a')"],
    ),
    (
        "a trigger that deletes from a table, and inserts into it, which has a trigger of its own",
        &["INSERT INTO drafts VALUES (2)"],
        &["SELECT count(*)::text AS shown FROM log"],
    ),
    (
        "a trigger that sets the key of its row by another name",
        &["UPDATE pages SET v = 2"],
        &["SELECT page::text AS shown FROM marks"],
    ),
    (
        "a trigger that sets the key of the row before, and makes that the new one",
        &["UPDATE leaves SET v = 2"],
        &["SELECT leaf::text AS shown FROM veins"],
    ),
    (
        "a column that is generated by a function",
        &[
            "UPDATE gauges SET v = 2",
            "SELECT size::text AS shown FROM gauges",
        ],
        &["INSERT INTO log VALUES ('a')"],
    ),
    (
        "a default that is made by a function",
        &[
            "INSERT INTO defaults VALUES (2)",
            "SELECT size::text AS shown FROM defaults WHERE id = 2",
        ],
        &["INSERT INTO log VALUES ('a')"],
    ),
    (
        "a default that is asked for by an update",
        &[
            "UPDATE defaults SET size = DEFAULT",
            "SELECT size::text AS shown FROM defaults",
        ],
        &["INSERT INTO log VALUES ('a')"],
    ),
    (
        "a row of a table whose default is made by a function",
        &[
            "SELECT v::text AS shown FROM defaults WHERE id = 1",
            "UPDATE defaults SET v = 5 WHERE id = 1",
        ],
        &[
            "UPDATE defaults SET v = v + 1 WHERE id = 1",
            "INSERT INTO log VALUES ('a')",
        ],
    ),
    (
        "a unique index with an expression",
        &["UPDATE words SET word = 'Three' WHERE id = 1"],
        &["UPDATE words SET word = 'three' WHERE id = 2"],
    ),
    (
        "a unique index with a condition",
        &["UPDATE books SET changes = 5, name = 'c' WHERE id = 1"],
        &["UPDATE books SET name = 'c' WHERE id = 2"],
    ),
    (
        "what triggers count, changed by the way",
        &["INSERT INTO used VALUES (1, 2)"],
        &["UPDATE words SET uses = 7 WHERE id = 2"],
    ),
    (
        "each gives up what the other takes, and triggers count",
        &[
            "BEGIN",
            "DELETE FROM used WHERE book = 1",
            "INSERT INTO used VALUES (1, 2)",
            "COMMIT",
        ],
        &[
            "BEGIN",
            "DELETE FROM used WHERE book = 2",
            "INSERT INTO used VALUES (2, 1)",
            "COMMIT",
        ],
    ),
    (
        "a parent that goes while its child comes",
        &["BEGIN", "INSERT INTO used VALUES (2, 1)", "COMMIT"],
        &["DELETE FROM words WHERE id = 1"],
    ),
    (
        "what a trigger reads",
        &["INSERT INTO used VALUES (1, 2)"],
        &["UPDATE words SET uses = 0", "UPDATE words SET uses = 1"],
    ),
    (
        "what a trigger writes, read twice",
        &[
            "INSERT INTO used VALUES (1, 2)",
            "INSERT INTO used VALUES (2, 1)",
        ],
        &[
            "SELECT changes::text AS shown FROM books WHERE id = 1",
            "SELECT changes::text AS shown FROM books WHERE id = 2",
        ],
    ),
    (
        "a unique index that is no key",
        &["UPDATE seats SET owner = 'ada' WHERE id = 1"],
        &["UPDATE seats SET owner = 'ada' WHERE id = 3"],
    ),
    (
        "a check, then an insert",
        &[
            "SELECT count(*)::text AS shown FROM seats WHERE owner = 'ada'",
            "INSERT INTO seats VALUES (4, 'ada', 1)",
        ],
        &[
            "SELECT count(*)::text AS shown FROM seats WHERE owner = 'ada'",
            "INSERT INTO seats VALUES (5, 'ada', 1)",
        ],
    ),
    (
        "the same key, inserted and taken back",
        &["BEGIN", "INSERT INTO seats VALUES (4, 'x', 1)", "ROLLBACK"],
        &["INSERT INTO seats VALUES (4, 'y', 1) ON CONFLICT DO NOTHING"],
    ),
    (
        "an upsert and an insert",
        &[
            "INSERT INTO seats VALUES (4, 'x', 1) ON CONFLICT (id) DO UPDATE SET row = seats.row + 1",
        ],
        &["BEGIN", "INSERT INTO seats VALUES (4, 'y', 2)", "COMMIT"],
    ),
    (
        "a row that is deleted and made again",
        &[
            "BEGIN",
            "DELETE FROM seats WHERE id = 3",
            "INSERT INTO seats VALUES (3, 'new', 3)",
            "COMMIT",
        ],
        &[
            "UPDATE seats SET owner = 'ada' WHERE id = 3",
            "SELECT owner AS shown FROM seats WHERE id = 3",
        ],
    ),
    (
        "a key that changes, and who references it",
        &["UPDATE seats SET id = 9 WHERE id = 1"],
        &[
            "INSERT INTO guests VALUES (3, 1)",
            "SELECT string_agg(seat::text, ',' ORDER BY id) AS shown FROM guests",
        ],
    ),
    (
        "a delete that sets null elsewhere",
        &["DELETE FROM seats WHERE id = 1"],
        &[
            "BEGIN",
            "SELECT coalesce(seat, 0)::text AS shown FROM guests WHERE id = 1",
            "UPDATE guests SET seat = 3 WHERE id = 1",
            "COMMIT",
        ],
    ),
    (
        "a constraint that is looked at by the commit",
        &["BEGIN", "INSERT INTO late VALUES (1, 3)", "COMMIT"],
        &["DELETE FROM seats WHERE id = 3"],
    ),
    (
        "a parent that comes before the commit",
        &[
            "BEGIN",
            "INSERT INTO seats VALUES (9, nextval('tickets')::text, 1)",
            "COMMIT",
        ],
        &[
            "BEGIN",
            "INSERT INTO late VALUES (nextval('tickets'), 9)",
            "SELECT count(*)::text AS shown FROM seats",
            "COMMIT",
        ],
    ),
    (
        "what a trigger of updates writes",
        &["UPDATE notes SET text = 'a' WHERE id = 1"],
        &[
            "SELECT count(*)::text AS shown FROM log",
            "SELECT count(*)::text AS shown FROM log",
        ],
    ),
    (
        "a key whose column has another name now",
        &["UPDATE renamed SET key = 9 WHERE id = 1"],
        &["INSERT INTO renamed (key, id) VALUES (9, 2)"],
    ),
    (
        "a deferred constraint of both",
        &[
            "BEGIN",
            "INSERT INTO late VALUES (1, 7)",
            "INSERT INTO seats VALUES (7, NULL, 1)",
            "COMMIT",
        ],
        &["INSERT INTO late VALUES (2, 7)"],
    ),
    (
        "constraints that are set immediate",
        &[
            "BEGIN",
            "INSERT INTO late VALUES (1, 3)",
            "SET CONSTRAINTS ALL IMMEDIATE",
            "COMMIT",
        ],
        &["BEGIN", "DELETE FROM seats WHERE id = 3", "ROLLBACK"],
    ),
    (
        "a view and its table",
        &[
            "BEGIN",
            "UPDATE front SET owner = 'ada' WHERE owner IS NULL",
            "COMMIT",
        ],
        &[
            "UPDATE seats SET row = 2 WHERE id = 1",
            "SELECT count(*)::text AS shown FROM front",
        ],
    ),
    (
        "a rule",
        &["INSERT INTO diary VALUES ('a')"],
        &["SELECT count(*)::text AS shown FROM log"],
    ),
    (
        "a partition and the whole",
        &["BEGIN", "INSERT INTO events VALUES (5, 'a')", "COMMIT"],
        &[
            "SELECT count(*)::text AS shown FROM events_1",
            "SELECT count(*)::text AS shown FROM log",
        ],
    ),
    (
        "a row that moves to another partition",
        &[
            "INSERT INTO events VALUES (5, 'a')",
            "UPDATE events SET at = 15 WHERE at = 5",
        ],
        &[
            "UPDATE events SET text = 'b' WHERE text = 'a'",
            "SELECT count(*)::text AS shown FROM events_2",
        ],
    ),
    (
        "a function whose SQL is made as it runs",
        &["SELECT take(1, 'ada')::text AS shown"],
        &[
            "SELECT coalesce(owner, '-') AS shown FROM seats WHERE id = 1",
            "UPDATE seats SET owner = 'bob' WHERE id = 1",
        ],
    ),
    (
        "a function that reads",
        &["SELECT seats_taken()::text AS shown"],
        &["UPDATE seats SET owner = 'bob' WHERE id = 1"],
    ),
    (
        "numbers of a sequence",
        &["SELECT nextval('tickets')::text AS shown"],
        &[
            "SELECT nextval('tickets')::text AS shown",
            "SELECT last_value::text AS shown FROM tickets",
        ],
    ),
    (
        "a lock that is tried",
        &[
            "BEGIN",
            "SELECT id::text AS shown FROM seats WHERE id = 1 FOR UPDATE",
            "COMMIT",
        ],
        &["SELECT id::text AS shown FROM seats WHERE id = 1 FOR UPDATE NOWAIT"],
    ),
    (
        "rows that are passed over",
        &["BEGIN", "UPDATE seats SET row = 5 WHERE id = 2", "COMMIT"],
        &[
            "SELECT string_agg(id::text, ',') AS shown FROM (SELECT id FROM seats ORDER BY id FOR UPDATE SKIP LOCKED) s",
        ],
    ),
    (
        "a savepoint that lets a row go",
        &[
            "BEGIN",
            "SAVEPOINT s",
            "UPDATE seats SET row = 5 WHERE id = 1",
            "ROLLBACK TO s",
            "UPDATE seats SET row = 6 WHERE id = 2",
            "COMMIT",
        ],
        &[
            "UPDATE seats SET row = row + 1 WHERE id = 1",
            "SELECT sum(row)::text AS shown FROM seats",
        ],
    ),
    (
        "an error that a savepoint takes back",
        &[
            "BEGIN",
            "SAVEPOINT s",
            "INSERT INTO seats VALUES (2, 'x', 1)",
            "ROLLBACK TO s",
            "UPDATE seats SET row = 7 WHERE id = 3",
            "COMMIT",
        ],
        &["DELETE FROM guests", "DELETE FROM seats WHERE id = 2"],
    ),
    (
        "a snapshot that begins with a write",
        &[
            "BEGIN ISOLATION LEVEL REPEATABLE READ",
            "UPDATE seats SET row = 7 WHERE id = 3",
            "SELECT coalesce(owner, '-') AS shown FROM seats WHERE id = 1",
            "COMMIT",
        ],
        &["UPDATE seats SET owner = 'bob' WHERE id = 1"],
    ),
    (
        "serializable, over an index that is not there",
        &[
            "BEGIN ISOLATION LEVEL SERIALIZABLE",
            "SELECT count(*)::text AS shown FROM seats WHERE row = 1",
            "INSERT INTO log VALUES ('a')",
            "COMMIT",
        ],
        &[
            "BEGIN ISOLATION LEVEL SERIALIZABLE",
            "SELECT count(*)::text AS shown FROM log",
            "UPDATE seats SET row = 1 WHERE id = 3",
            "COMMIT",
        ],
    ),
    (
        "a table that is locked whole",
        &[
            "BEGIN",
            "LOCK TABLE seats IN EXCLUSIVE MODE",
            "SELECT count(owner)::text AS shown FROM seats",
            "COMMIT",
        ],
        &["UPDATE seats SET owner = 'bob' WHERE id = 1"],
    ),
    (
        "advisory locks of the session",
        &[
            "SELECT pg_try_advisory_lock(1)::text AS shown",
            "UPDATE seats SET row = 8 WHERE id = 1",
            "SELECT pg_advisory_unlock_all()::text AS shown",
        ],
        &[
            "SELECT pg_try_advisory_lock(1)::text AS shown",
            "SELECT row::text AS shown FROM seats WHERE id = 1",
            "SELECT pg_advisory_unlock_all()::text AS shown",
        ],
    ),
    (
        "a truncation",
        &["TRUNCATE log"],
        &[
            "INSERT INTO log VALUES ('a')",
            "SELECT count(*)::text AS shown FROM log",
        ],
    ),
];

#[test]
#[parallel]
fn sessions_that_meet_by_what_their_words_do_not_say_come_to_every_end() {
    let database = with_tables(SCHEMA);
    let lost = |(what, ada, bob)| {
        let lost = lost_ends(&database, FILL, what, &[ada, bob], |explorer| explorer);
        Some((what, lost?))
    };
    let lost: Vec<_> = PAIRS.into_iter().filter_map(lost).collect();
    assert!(lost.is_empty(), "{lost:#?}");
}
