//! Nothing that a session is called, or does, can leave its place in a picture of the graph.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::WaitGraph;
use crate::hostile::{cases, text};
use crate::observe::lock::{LockInfo, LockWait};
use crate::observe::mode::LockMode;
use crate::observe::object::{LockedObject, RelationName};
use crate::observe::session::{SessionId, SessionInfo};

fn session() -> impl Strategy<Value = SessionInfo> {
    let prepared = option::weighted(0.2, text());
    let texts = [(); 5].map(|()| option::of(text()));
    (1..50_i32, prepared, texts, option::of(any::<Duration>())).prop_map(
        |(pid, prepared, [application, user, backend_type, state, query], age)| {
            let id = prepared.map_or(SessionId::Pid(pid), SessionId::Prepared);
            SessionInfo {
                application,
                user,
                backend_type,
                state,
                query,
                age,
                ..SessionInfo::unknown(&id)
            }
        },
    )
}

fn object() -> impl Strategy<Value = LockedObject> {
    prop_oneof![
        text().prop_map(|name| LockedObject::Advisory(crate::LockKey::named(name))),
        (text(), text()).prop_map(|(schema, name)| LockedObject::Relation(RelationName {
            oid: 1,
            schema: Some(schema),
            name: Some(name),
        })),
        (text(), option::of(text())).prop_map(|(kind, catalog)| LockedObject::Other {
            kind,
            catalog,
            id: None,
        }),
        text().prop_map(LockedObject::VirtualTransaction),
    ]
}

/// Any sessions, and any edges between them.
fn graph() -> impl Strategy<Value = WaitGraph> {
    let wait = (
        any::<prop::sample::Index>(),
        object(),
        vec(any::<prop::sample::Index>(), 1..4),
    );
    (vec(session(), 1..8), vec(wait, 0..8), any::<Duration>()).prop_map(
        |(sessions, waits, waiting)| {
            let waits = waits
                .into_iter()
                .map(|(waiter, object, blockers)| LockWait {
                    lock: LockInfo {
                        session: waiter.get(&sessions).clone(),
                        object,
                        mode: LockMode::Share,
                        granted: false,
                        waiting: Some(waiting),
                        fast_path: false,
                    },
                    blockers: blockers.iter().map(|it| it.get(&sessions).id()).collect(),
                });
            let waits = waits.collect();
            let sessions: BTreeMap<_, _> = sessions
                .iter()
                .map(|session| (session.id(), session.clone()))
                .collect();
            WaitGraph { sessions, waits }
        },
    )
}

/// A line without what stands in its quotes, in a language in which a backslash keeps what follows
/// it; `None` if a quote does not end.
fn without_quoted(line: &str) -> Option<String> {
    let (mut rest, mut quoted) = (String::new(), false);
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' if quoted => drop(letters.next()?),
            '"' => quoted = !quoted,
            letter if !quoted => rest.push(letter),
            _ => {}
        }
    }
    (!quoted).then_some(rest)
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn a_label_stays_in_its_quotes_in_graphviz(graph in graph()) {
        let dot = graph.to_dot();
        let lines: Vec<_> = dot.split('\n').collect();
        let (body, ends) = (&lines[3..lines.len() - 2], &lines[lines.len() - 2..]);
        prop_assert_eq!(ends, ["}", ""]);
        for line in body {
            let Some(rest) = without_quoted(line) else { panic!("{line:?}") };
            let rest: String = rest.chars().filter(|c| !c.is_ascii_digit()).collect();
            prop_assert!(
                ["    s [label=];", "    s [label=, penwidth=];"].contains(&&*rest)
                    || ["    s -> s [label=];", "    s -> s [label=, color=red];"].contains(&&*rest),
                "{line:?}"
            );
            prop_assert!(!line.contains(char::is_control), "{line:?}");
        }
    }

    #[test]
    fn a_label_stays_in_its_quotes_in_mermaid(graph in graph()) {
        for line in graph.to_mermaid().split_terminator('\n').skip(1) {
            let parts: Vec<_> = line.split('"').collect();
            if let [before, label, after] = parts[..] {
                let before: String = before.chars().filter(|c| !c.is_ascii_digit()).collect();
                let label = label.replace("<br/>", "");
                prop_assert!(["    s[", "    s -->|"].contains(&&*before), "{line:?}");
                prop_assert!(after == "]" || after.starts_with("| s"), "{line:?}");
                prop_assert!(!label.contains(['<', '>', '[', ']', '|', '`', '%', '{', '&']), "{line:?}");
                prop_assert!(!label.contains(char::is_control), "{line:?}");
            } else {
                let is_style = line.starts_with("    style s") || line.starts_with("    linkStyle ");
                prop_assert!(parts.len() == 1 && is_style, "{line:?}");
            }
        }
    }

    #[test]
    fn the_tree_has_one_line_for_everybody_in_it(graph in graph()) {
        let tree = graph.to_string();
        prop_assert!(!tree.contains(|c: char| c.is_control() && c != '\n'), "{tree:?}");
        let lines = tree.split_terminator('\n').count();
        let deadlocks = tree.lines().filter(|line| line.starts_with("a deadlock of ")).count();
        let involved: std::collections::BTreeSet<_> = graph
            .edges()
            .map(|edge| [edge.waiter.id(), edge.blocker.id()])
            .filter(|[waiter, blocker]| waiter != blocker)
            .flatten()
            .collect();
        let expected = if graph.is_empty() { 1 } else { involved.len() + deadlocks };
        prop_assert_eq!(lines, expected, "{}", tree);
    }
}
