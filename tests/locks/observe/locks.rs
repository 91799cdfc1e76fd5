//! The locks of a server: each kind of holder and of lock.

use diesel::connection::SimpleConnection;
use diesel::dsl::IntervalDsl;
use diesel::prelude::*;
use diesel_locks::observed::{lock_waits, locks, sessions};
use diesel_locks::prelude::*;
use diesel_locks::{
    AdvisoryLock, LockInfo, LockKey, LockMode, LockWait, LockedObject, SessionInfo,
};
use diesel_locks_harness::TestDatabase;
use serial_test::parallel;

use super::jam::{Actor, connect_as, connect_to, end, server};
use crate::support::{backend_pid, connect, database, eventually, two_sessions};

fn of(locks: &[LockInfo], pid: i32) -> Vec<&LockInfo> {
    locks
        .iter()
        .filter(|lock| lock.session.pid == pid)
        .collect()
}

fn advisory(locks: &[&LockInfo]) -> Vec<(LockKey, LockMode)> {
    let keys = locks.iter().filter_map(|lock| match lock.object {
        LockedObject::Advisory(key) => Some((key, lock.mode)),
        _ => None,
    });
    keys.collect()
}

#[test]
#[parallel]
fn every_advisory_key_comes_back_as_it_was_taken_and_in_its_database() {
    let (database, mut here, mut there) = two_sessions(TestDatabase::new().unwrap());
    let wanted = [
        AdvisoryLock::exclusive("gold_leader"),
        AdvisoryLock::exclusive(-1),
        AdvisoryLock::exclusive(i64::MIN),
        AdvisoryLock::shared(i64::MAX),
        AdvisoryLock::exclusive((-7, i32::MIN)),
        AdvisoryLock::shared((i32::MAX, -1)),
    ];
    let holder = backend_pid(&mut there);
    let _held = there.advisory_lock_all(wanted).unwrap();
    let all = here.locks().unwrap();
    let held = of(&all, holder);
    let mut found = advisory(&held);
    found.sort_unstable();
    let mut expected = wanted.map(|lock| match lock.is_shared() {
        true => (lock.key(), LockMode::Share),
        false => (lock.key(), LockMode::Exclusive),
    });
    expected.sort_unstable();
    assert_eq!(found, expected);
    let name = database.url().rsplit("dbname=").next().unwrap().to_owned();
    for lock in held {
        assert_eq!(lock.session.database.as_deref(), Some(name.as_str()));
    }
    let gold = all
        .iter()
        .find(|lock| lock.object.to_string() == "advisory lock \"gold_leader\"");
    let line = gold.unwrap().to_string();
    assert!(
        line.contains(&format!("ExclusiveLock, held by pid {holder}")),
        "{line}"
    );
}

#[test]
#[parallel]
fn the_locks_of_another_database_are_seen_and_its_tables_have_numbers() {
    let (here, there) = (database(), database());
    let (mut here, mut there) = (connect(&here), connect(&there));
    there
        .batch_execute("BEGIN; LOCK TABLE accounts IN SHARE MODE")
        .unwrap();
    let holder = backend_pid(&mut there);
    let all = here.locks().unwrap();
    let relations: Vec<_> = of(&all, holder)
        .into_iter()
        .filter_map(|lock| match &lock.object {
            LockedObject::Relation(relation) => Some(relation.clone()),
            _ => None,
        })
        .collect();
    let [relation] = &relations[..] else {
        panic!("{relations:?}");
    };
    assert_eq!((&relation.schema, &relation.name), (&None, &None));
    assert_eq!(relation.to_string(), format!("relation {}", relation.oid));
    let all = there.locks().unwrap();
    let mut own = of(&all, holder).into_iter();
    let table = own
        .find(|lock| lock.object.to_string() == "public.accounts")
        .unwrap();
    assert_eq!((table.mode, table.granted), (LockMode::Share, true));
}

#[test]
#[parallel]
fn fast_path_locks_and_temporary_tables_and_new_ones_are_there() {
    let (_database, mut here, mut there) = two_sessions(database());
    for batch in [
        "CREATE TEMPORARY TABLE mine (); CREATE TABLE old ()",
        "BEGIN; TABLE old; TABLE mine; CREATE TABLE new ()",
    ] {
        there.batch_execute(batch).unwrap();
    }
    let all = here.locks().unwrap();
    let locks = of(&all, backend_pid(&mut there));
    let shown: Vec<_> = locks.iter().map(ToString::to_string).collect();
    let named = |name: &str| {
        let mut locks = locks.iter();
        locks
            .find(|lock| lock.object.to_string().ends_with(name))
            .copied()
    };
    assert!(named("public.old").unwrap().fast_path, "{shown:#?}");
    let temporary = named(".mine").unwrap();
    assert!(
        temporary.object.to_string().starts_with("pg_temp_"),
        "{temporary}"
    );
    // The new one is there, by its number.
    assert!(named(".new").is_none());
    assert!(locks.iter().any(|lock| {
        lock.mode == LockMode::AccessExclusive && lock.object.to_string().starts_with("relation ")
    }));
    assert!(
        locks
            .iter()
            .any(|lock| matches!(lock.object, LockedObject::VirtualTransaction(_)))
    );
    assert!(
        locks
            .iter()
            .any(|lock| matches!(lock.object, LockedObject::Transaction { .. }))
    );
    let line = locks
        .iter()
        .map(|lock| lock.to_string())
        .find(|line| line.starts_with("object "));
    assert!(line.unwrap().contains(" of pg_catalog.pg_"));
}

#[test]
#[parallel]
fn a_parallel_workers_wait_is_that_of_its_session() {
    let server = server();
    let observer = &mut connect_to(&server);
    observer
        .batch_execute(
            "CREATE TABLE big AS SELECT n FROM generate_series(1, 20000) AS n; ANALYZE big; \
             CREATE FUNCTION slow(n integer) RETURNS boolean PARALLEL SAFE LANGUAGE sql AS $$ \
             SELECT pg_advisory_xact_lock_shared(9) IS NOT NULL $$",
        )
        .unwrap();
    let actors = ["holder", "leader"].map(|name| Actor::new(&server, name));
    let [holder, leader] = &actors;
    holder.does("SELECT pg_advisory_lock(9)");
    leader.does(
        "SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; \
         SET max_parallel_workers_per_gather = 2; SET parallel_leader_participation = off",
    );
    leader.begins("SELECT count(*) FROM big WHERE slow(n)");
    eventually(|| !observer.lock_waits().unwrap().is_empty());
    let waits = observer.lock_waits().unwrap();
    for wait in &waits {
        assert_eq!(
            wait.lock.session.backend_type.as_deref(),
            Some("parallel worker")
        );
        assert_eq!(wait.lock.session.leader, Some(leader.pid));
        assert_eq!(wait.waiter().to_string(), format!("pid {}", leader.pid));
    }
    let graph = diesel_locks::WaitGraph::load(observer).unwrap();
    let sessions: Vec<_> = graph.sessions().map(|session| session.pid).collect();
    assert_eq!(sessions.len(), 2, "{graph}");
    assert!(
        graph
            .to_string()
            .contains(&format!("pid {} (leader", leader.pid)),
        "{graph}"
    );
    let blockers = observer.blocked_by(leader.pid).unwrap();
    assert_eq!(blockers[0].pid, holder.pid);
    end(&server, actors.into());
}

#[test]
#[parallel]
fn diesels_own_dsl_filters_locks_waits_and_sessions() {
    let server = server();
    let conn = &mut connect_to(&server);
    let actors = ["billing", "web"].map(|name| Actor::new(&server, name));
    let [billing, web] = &actors;
    billing.does("SELECT pg_advisory_lock(1)");
    web.waits(conn, "SELECT pg_advisory_lock(1)");
    let pids = |found: &[LockInfo]| {
        found
            .iter()
            .map(|lock| lock.session.pid)
            .collect::<Vec<_>>()
    };
    let is_advisory = locks::kind.eq("advisory");

    let held: Vec<LockInfo> = locks::table
        .filter(is_advisory.and(locks::granted))
        .filter(locks::database.eq("postgres"))
        .observed()
        .load(conn)
        .unwrap();
    assert_eq!(pids(&held), [billing.pid]);
    let by_pid = locks::table
        .filter(locks::pid.eq(web.pid).and(is_advisory))
        .select(LockInfo::as_select())
        .into_boxed();
    assert_eq!(pids(&by_pid.observed().load(conn).unwrap()), [web.pid]);
    let by_application = locks::table
        .filter(locks::application.eq("web"))
        .filter(locks::age.lt(1.hours()))
        .order(locks::mode)
        .limit(1);
    assert_eq!(
        pids(&by_application.observed().load(conn).unwrap()),
        [web.pid]
    );
    let old = locks::table.filter(locks::age.gt(1.hours()));
    assert_eq!(pids(&old.observed().load(conn).unwrap()), []);

    let waits: Vec<LockWait> = lock_waits::table
        .filter(lock_waits::application.eq("web"))
        .observed()
        .load(conn)
        .unwrap();
    assert_eq!(
        waits[0].blockers,
        [diesel_locks::SessionId::Pid(billing.pid)]
    );
    let names: Vec<Option<String>> = sessions::table
        .filter(sessions::backend_type.eq("client backend"))
        .filter(sessions::application.is_not_null())
        .order(sessions::application)
        .select(sessions::application)
        .observed()
        .load(conn)
        .unwrap();
    assert_eq!(names, [Some("billing".to_owned()), Some("web".to_owned())]);
    let web_again: SessionInfo = sessions::table
        .filter(sessions::pid.eq(web.pid))
        .observed()
        .get_result(conn)
        .unwrap();
    assert_eq!(web_again.state.as_deref(), Some("active"));
    end(&server, actors.into());
}

#[test]
#[parallel]
fn inside_a_transaction_it_looks_anew() {
    let server = server();
    let conn = &mut connect_to(&server);
    let actor = Actor::new(&server, "first");
    conn.transaction(|conn| {
        assert_eq!(
            conn.locks()?
                .iter()
                .filter(|lock| lock.session.pid == actor.pid)
                .count(),
            0
        );
        actor.does("SET application_name = 'second'; SELECT pg_advisory_lock(1)");
        let locks = conn.locks()?;
        let lock = locks
            .iter()
            .find(|lock| lock.session.pid == actor.pid)
            .unwrap();
        assert_eq!(lock.session.application.as_deref(), Some("second"));
        assert!(
            lock.session
                .query
                .as_deref()
                .unwrap()
                .contains("pg_advisory_lock")
        );
        Ok::<_, diesel_locks::LockError>(())
    })
    .unwrap();
}

#[test]
#[parallel]
fn what_a_role_without_rights_may_not_see_is_said_and_the_rest_is_there() {
    let server = server();
    let observer = &mut connect_to(&server);
    observer
        .batch_execute(
            "CREATE ROLE stranger LOGIN; CREATE ROLE monitor LOGIN; GRANT pg_monitor TO monitor",
        )
        .unwrap();
    let actors = ["billing", "web"].map(|name| Actor::new(&server, name));
    let [billing, web] = &actors;
    billing.does("BEGIN; UPDATE accounts SET balance = 1 WHERE id = 1");
    web.waits(observer, "UPDATE accounts SET balance = 2 WHERE id = 1");
    for (role, is_hidden) in [("stranger", true), ("monitor", false)] {
        let conn = &mut connect_as(&server, role);
        let graph = diesel_locks::WaitGraph::load(conn).unwrap();
        let edges: Vec<_> = graph
            .edges()
            .map(|edge| (edge.waiter.pid, edge.blocker.pid))
            .collect();
        assert_eq!(edges, [(web.pid, billing.pid)]);
        let blocker = &conn.blocked_by(web.pid).unwrap()[0];
        assert_eq!((blocker.pid, blocker.is_hidden()), (billing.pid, is_hidden));
        assert_eq!(blocker.application.as_deref(), Some("billing"));
        assert_eq!(blocker.user.as_deref(), Some("postgres"));
        assert_eq!(blocker.query.is_none(), is_hidden);
        assert_eq!(blocker.backend_start.is_none(), is_hidden);
        let words = "doing what this role may not see";
        assert_eq!(graph.to_string().contains(words), is_hidden, "{graph}");
        assert!(
            graph.to_string().contains("row (0,1) of public.accounts"),
            "{graph}"
        );
        assert!(
            conn.locks()
                .unwrap()
                .iter()
                .any(|lock| lock.session.pid == billing.pid)
        );
    }
    end(&server, actors.into());
}

#[test]
#[parallel]
fn a_wait_is_a_line_that_says_behind_whom() {
    let server = server();
    let conn = &mut connect_to(&server);
    let actors = ["billing", "web", "jobs"].map(|name| Actor::new(&server, name));
    let [billing, web, jobs] = &actors;
    billing.does("SELECT pg_advisory_lock_shared(1)");
    web.does("SELECT pg_advisory_lock_shared(1)");
    jobs.waits(conn, "SELECT pg_advisory_lock(1)");
    let waits = conn.lock_waits().unwrap();
    let [wait] = &*waits else { panic!("{waits:?}") };
    let mut pids = [billing.pid, web.pid];
    pids.sort_unstable();
    let [first, second] = pids;
    let behind = format!(", behind pid {first} and pid {second}");
    assert_eq!(wait.to_string(), format!("{}{behind}", wait.lock));
    end(&server, actors.into());
}

#[test]
#[parallel]
fn whoever_is_next_at_a_row_has_a_lock_on_it() {
    let server = server();
    let conn = &mut connect_to(&server);
    conn.batch_execute("CREATE TABLE tasks (id int); INSERT INTO tasks VALUES (1)")
        .unwrap();
    let actors = ["holder", "next"].map(|name| Actor::new(&server, name));
    let [holder, next] = &actors;
    holder.does("BEGIN; SELECT FROM tasks FOR UPDATE");
    next.waits(conn, "SELECT FROM tasks FOR UPDATE");
    let all = conn.locks().unwrap();
    let rows: Vec<_> = (of(&all, next.pid).into_iter())
        .filter_map(|lock| match &lock.object {
            LockedObject::Row(row) => Some((row.relation.name.as_deref(), row.ctid, lock.granted)),
            _ => None,
        })
        .collect();
    assert_eq!(rows, [(Some("tasks"), (0, 1), true)], "{all:?}");
    end(&server, actors.into());
}

#[test]
#[parallel]
fn what_a_serializable_transaction_has_read_is_a_page_of_an_index() {
    let (_database, mut here, mut there) = two_sessions(database());
    there
        .batch_execute(
            "BEGIN ISOLATION LEVEL SERIALIZABLE; SET LOCAL enable_seqscan = off; \
             SET LOCAL enable_bitmapscan = off; SELECT FROM accounts WHERE id = 1",
        )
        .unwrap();
    let pid = backend_pid(&mut there);
    let all = here.locks().unwrap();
    let page = of(&all, pid)
        .into_iter()
        .find_map(|lock| match &lock.object {
            LockedObject::Page { relation, page, .. } => Some((relation.name.clone(), *page)),
            _ => None,
        });
    assert_eq!(page, Some((Some("accounts_pkey".to_owned()), 1)), "{all:?}");
}

#[test]
#[parallel]
fn a_statement_in_a_database_of_another_encoding_is_shown_by_its_bytes_and_hides_no_other() {
    let server = server();
    let mut conn = connect_to(&server);
    conn.batch_execute("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
        .unwrap();
    let url = server.url().replace("dbname=postgres", "dbname=latin");
    let mut latin = PgConnection::establish(&url).unwrap();
    latin.batch_execute(r"SELECT 'é \d'").unwrap();
    let _held = conn.advisory_lock("gold_leader").unwrap();
    let observer = &mut connect_to(&server);
    let found: Vec<SessionInfo> = sessions::table
        .filter(sessions::database.eq("latin"))
        .observed()
        .load(observer)
        .unwrap();
    assert_eq!(found[0].query.as_deref(), Some(r"SELECT '\351 \d'"));
    assert!(!observer.locks().unwrap().is_empty());
}
