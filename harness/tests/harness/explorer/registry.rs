//! How crates.io kept the keywords of a crate, in its own words, with its triggers: a deadlock of
//! two sessions with nine statements each.

use diesel::prelude::*;
use diesel_locks_harness::{Explorer, Problem, SeenConnections, TestDatabase};
use serial_test::{parallel, serial};

use super::tables::{filled, with_tables};
use crate::support::pool;

diesel::table! { crates (id) { id -> Integer, name -> Text, } }
diesel::table! { keywords (id) { id -> Integer, keyword -> Text, } }
diesel::table! {
    crates_keywords (crate_id, keyword_id) { crate_id -> Integer, keyword_id -> Integer, }
}

const SCHEMA: &str = "
    CREATE FUNCTION random_string(int4) RETURNS text AS $$
        SELECT (array_to_string(array(
            SELECT substr('abcdefghij', floor(random() * 10)::int4 + 1, 1)
            FROM generate_series(1, $1)), '')) $$ LANGUAGE SQL;
    CREATE TABLE crates (id serial PRIMARY KEY, name varchar NOT NULL UNIQUE, words tsvector,
        updated_at timestamp NOT NULL DEFAULT current_timestamp);
    CREATE TABLE keywords (id serial PRIMARY KEY, keyword text NOT NULL UNIQUE,
        crates_cnt integer NOT NULL DEFAULT 0);
    CREATE TABLE crates_keywords (crate_id integer NOT NULL REFERENCES crates ON DELETE CASCADE,
        keyword_id integer NOT NULL REFERENCES keywords, PRIMARY KEY (crate_id, keyword_id));
    CREATE TABLE crate_owner_invitations (crate_id integer REFERENCES crates ON DELETE CASCADE,
        token text NOT NULL DEFAULT random_string(26));
    CREATE FUNCTION update_keywords_crates_cnt() RETURNS trigger AS $$ BEGIN
        IF (TG_OP = 'INSERT') THEN
            UPDATE keywords SET crates_cnt = crates_cnt + 1 WHERE id = NEW.keyword_id;
            return NEW;
        ELSIF (TG_OP = 'DELETE') THEN
            UPDATE keywords SET crates_cnt = crates_cnt - 1 WHERE id = OLD.keyword_id;
            return OLD;
        END IF; END $$ LANGUAGE plpgsql;
    CREATE TRIGGER trigger_update_keywords_crates_cnt BEFORE INSERT OR DELETE ON crates_keywords
        FOR EACH ROW EXECUTE FUNCTION update_keywords_crates_cnt();
    CREATE FUNCTION touch_crate() RETURNS trigger AS $$ BEGIN
        IF TG_OP = 'DELETE' THEN
            UPDATE crates SET updated_at = CURRENT_TIMESTAMP WHERE id = OLD.crate_id;
            RETURN OLD;
        ELSE
            UPDATE crates SET updated_at = CURRENT_TIMESTAMP WHERE id = NEW.crate_id;
            RETURN NEW;
        END IF; END $$ LANGUAGE plpgsql;
    CREATE TRIGGER touch_crate_on_modify_keywords AFTER INSERT OR DELETE ON crates_keywords
        FOR EACH ROW EXECUTE FUNCTION touch_crate();
    CREATE FUNCTION trigger_crates_name_search() RETURNS trigger AS $$ DECLARE kws TEXT; begin
        SELECT array_to_string(array_agg(keyword), ',') INTO kws
            FROM keywords INNER JOIN crates_keywords ON keywords.id = crates_keywords.keyword_id
            WHERE crates_keywords.crate_id = new.id;
        new.words := to_tsvector('pg_catalog.english', coalesce(kws, ''));
        return new; end $$ LANGUAGE plpgsql;
    CREATE TRIGGER trigger_crates_tsvector_update BEFORE INSERT OR UPDATE ON crates
        FOR EACH ROW EXECUTE FUNCTION trigger_crates_name_search();";

const FILL: &str = "
    TRUNCATE crates, keywords, crates_keywords, crate_owner_invitations RESTART IDENTITY;
    INSERT INTO crates (name) VALUES ('serde'), ('rand');
    INSERT INTO keywords (keyword) VALUES ('json'), ('chance');
    INSERT INTO crates_keywords VALUES (1, 1), (2, 2);";

fn update_crate(conn: &mut PgConnection, crate_id: i32, names: &[&str]) -> QueryResult<()> {
    conn.transaction(|conn| {
        let new_keywords: Vec<_> = names.iter().map(|s| keywords::keyword.eq(*s)).collect();
        diesel::insert_into(keywords::table)
            .values(&new_keywords)
            .on_conflict_do_nothing()
            .execute(conn)?;
        let keywords: Vec<(i32, String)> = keywords::table
            .filter(keywords::keyword.eq_any(names))
            .load(conn)?;
        let old = crates_keywords::table.filter(crates_keywords::crate_id.eq(crate_id));
        diesel::delete(old).execute(conn)?;
        let crate_keywords: Vec<_> = (keywords.iter())
            .map(|(id, _)| {
                (
                    crates_keywords::crate_id.eq(crate_id),
                    crates_keywords::keyword_id.eq(id),
                )
            })
            .collect();
        diesel::insert_into(crates_keywords::table)
            .values(&crate_keywords)
            .execute(conn)?;
        Ok(())
    })
}

/// The part of a publication that has to do with keywords: nine statements.
fn publish(conn: &mut PgConnection, name: &str, keyword: &str) -> QueryResult<()> {
    conn.transaction(|conn| {
        let own = crates::table.filter(crates::name.eq(name));
        let id = own.select(crates::id).first(conn)?;
        update_crate(conn, id, &[keyword])
    })
}

fn assert_deadlocks(explorer: &Explorer<'_, PgConnection>) {
    let exploration = explorer.explore().unwrap();
    println!("{exploration}");
    assert!(exploration.is_complete(), "{:#?}", exploration.list());
    // If nothing were known of the triggers, it would be 224.
    assert_eq!(exploration.schedules(), 34, "{:#?}", exploration.list());
    assert_eq!(exploration.failures().len(), 8, "{exploration}");
    let mut problems = exploration.failures().iter().flat_map(|run| run.problems());
    assert!(problems.all(|problem| matches!(problem, Problem::Deadlock { .. })));
    let failure = &exploration.failures()[0];
    let again = explorer.replay(failure.schedule()).unwrap();
    assert_eq!(again.schedule(), failure.schedule());
}

fn registry() -> TestDatabase {
    with_tables(SCHEMA)
}

#[test]
#[parallel]
fn keywords_that_two_crates_swap_deadlock() {
    let database = registry();
    let explorer = filled(&database, FILL)
        .code("serde", |conn| publish(conn, "serde", "chance"))
        .code("rand", |conn| publish(conn, "rand", "json"));
    assert_deadlocks(&explorer);
}

#[test]
#[serial]
fn keywords_that_two_crates_swap_deadlock_on_a_pool() {
    let database = registry();
    let _seen = SeenConnections::new();
    let pool = pool(&database, 2);
    let publish = |name, keyword| {
        let mut conn = pool.get().unwrap();
        publish(&mut conn, name, keyword)
    };
    let explorer = filled(&database, FILL)
        .call("serde", || publish("serde", "chance"))
        .call("rand", || publish("rand", "json"));
    assert_deadlocks(&explorer);
}
