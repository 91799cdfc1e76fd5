//! The shapes of races that were found in the models of a registry of packages: triggers that count
//! and touch, a default that is worked out, owners who remove each other, and a queue.

use diesel::dsl::{IntervalDsl, now};
use diesel::prelude::*;
use diesel::result::Error;
use diesel::sql_types::Interval;
use diesel_locks_harness::{Exploration, Explorer, Problem, SeenConnections, TestDatabase};
use serial_test::{parallel, serial};

use super::tables::{filled, with_tables};

diesel::table! { packages (id) { id -> Integer, name -> Text, } }
diesel::table! { tags (id) { id -> Integer, tag -> Text, uses -> Integer, } }
diesel::table! { packages_tags (package, tag) { package -> Integer, tag -> Integer, } }
diesel::table! { releases (id) { id -> Integer, package -> Integer, num -> Integer, } }
diesel::table! { defaults (package) { package -> Integer, release -> Integer, } }
diesel::table! { owners (package, person) { package -> Integer, person -> Text, } }
diesel::table! { jobs (id) { id -> Integer, release -> Integer, tries -> Integer, last -> Timestamp, } }

const SCHEMA: &str = "
    CREATE FUNCTION canonical(text) RETURNS text IMMUTABLE LANGUAGE sql AS
        'SELECT replace(lower($1), ''-'', ''_'')';
    CREATE TABLE packages (id serial PRIMARY KEY, name text NOT NULL, changes int DEFAULT 0);
    CREATE UNIQUE INDEX ON packages (canonical(name));
    CREATE TABLE tags (id serial PRIMARY KEY, tag text NOT NULL UNIQUE, uses int NOT NULL DEFAULT 0);
    CREATE TABLE packages_tags (package int REFERENCES packages ON DELETE CASCADE,
        tag int REFERENCES tags ON DELETE CASCADE, PRIMARY KEY (package, tag));
    CREATE TABLE releases (id serial PRIMARY KEY, package int NOT NULL REFERENCES packages,
        num int NOT NULL, UNIQUE (package, num));
    CREATE TABLE defaults (package int PRIMARY KEY REFERENCES packages,
        release int NOT NULL UNIQUE REFERENCES releases DEFERRABLE INITIALLY DEFERRED);
    CREATE TABLE owners (package int REFERENCES packages, person text, PRIMARY KEY (package, person));
    CREATE TABLE jobs (id serial PRIMARY KEY, release int NOT NULL,
        tries int NOT NULL DEFAULT 1,
        last timestamp NOT NULL DEFAULT 'epoch');
    CREATE FUNCTION count_tags() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF (TG_OP = 'INSERT') THEN
            UPDATE tags SET uses = uses + 1 WHERE id = new.tag; RETURN new;
        END IF;
        UPDATE tags SET uses = uses - 1 WHERE id = old.tag; RETURN old;
    END $$;
    CREATE TRIGGER counts BEFORE INSERT OR DELETE ON packages_tags
        FOR EACH ROW EXECUTE FUNCTION count_tags();
    CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        UPDATE packages SET changes = changes + 1 WHERE id = new.package; RETURN new;
    END $$;
    CREATE TRIGGER touches BEFORE INSERT OR UPDATE ON releases
        FOR EACH ROW EXECUTE FUNCTION touch();";

const FILL: &str = "
    TRUNCATE packages, tags, packages_tags, releases, defaults, owners, jobs;
    INSERT INTO packages VALUES (1, 'soup'), (2, 'salad');
    INSERT INTO tags VALUES (1, 'warm'), (2, 'cold');
    INSERT INTO packages_tags VALUES (1, 1), (2, 2);
    INSERT INTO releases VALUES (1, 1, 1), (2, 2, 1);
    INSERT INTO defaults VALUES (1, 1), (2, 2);
    INSERT INTO owners VALUES (1, 'ada'), (1, 'bob');
    INSERT INTO jobs VALUES (1, 1), (2, 2);
    SELECT setval('releases_id_seq', nextval('releases_id_seq') + 100);";

fn explorer(database: &TestDatabase) -> Explorer<'_, PgConnection> {
    filled(database, FILL).serializable()
}

/// Two sessions that do the same with other arguments.
fn explore<A: Send + Sync + Copy, T: std::fmt::Debug>(
    work: impl Fn(&mut PgConnection, A) -> QueryResult<T> + Send + Sync + Copy,
    arguments: [A; 2],
) -> Exploration {
    let database = with_tables(SCHEMA);
    let [first, second] = arguments;
    explorer(&database)
        .code("ada", move |conn| work(conn, first))
        .code("bob", move |conn| work(conn, second))
        .explore()
        .unwrap()
}

fn set_tags(conn: &mut PgConnection, (package, names): (i32, &[&str])) -> QueryResult<()> {
    conn.transaction(|conn| {
        let found: Vec<i32> = tags::table
            .filter(tags::tag.eq_any(names))
            .select(tags::id)
            .load(conn)?;
        let own = packages_tags::table.filter(packages_tags::package.eq(package));
        diesel::delete(own).execute(conn)?;
        let new: Vec<_> = found
            .into_iter()
            .map(|tag| {
                (
                    packages_tags::package.eq(package),
                    packages_tags::tag.eq(tag),
                )
            })
            .collect();
        diesel::insert_into(packages_tags::table)
            .values(new)
            .execute(conn)
            .map(drop)
    })
}

#[test]
#[parallel]
fn packages_that_swap_tags_deadlock_in_rows_that_triggers_count_in() {
    let exploration = explore(set_tags, [(1, &["cold"]), (2, &["warm"])]);
    assert!(exploration.is_complete());
    assert!(exploration.schedules() < 60, "{}", exploration.schedules());
    assert!(!exploration.failures().is_empty());
    for run in exploration.failures() {
        let [Problem::Deadlock { step, circle, .. }] = run.problems() else {
            panic!("{exploration}");
        };
        assert!(step.ends_with(".insert:packages_tags"), "{step}");
        let [one, other] = circle.as_slice() else {
            panic!("{circle:?}");
        };
        assert!(
            one.starts_with("ada.insert:packages_tags waits for bob")
                && one.ends_with("with bob.delete:packages_tags")
                && other.starts_with("bob.insert:packages_tags waits for ada")
                && other.ends_with("with ada.delete:packages_tags"),
            "{circle:#?}"
        );
        assert!(one.contains("tags"), "{one}");
    }
}

#[test]
#[parallel]
fn packages_that_keep_their_tags_do_not_deadlock() {
    explore(set_tags, [(1, &["warm"]), (2, &["cold"])]).assert_passed();
}

/// Releases, and works out which release is the default.
fn release(conn: &mut PgConnection, (package, num): (i32, i32)) -> QueryResult<()> {
    let new = (releases::package.eq(package), releases::num.eq(num));
    diesel::insert_into(releases::table)
        .values(new)
        .execute(conn)?;
    let highest: i32 = releases::table
        .filter(releases::package.eq(package))
        .order(releases::num.desc())
        .select(releases::id)
        .first(conn)?;
    diesel::insert_into(defaults::table)
        .values((defaults::package.eq(package), defaults::release.eq(highest)))
        .on_conflict(defaults::package)
        .do_update()
        .set(defaults::release.eq(highest))
        .execute(conn)
        .map(drop)
}

#[test]
#[parallel]
fn a_default_goes_stale_and_is_told_by_what_its_number_stands_for() {
    let exploration = explore(release, [(1, 2), (1, 3)]);
    assert!(exploration.is_complete());
    assert!(!exploration.failures().is_empty());
    for run in exploration.failures() {
        let [Problem::NotSerializable { ends, .. }] = run.problems() else {
            panic!("{exploration}");
        };
        let [end, serial] = ends.as_slice() else {
            panic!("{ends:#?}");
        };
        assert!(
            end.starts_with("defaults: ") && end.lines().count() == 1,
            "{end}"
        );
        assert!(
            end.contains("num: 2") && serial.contains("num: 3"),
            "{ends:#?}"
        );
    }
}

#[test]
#[parallel]
fn defaults_of_two_packages_do_not_go_stale() {
    explore(release, [(1, 2), (2, 2)]).assert_passed();
}

fn remove_owner(conn: &mut PgConnection, person: &str) -> QueryResult<()> {
    conn.transaction(|conn| {
        diesel::delete(owners::table.find((1, person))).execute(conn)?;
        let left: i64 = owners::table.count().get_result(conn)?;
        match left {
            0 => Err(Error::RollbackTransaction),
            _ => Ok(()),
        }
    })
}

#[test]
#[parallel]
fn owners_remove_each_other_and_nobody_is_left() {
    let exploration = explore(remove_owner, ["ada", "bob"]);
    assert!(exploration.is_complete());
    let is_empty = |end: &String| end.lines().any(|line| line == "owners: ");
    assert!(exploration.outcomes().iter().any(is_empty));
    assert!(!exploration.failures().is_empty());
    for run in exploration.failures() {
        // Not a lost update: each writes a row of its own.
        assert!(
            matches!(run.problems(), [Problem::NotSerializable { anomaly: Some(anomaly), .. }]
                if anomaly.starts_with("write skew")),
            "{run}"
        );
    }
}

/// Does the next job that nobody does, some time after the last try.
fn work(conn: &mut PgConnection, _: ()) -> QueryResult<Option<i32>> {
    conn.transaction(|conn| {
        let before = now - 1.minute().into_sql::<Interval>() * jobs::tries;
        let next = jobs::table
            .filter(jobs::last.lt(before))
            .select(jobs::id)
            .order(jobs::id)
            .for_update()
            .skip_locked();
        let Some(id) = next.first::<i32>(conn).optional()? else {
            return Ok(None);
        };
        diesel::delete(jobs::table.find(id)).execute(conn)?;
        Ok(Some(id))
    })
}

#[test]
#[parallel]
fn a_queue_that_skips_what_is_locked_is_not_accused_where_there_is_a_job_for_each() {
    let exploration = explore(work, [(), ()]);
    exploration.assert_passed();
    assert!(exploration.is_complete());
    // With all orders of what is not known it is hundreds.
    assert!(exploration.schedules() < 40, "{}", exploration.schedules());
}

#[test]
#[serial]
fn a_session_that_is_seen_twice_takes_each_statement_once() {
    let _seen = SeenConnections::new();
    let exploration = explore(remove_owner, ["ada", "ada"]);
    for schedule in exploration.list() {
        assert!(!schedule.contains('#'), "{schedule}");
    }
}
