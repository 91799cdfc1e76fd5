//! What the scanner finds, and what not.

use serial_test::parallel;

use crate::scanner::unqualified;

#[test]
#[parallel]
fn what_is_qualified_is_no_finding() {
    for sql in [
        "SELECT 1",
        "SELECT -1, 'count(x) || y', E'it\\'s a = b', $$ a = b $$, $x$ f(y) $$ $x$, $1",
        "SELECT pg_catalog.count(*), t.*, * FROM t -- a = b\n WHERE /* f(x) /* = */ < */ NOT b",
        r#"SELECT "pg_catalog"."count"(*) FROM "pg_catalog"."pg_locks" AS "a = f(x)""#,
        "SELECT pg_locks.pid FROM pg_catalog.pg_locks ORDER BY pid LIMIT 1",
        "SELECT a OPERATOR(pg_catalog.||) 'x' WHERE b OPERATOR(pg_catalog.=) ANY ($1)",
        "SELECT x::bigint, y::integer[], z::pg_catalog.text, CAST(a AS pg_catalog.regclass)",
        "SELECT CAST(a AS double precision), b::numeric(10, 2), interval '1 s'",
        "SELECT pg_catalog.text 'x' COLLATE pg_catalog.\"C\"",
        "WITH RECURSIVE a AS MATERIALIZED (SELECT 1), b(x, y) AS (SELECT 0::bigint, true \
         UNION ALL SELECT x, y FROM b), c (z) AS MATERIALIZED (VALUES (1)) SELECT * FROM a, b, c",
        "SELECT FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) \
         WITH ORDINALITY AS wanted(first, second, n)",
        "SELECT CASE WHEN a THEN 'x' ELSE 'y' END, coalesce(a, greatest(b, c)), ARRAY[1, -2]",
        "SELECT EXISTS (SELECT FROM t WHERE (a, b) OPERATOR(pg_catalog.=) (c, d) AND e IS NOT NULL)",
        r#"UPDATE "accounts" SET "balance" = $1, owner = $2 RETURNING "accounts"."id""#,
        "INSERT INTO jobs (a, b) VALUES ($1, DEFAULT)",
        "INSERT INTO a SELECT 1 ON CONFLICT ON CONSTRAINT b DO UPDATE SET c = excluded.c",
        "INSERT INTO a SELECT 1 ON CONFLICT DO NOTHING",
        "SET lock_timeout = '1s'; SET LOCAL a.b TO 'x'; SET TIME ZONE 'UTC'; RESET TimeZone",
        "BEGIN ISOLATION LEVEL SERIALIZABLE; LOCK TABLE \"a\" IN ACCESS SHARE MODE; COMMIT",
        r#"SELECT "a"."b" FROM "a" FOR NO KEY UPDATE OF "a" SKIP LOCKED"#,
        "CREATE DATABASE x; DROP DATABASE x WITH (FORCE)",
        "SELECT pg_catalog.make_interval(secs => 1)",
    ] {
        assert_eq!(unqualified(sql), <[&str; 0]>::default(), "{sql}");
    }
}

#[test]
#[parallel]
fn what_is_looked_up_through_the_search_path_is_a_finding() {
    for (sql, finding) in [
        ("SELECT count(*)", "function count"),
        ("SELECT pg_backend_pid()", "function pg_backend_pid"),
        ("SELECT \"count\"(a)", "function count"),
        ("SELECT public.count(a)", "function public.count"),
        ("SELECT pg_catalog.count(min(a))", "function min"),
        (
            "SELECT FROM unnest($1, $2) WITH ORDINALITY AS w(a, b)",
            "function unnest",
        ),
        ("SELECT FROM a, f(b) AS (c integer)", "function f"),
        ("SELECT substring(a, 1)", "function substring"),
        ("SELECT FROM pg_locks", "relation pg_locks"),
        ("SELECT FROM a, \"pg_locks\" AS b", "relation pg_locks"),
        (
            "SELECT pg_locks.* FROM pg_catalog.pg_class JOIN pg_locks ON true",
            "relation pg_locks",
        ),
        ("SELECT a::text", "type text"),
        ("SELECT a::public.text", "type public.text"),
        ("SELECT a::pg_catalog.regclass::text", "type text"),
        ("SELECT a::bool", "type bool"),
        ("SELECT CAST(a AS oid)", "type oid"),
        ("SELECT regclass 'a'", "type regclass"),
        ("SELECT a = b", "operator ="),
        ("SELECT a||'x'", "operator ||"),
        ("SELECT a=-1", "operator ="),
        ("SELECT a - 1", "operator -"),
        ("SELECT -a", "operator -"),
        ("SELECT a * b", "operator *"),
        ("SELECT a -> 'b'", "operator ->"),
        ("SELECT a = ANY ($1)", "operator ="),
        ("UPDATE a SET b = c = d", "operator ="),
        ("UPDATE a SET b = c WHERE d = e", "operator ="),
        ("SET a = b; SELECT a, b = c", "operator ="),
        ("SELECT a IN (1, 2)", "key word in"),
        ("SELECT a BETWEEN b AND c", "key word between"),
        ("SELECT a NOT LIKE 'x'", "key word like"),
        ("SELECT a IS NOT DISTINCT FROM b", "key word distinct"),
        ("SELECT CASE a WHEN 1 THEN 2 END", "key word case"),
        ("SELECT NULLIF(a, b)", "key word nullif"),
        ("SELECT FROM a JOIN b USING (c)", "key word using"),
        ("SELECT FROM a NATURAL JOIN b", "key word natural"),
        ("SELECT a COLLATE \"C\"", "key word collate"),
        ("DO $$ BEGIN PERFORM count(*); END $$", "key word do"),
    ] {
        assert_eq!(unqualified(sql), [finding], "{sql}");
    }
    let other = unqualified("SELECT a OPERATOR(public.=) b");
    assert_eq!(other.len(), 1, "{other:?}");
    let bare = unqualified("SELECT a OPERATOR(=) b");
    assert_eq!(bare.len(), 1, "{bare:?}");
}
