//! Who waits for whom, as a tree and as diagrams.

use std::collections::BTreeSet;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel_locks::prelude::*;
use diesel_locks::{LockMode, LockedObject, SessionId, WaitGraph};
use diesel_locks_harness::TempPostgres;
use serial_test::parallel;

use super::jam::{Actor, connect_to, edges_by_graph, edges_by_server, end, number, server};

/// Five sessions over a row, a table and two advisory locks, and a prepared transaction.
fn jam(server: &TempPostgres, observer: &mut PgConnection) -> Vec<Actor> {
    let names = ["billing", "web", "report", "mail", "cron"];
    let actors = names.map(|name| Actor::new(server, name));
    let [billing, web, report, mail, cron] = &actors;
    observer
        .batch_execute(
            "BEGIN; LOCK TABLE jobs IN ROW EXCLUSIVE MODE; \
             SELECT pg_advisory_xact_lock(7, -42); PREPARE TRANSACTION 'payout 7'",
        )
        .unwrap();
    let gold = number("gold_leader");
    billing.does("BEGIN; UPDATE accounts SET balance = 1 WHERE id = 1");
    web.does(&format!("BEGIN; SELECT pg_advisory_lock({gold})"));
    web.waits(observer, "UPDATE accounts SET balance = 2 WHERE id = 1");
    report.waits(observer, &format!("SELECT pg_advisory_lock_shared({gold})"));
    mail.waits(observer, "SELECT pg_advisory_lock(7, -42)");
    cron.does("BEGIN");
    cron.waits(observer, "LOCK TABLE jobs, accounts IN SHARE MODE");
    actors.into()
}

fn pid_of(actors: &[Actor], at: usize) -> SessionId {
    SessionId::Pid(actors[at].pid)
}

#[test]
#[parallel]
fn a_jam_over_rows_tables_advisory_locks_and_a_prepared_transaction_is_as_the_server_says() {
    let server = server();
    let observer = &mut connect_to(&server);
    let actors = jam(&server, observer);
    let pids: Vec<i32> = actors.iter().map(|actor| actor.pid).collect();
    let graph = WaitGraph::load(observer).unwrap();
    let said = edges_by_server(observer, &pids);
    assert_eq!(edges_by_graph(&graph), said);
    assert_eq!(said.len(), 4, "{graph}");

    let payout = SessionId::Prepared("payout 7".to_owned());
    let edges: BTreeSet<_> = graph
        .edges()
        .map(|edge| (edge.waiter.id(), edge.blocker.id()))
        .collect();
    let [billing, web, report, mail, cron] = [0, 1, 2, 3, 4].map(|at| pid_of(&actors, at));
    let expected = [
        (web.clone(), billing.clone()),
        (report, web.clone()),
        (mail, payout.clone()),
        (cron, payout.clone()),
    ];
    assert_eq!(edges, BTreeSet::from(expected));
    let roots: Vec<_> = graph
        .roots()
        .iter()
        .map(|root| (root.sessions[0].id(), root.holds_up))
        .collect();
    assert_eq!(roots, [(billing, 2), (payout, 2)]);
    assert!(graph.cycles().is_empty());

    let dot = graph.to_dot();
    let mermaid = graph.to_mermaid();
    assert_eq!(dot.matches(" -> ").count(), 4, "{dot}");
    assert_eq!(mermaid.matches(" -->|").count(), 4, "{mermaid}");
    // What is drawn is what the edges say: numbers of sessions in the order of their ids.
    let ids: Vec<_> = graph.sessions().map(|session| session.id()).collect();
    let at = |id: &SessionId| ids.iter().position(|known| known == id).unwrap();
    for (waiter, blocker) in &edges {
        let (waiter, blocker) = (at(waiter), at(blocker));
        assert!(dot.contains(&format!("s{waiter} -> s{blocker} [")), "{dot}");
        assert!(mermaid.contains(&format!("s{waiter} -->|")), "{mermaid}");
    }
    end(&server, actors);
}

#[test]
#[parallel]
fn the_tree_says_who_waits_for_whom_for_what_and_what_it_runs() {
    let server = server();
    let observer = &mut connect_to(&server);
    let actors = jam(&server, observer);
    let tree = WaitGraph::load(observer).unwrap().to_string();
    let mut tree = tree.replace("public.", "");
    for actor in &actors {
        tree = tree.replace(&format!("pid {} (", actor.pid), "pid N (");
    }
    let lines: Vec<_> = tree.lines().map(without_times).collect();
    assert_eq!(
        lines,
        [
            "pid N (billing, as postgres) holds up 2, for T, idle in transaction: BEGIN; UPDATE accounts \
             SET balance = 1 WHERE id = 1",
            "└─ pid N (web, as postgres) waits T for row (0,1) of accounts, ShareLock: UPDATE accounts SET \
             balance = 2 WHERE id = 1",
            &format!(
                "   └─ pid N (report, as postgres) waits T for advisory lock \"gold_leader\", ShareLock: \
                 SELECT pg_advisory_lock_shared({})",
                number("gold_leader")
            ),
            "prepared transaction \"payout 7\" (as postgres) holds up 2, for T",
            "├─ pid N (mail, as postgres) waits T for advisory lock (7, -42), ExclusiveLock: SELECT \
             pg_advisory_lock(7, -42)",
            "└─ pid N (cron, as postgres) waits T for jobs, ShareLock: LOCK TABLE jobs, accounts IN SHARE \
             MODE",
        ],
        "{tree}"
    );
    end(&server, actors);
}

/// Every time in a line of the tree stands behind one of two words.
fn without_times(line: &str) -> String {
    let mut words = line.split(' ').peekable();
    let mut kept: Vec<&str> = Vec::new();
    while let Some(word) = words.next() {
        let is_time = word.parse::<u32>().is_ok()
            && matches!(kept.last(), Some(&("waits" | "for")))
            && words
                .peek()
                .is_some_and(|unit| ["ms", "s", "ms,", "s,"].contains(&unit.trim_end()));
        if is_time {
            let unit = words.next().unwrap();
            kept.push(if unit.ends_with(',') { "T," } else { "T" });
        } else {
            kept.push(word);
        }
    }
    kept.join(" ")
}

#[test]
#[parallel]
fn a_deadlock_is_marked_as_long_as_the_server_leaves_it() {
    let server = server();
    let observer = &mut connect_to(&server);
    let actors: Vec<_> = ["a", "b", "c", "d"]
        .map(|name| Actor::new(&server, name))
        .into();
    for (at, actor) in actors.iter().enumerate() {
        actor.does("SET deadlock_timeout = '1h'");
        actor.does(&format!("SELECT pg_advisory_lock({at})"));
    }
    actors[0].waits(observer, "SELECT pg_advisory_lock(1)");
    actors[1].waits(observer, "SELECT pg_advisory_lock(2)");
    actors[2].waits(observer, "SELECT pg_advisory_lock(0)");
    actors[3].waits(observer, "SELECT pg_advisory_lock(0)");
    let graph = WaitGraph::load(observer).unwrap();
    let mut cycle: Vec<i32> = actors[..3].iter().map(|actor| actor.pid).collect();
    cycle.sort_unstable();
    let [found] = &graph.cycles()[..] else {
        panic!("{graph}");
    };
    let found: Vec<i32> = found.iter().map(|session| session.pid).collect();
    assert_eq!(found, cycle);
    let [root] = &graph.roots()[..] else {
        panic!("{graph}");
    };
    assert_eq!((root.sessions.len(), root.holds_up), (3, 1));
    let tree = graph.to_string();
    assert!(
        tree.starts_with("a deadlock of 3, which holds up 1 more\n"),
        "{tree}"
    );
    assert_eq!(tree.matches("in a deadlock").count(), 3, "{tree}");
    for actor in &actors {
        assert!(tree.contains(&format!("pid {} (", actor.pid)), "{tree}");
    }
    let (dot, mermaid) = (graph.to_dot(), graph.to_mermaid());
    assert_eq!(dot.matches("color=red").count(), 3, "{dot}");
    assert!(mermaid.contains("linkStyle "), "{mermaid}");
    let arrows = |text: &str, arrow: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| line.contains(arrow));
        lines.map(str::to_owned).collect()
    };
    for arrow in arrows(&dot, " -> ")
        .iter()
        .chain(&arrows(&mermaid, " -->|"))
    {
        assert!(arrow.contains("ExclusiveLock"), "{arrow}");
    }
    end(&server, actors);
}

#[test]
#[parallel]
fn a_queue_is_a_list_below_its_root_and_says_who_is_ahead() {
    let server = server();
    let observer = &mut connect_to(&server);
    let actors: Vec<_> = (0..4).map(|_| Actor::new(&server, "queue")).collect();
    actors[0].does("SELECT pg_advisory_lock(1)");
    for actor in &actors[1..] {
        actor.waits(observer, "SELECT pg_advisory_lock(1)");
    }
    let graph = WaitGraph::load(observer).unwrap();
    // The third waits for the first, and for the second that is ahead of it.
    assert_eq!(graph.edges().count(), 1 + 2 + 3);
    let tree = graph.to_string();
    assert_eq!(tree.lines().count(), 4, "{tree}");
    let ahead = format!("also behind pid {}", actors[1].pid.min(actors[2].pid));
    assert!(tree.contains(&ahead), "{tree}");
    let blockers = observer.blocked_by(actors[2].pid).unwrap();
    let blockers: BTreeSet<_> = blockers.iter().map(|session| session.pid).collect();
    assert_eq!(blockers, BTreeSet::from([actors[0].pid, actors[1].pid]));
    end(&server, actors);
}

#[test]
#[parallel]
fn a_wait_for_a_row_says_which_and_one_for_a_key_that_another_inserts_says_the_transaction() {
    let server = server();
    let observer = &mut connect_to(&server);
    let actors: Vec<_> = ["a", "b", "c"].map(|name| Actor::new(&server, name)).into();
    observer
        .batch_execute("INSERT INTO accounts (id, owner, balance) VALUES (7, 'x', 0)")
        .unwrap();
    actors[0].does(
        "BEGIN; SELECT FROM accounts WHERE id = 7 FOR UPDATE; \
         INSERT INTO accounts (id, owner, balance) VALUES (8, 'y', 0)",
    );
    actors[1].waits(observer, "DELETE FROM accounts WHERE id = 7");
    actors[2].waits(
        observer,
        "INSERT INTO accounts (id, owner, balance) VALUES (8, 'z', 0)",
    );
    let ctid: String = diesel::select(diesel::dsl::sql::<diesel::sql_types::Text>(
        "(SELECT ctid::text FROM accounts WHERE id = 7)",
    ))
    .get_result(observer)
    .unwrap();
    let waits = observer.lock_waits().unwrap();
    let of = |at: usize| {
        let mut waits = waits.iter();
        waits
            .find(|wait| wait.waiter() == pid_of(&actors, at))
            .unwrap()
    };
    assert_eq!(
        of(1).lock.object.to_string(),
        format!("row {ctid} of public.accounts")
    );
    assert_eq!(of(1).lock.mode, LockMode::Share);
    let LockedObject::Transaction { row: None, id, .. } = of(2).lock.object else {
        panic!("{}", of(2));
    };
    assert!(id > 0 && of(2).lock.waiting.is_some());
    assert_eq!(of(2).blockers, [pid_of(&actors, 0)]);
    end(&server, actors);
}

#[test]
#[parallel]
fn where_nobody_waits_the_graph_is_empty() {
    let graph = WaitGraph::load(&mut connect_to(&server())).unwrap();
    assert!(graph.is_empty() && graph.roots().is_empty());
    assert_eq!(graph.to_string(), "nobody waits for a lock\n");
}

#[test]
#[parallel]
fn only_those_prepared_transactions_are_in_the_way_whose_locks_conflict() {
    let server = server();
    let observer = &mut connect_to(&server);
    for (name, lock) in [
        ("writes", "LOCK TABLE jobs IN ROW EXCLUSIVE MODE"),
        ("reads", "LOCK TABLE jobs IN ACCESS SHARE MODE"),
        ("other", "LOCK TABLE accounts IN ROW EXCLUSIVE MODE"),
    ] {
        observer
            .batch_execute(&format!("BEGIN; {lock}; PREPARE TRANSACTION '{name}'"))
            .unwrap();
    }
    let actors = vec![Actor::new(&server, "waiter")];
    actors[0].does("BEGIN");
    actors[0].waits(observer, "LOCK TABLE jobs IN SHARE MODE");
    let waits = observer.lock_waits().unwrap();
    assert_eq!(
        waits[0].blockers,
        [SessionId::Prepared("writes".to_owned())]
    );
    end(&server, actors);
}
