//! What the programs of chance are about.

/// Tables, and statements on them, with a bind if there is a `$1`: 1 or 2.
pub(super) struct World {
    pub(super) schema: &'static str,
    pub(super) fill: &'static str,
    pub(super) writes: &'static [&'static str],
    pub(super) reads: &'static [&'static str],
}

/// Two tables with a foreign key that cascades, a trigger that counts, and a view.
pub(super) const FAMILIES: World = World {
    schema: "
    CREATE TABLE parent (id integer PRIMARY KEY, v integer NOT NULL);
    CREATE TABLE child (id integer PRIMARY KEY,
        parent_id integer NOT NULL REFERENCES parent ON DELETE CASCADE, v integer NOT NULL);
    CREATE TABLE counted (children bigint NOT NULL);
    CREATE SEQUENCE numbers;
    CREATE VIEW rich AS SELECT id, v FROM parent WHERE v > 10;
    CREATE FUNCTION count_children() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN UPDATE counted SET children = (SELECT count(*) FROM child); RETURN NULL; END $$;
    CREATE TRIGGER counts AFTER INSERT OR DELETE ON child
        FOR EACH STATEMENT EXECUTE FUNCTION count_children();",
    fill: "
    TRUNCATE parent, child, counted;
    SELECT setval('numbers', 1, false);
    INSERT INTO parent VALUES (1, 10), (2, 20);
    INSERT INTO child VALUES (1, 1, 5);
    UPDATE counted SET children = 1;",
    writes: &[
        "UPDATE parent SET v = v + 1 WHERE id = $1",
        "UPDATE parent SET v = v * 2 WHERE id = $1",
        "UPDATE parent SET v = (SELECT sum(v) FROM child) WHERE id = $1",
        "UPDATE parent SET v = v + 3 WHERE v > 11",
        "UPDATE child SET v = v + 1 WHERE id = $1",
        "INSERT INTO child VALUES (3, $1, 7)",
        "INSERT INTO parent VALUES (3, $1) ON CONFLICT (id) DO UPDATE SET v = parent.v + 1",
        "DELETE FROM parent WHERE id = $1",
        "DELETE FROM child WHERE parent_id = $1",
        "UPDATE parent SET v = nextval('numbers') WHERE id = $1",
        "UPDATE parent SET id = 4 WHERE id = $1",
        "INSERT INTO parent SELECT id + 10, v FROM rich WHERE id = $1",
    ],
    reads: &[
        "SELECT v::text AS shown FROM parent WHERE id = $1",
        "SELECT v::text AS shown FROM parent WHERE id = $1 FOR UPDATE",
        "SELECT v::text AS shown FROM parent WHERE id = $1 FOR SHARE",
        "SELECT id::text || ',' || v::text AS shown FROM rich ORDER BY id",
        "SELECT count(*)::text AS shown FROM child WHERE parent_id = $1",
        "SELECT children::text AS shown FROM counted",
        "SELECT v::text AS shown FROM parent WHERE id = $1 FOR UPDATE NOWAIT",
        "SELECT id::text AS shown FROM parent ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED",
    ],
};

/// Keys of two columns, triggers by what fires them, and a foreign key that is checked at COMMIT.
pub(super) const ROOMS: World = World {
    schema: "
    CREATE TABLE room (id integer PRIMARY KEY, free integer NOT NULL, changes integer NOT NULL);
    CREATE TABLE booking (
        room integer REFERENCES room DEFERRABLE INITIALLY DEFERRED, day date,
        guest text, changes integer NOT NULL DEFAULT 0, PRIMARY KEY (day, room));
    CREATE TABLE cancelled (bookings bigint NOT NULL);
    CREATE FUNCTION changed() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF (NEW IS DISTINCT FROM OLD AND NEW.changes IS NOT DISTINCT FROM OLD.changes) THEN
            NEW.changes := OLD.changes + 1;
        END IF;
        RETURN NEW; END $$;
    CREATE TRIGGER changes BEFORE UPDATE ON room FOR EACH ROW EXECUTE FUNCTION changed();
    CREATE TRIGGER changes BEFORE UPDATE ON booking FOR EACH ROW EXECUTE FUNCTION changed();
    CREATE FUNCTION cancel() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN UPDATE cancelled SET bookings = bookings + 1; RETURN NULL; END $$;
    CREATE TRIGGER cancels AFTER DELETE ON booking FOR EACH ROW EXECUTE FUNCTION cancel();",
    fill: "
    TRUNCATE room, booking, cancelled;
    INSERT INTO room VALUES (1, 1, 0), (2, 5, 0);
    INSERT INTO booking VALUES (1, '2030-01-01', 'ann'), (2, '2030-01-01', 'ann');
    INSERT INTO cancelled VALUES (0)",
    writes: &[
        "INSERT INTO booking (room, day, guest) VALUES ($1, '2030-01-02', 'bob')",
        "INSERT INTO booking (day, room, guest) VALUES ('2030-01-02', $1, 'eve') \
            ON CONFLICT (room, day) DO UPDATE SET guest = booking.guest || 'eve'",
        "INSERT INTO booking (room, day, guest) VALUES ($1, '2030-01-01', 'eve') ON CONFLICT DO NOTHING",
        "INSERT INTO booking (room, day, guest) VALUES (3, '2030-01-03', 'eve')",
        "UPDATE booking SET guest = guest || 'x' WHERE room = $1 AND day = '2030-01-01'",
        "UPDATE booking SET guest = guest || 'y' WHERE day = '2030-01-01' AND room = $1 AND changes < 1",
        "UPDATE booking SET guest = guest || 'z' WHERE room = $1",
        "UPDATE booking SET day = '2030-01-02' WHERE room = $1 AND day = '2030-01-01'",
        "DELETE FROM booking WHERE room = $1 AND day = '2030-01-01'",
        "DELETE FROM booking WHERE room = 2",
        "UPDATE room SET free = free - 1 WHERE id = $1",
        "UPDATE room SET free = (SELECT count(*) FROM booking) WHERE id = $1",
        "DELETE FROM room WHERE id = $1",
        "INSERT INTO room VALUES (3, $1, 0)",
    ],
    reads: &[
        "SELECT guest AS shown FROM booking WHERE room = $1 AND day = '2030-01-01'",
        "SELECT guest AS shown FROM booking WHERE room = $1 AND day = '2030-01-01' FOR UPDATE",
        "SELECT guest AS shown FROM booking WHERE day = '2030-01-01' AND room = $1 FOR KEY SHARE",
        "SELECT count(*)::text AS shown FROM booking WHERE day = '2030-01-02'",
        "SELECT free::text AS shown FROM room WHERE id = $1 FOR NO KEY UPDATE",
        "SELECT bookings::text AS shown FROM cancelled",
        "SELECT guest AS shown FROM booking WHERE room = $1 AND day = '2030-01-01' FOR UPDATE NOWAIT",
    ],
};
