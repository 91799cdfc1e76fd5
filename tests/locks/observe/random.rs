//! Random jams, each edge of which is the server's.

use std::collections::BTreeSet;

use diesel::PgConnection;
use diesel::connection::SimpleConnection;
use diesel_locks::WaitGraph;
use serial_test::parallel;

use super::jam::{Actor, connect_to, edges_by_graph, edges_by_server, end, server};
use crate::support::eventually;

/// The next number below `below`, of a sequence that is the same each time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, below: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        usize::try_from(self.0 >> 33).unwrap() % below
    }

    fn one_of<'t>(&mut self, texts: &[&'t str]) -> &'t str {
        texts[self.below(texts.len())]
    }

    /// A statement that takes a lock of a row, a table, or an advisory one.
    fn statement(&mut self) -> String {
        let nth = self.below(3) + 1;
        match self.below(5) {
            0 => format!("SELECT pg_advisory_xact_lock({nth})"),
            1 => format!("SELECT pg_advisory_xact_lock_shared({nth})"),
            2 => {
                let strength = self.one_of(&["UPDATE", "NO KEY UPDATE", "SHARE", "KEY SHARE"]);
                format!("SELECT FROM accounts WHERE id = {nth} FOR {strength}")
            }
            3 => format!("UPDATE accounts SET balance = balance + 1 WHERE id = {nth}"),
            _ => {
                let mode =
                    self.one_of(&["ROW EXCLUSIVE", "SHARE", "EXCLUSIVE", "ACCESS EXCLUSIVE"]);
                format!("LOCK TABLE jobs IN {mode} MODE")
            }
        }
    }
}

/// What the server says, which was the same before and after the graph was made: the last step of a
/// wait that has ended may be a moment late.
fn settled(observer: &mut PgConnection, pids: &[i32]) -> (BTreeSet<(i32, i32)>, WaitGraph) {
    let mut settled = None;
    eventually(|| {
        let said = edges_by_server(observer, pids);
        let graph = WaitGraph::load(observer).unwrap();
        let is_settled = edges_by_server(observer, pids) == said;
        settled = Some((said, graph));
        is_settled
    });
    settled.unwrap()
}

#[test]
#[parallel]
fn two_hundred_random_jams_have_each_edge_that_the_server_says_and_no_other() {
    let server = server();
    let observer = &mut connect_to(&server);
    observer
        .batch_execute(
            "INSERT INTO accounts (id, owner, balance) \
             SELECT n, 'x', 0 FROM generate_series(3, 3) AS n ON CONFLICT DO NOTHING",
        )
        .unwrap();
    let mut numbers = Numbers(20_261_125);
    let (mut edges, mut jams, mut prepared) = (0, 0, 0);
    for round in 0..200 {
        let actors: Vec<_> = (0..2 + numbers.below(11))
            .map(|_| Actor::new(&server, "random"))
            .collect();
        let name = format!("jam {round}");
        let has_prepared = numbers.below(3) == 0;
        if has_prepared {
            let locks = format!("{}; {}", numbers.statement(), numbers.statement());
            observer
                .batch_execute(&format!("BEGIN; {locks}; PREPARE TRANSACTION '{name}'"))
                .unwrap();
        }
        for actor in &actors {
            actor.begins("SET deadlock_timeout = '1h'; BEGIN");
        }
        for _ in 0..2 {
            for actor in &actors {
                let statement = numbers.statement();
                // One that waits does the rest later, and so waits on.
                actor.begins(&statement);
            }
        }
        let pids: Vec<i32> = actors.iter().map(|actor| actor.pid).collect();
        eventually(|| {
            let said = edges_by_server(observer, &pids);
            let waits = |pid| said.iter().any(|(waiter, _)| *waiter == pid);
            actors.iter().all(|actor| actor.rests() || waits(actor.pid))
        });
        let (said, graph) = settled(observer, &pids);
        assert_eq!(edges_by_graph(&graph), said, "jam {round}: {graph}");
        let waiters = graph.waits().len();
        let shown = graph.to_string();
        for wait in graph.waits() {
            let line = format!("{} (", wait.waiter());
            assert!(shown.contains(&line), "jam {round}: {line} in {shown}");
        }
        assert_eq!(
            graph.to_dot().matches(" -> ").count(),
            said.len(),
            "jam {round}"
        );
        edges += said.len();
        jams += usize::from(waiters > 0);
        prepared += usize::from(said.iter().any(|(_, blocker)| *blocker == 0));
        end(&server, actors);
        if has_prepared {
            observer
                .batch_execute(&format!("ROLLBACK PREPARED '{name}'"))
                .unwrap();
        }
    }
    println!("{jams} jams with {edges} edges, {prepared} of them with a prepared transaction");
    assert!(
        jams > 150 && edges > 1_000 && prepared > 20,
        "{jams} {edges} {prepared}"
    );
}
