//! Nothing that a session is called, sends or is told can leave its place in the page.

use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::Index;

use super::super::problem::Problem;
use super::super::report::{Exploration, Run, RunStep};
use super::{HEAD, page};
use crate::hostile::{cases, text};
use crate::transcript::Transcript;

fn run(sessions: usize) -> impl Strategy<Value = Run> {
    let statement = option::of((text(), vec(text(), 0..3)));
    let step = (0..sessions, text(), statement, option::of(text()));
    let problem = prop_oneof![
        (text(), option::of(text())).prop_map(|(name, reason)| Problem::Invariant { name, reason }),
        (text(), text()).prop_map(|(step, error)| Problem::Failed {
            step,
            error: error.into()
        }),
        (vec(text(), 0..3), vec(text(), 0..3)).prop_map(|(cycle, ends)| {
            Problem::NotSerializable {
                anomaly: None,
                cycle,
                ends,
            }
        }),
    ];
    (vec(step, 0..5), vec(problem, 0..3), text()).prop_map(|(steps, problems, end)| {
        let mut run = Run::new(None, Transcript::default());
        let steps = steps
            .into_iter()
            .map(|(session, name, statement, error)| RunStep {
                session,
                name,
                statement,
                error,
                wanted: None,
            });
        run.steps = steps.collect();
        (run.problems, run.end) = (problems, end);
        run.finish();
        run
    })
}

/// Any sessions, and edges between them that the picture of a cycle can have.
fn exploration() -> impl Strategy<Value = Exploration> {
    let edges = vec((any::<Index>(), any::<Index>(), text()), 0..4);
    (btree_set(text(), 1..4), edges)
        .prop_flat_map(|(sessions, edges)| {
            let runs = vec(run(sessions.len()), 0..3);
            (Just(Vec::from_iter(sessions)), Just(edges), runs)
        })
        .prop_map(|(sessions, edges, mut runs)| {
            if let Some(run) = runs.first_mut() {
                let edge = |(from, to, why): &(Index, Index, String)| {
                    format!(
                        "{why}: {} before {}",
                        from.get(&sessions),
                        to.get(&sessions)
                    )
                };
                run.problems.insert(
                    0,
                    Problem::NotSerializable {
                        anomaly: None,
                        cycle: edges.iter().map(edge).collect(),
                        ends: Vec::new(),
                    },
                );
            }
            let mut exploration = Exploration::new(true, runs, Vec::new(), Vec::new());
            exploration.sessions = sessions;
            exploration
        })
}

proptest! {
    #![proptest_config(cases(200))]

    /// The part of the page that has anything of the test's is XML too.
    #[test]
    fn what_the_page_shows_is_text_and_nothing_else(exploration in exploration()) {
        let page = page(&exploration, &exploration.sessions);
        let (body, script) = page[HEAD.len()..].split_once("<p>Up and down").unwrap();
        prop_assert_eq!(script.matches("<script>").count(), 1);
        let body = format!("<body>{body}</body>");
        let document = roxmltree::Document::parse(&body).map_err(|error| error.to_string());
        prop_assert!(document.is_ok(), "{document:?}: {body}");
        let document = document.unwrap();
        let known = [
            "body", "h1", "h2", "p", "nav", "ol", "li", "a", "section", "pre", "svg", "defs",
            "marker", "path", "title", "text", "table", "thead", "tr", "th", "tbody", "td", "b",
            "code", "i",
        ];
        let elements = document.descendants().filter(|node| node.is_element());
        let elements: Vec<_> = elements.map(|node| node.tag_name().name()).collect();
        prop_assert!(elements.iter().all(|name| known.contains(name)), "{elements:?}");
        let count = |name| elements.iter().filter(|element| **element == name).count();
        let runs = exploration.failures();
        prop_assert_eq!(count("section"), runs.len());
        prop_assert_eq!(count("th"), runs.len() * exploration.sessions.len());
        prop_assert_eq!(count("b"), runs.iter().map(|run| run.steps.len()).sum::<usize>());
    }
}
