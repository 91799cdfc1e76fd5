use std::time::Duration;

use diesel::PgConnection;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

use super::super::end::End;
use super::super::footprint::Statement;
use super::super::session::SessionKind;
use super::*;
use crate::hostile::{cases, text};

/// Sessions and their labels; those of code are not known.
fn program(sessions: Vec<(String, Option<Vec<String>>)>) -> Program<'static, PgConnection> {
    let sessions = sessions.into_iter().map(|(name, labels)| SessionBody {
        name,
        kind: if labels.is_some() {
            SessionKind::Steps
        } else {
            SessionKind::Code
        },
        labels,
        body: Box::new(|_, _| End::default()),
    });
    Program {
        sessions: sessions.collect(),
        setup: None,
        teardown: None,
        invariants: Vec::new(),
        allowed: Box::new(|_| true),
        allowed_results: Box::new(|_| true),
        allowed_errors: Box::new(|_| true),
        timeout: Duration::ZERO,
        is_exhaustive: false,
        is_serializable: false,
        crashes: false,
        retries: false,
        ignored: Vec::new(),
    }
}

/// What may be a label, or with this left out a session's name.
fn word(left_out: &'static [char]) -> impl Strategy<Value = String> {
    text().prop_map(move |text| {
        let is_left = |c: &char| !c.is_whitespace() && !left_out.contains(c);
        text.chars().filter(is_left).chain(['x']).collect()
    })
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn a_schedule_is_read_as_it_is_shown(
        sessions in btree_map(word(&['.']), option::of(vec(word(&[]), 0..4)), 1..4),
        turns in vec((any::<prop::sample::Index>(), text()), 0..12),
    ) {
        let program = program(sessions.into_iter().collect());
        prop_assert!(program.check_labels().is_ok());
        let mut labels: Vec<_> = program
            .sessions
            .iter()
            .map(|session| session.labels.clone().map(Vec::into_iter))
            .collect();
        let (mut sessions, mut shown) = (Vec::new(), Vec::new());
        for (turn, statement) in turns {
            let session = turn.index(labels.len());
            let label = match &mut labels[session] {
                Some(labels) => labels.next(),
                None => Some(Statement::parse(&statement).label()),
            };
            if let Some(label) = label {
                sessions.push(session);
                shown.push(full_name(&program.sessions[session].name, &label));
            }
        }
        let (order, names) = program.parse(&shown.join(" ")).unwrap();
        prop_assert_eq!(order.iter().map(|(session, _)| *session).collect::<Vec<_>>(), sessions);
        prop_assert_eq!(names, shown);
    }

    #[test]
    fn any_text_is_a_schedule_or_refused(
        sessions in vec((text(), option::of(vec(text(), 0..3))), 0..3),
        schedule in text(),
    ) {
        let program = program(sessions);
        let _ = (program.check_labels().is_ok(), program.parse(&schedule).is_ok());
    }
}
