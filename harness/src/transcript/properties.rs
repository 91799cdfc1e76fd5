//! Nothing that a session or a step is called can leave its place in a picture of what happened.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::events::{Transcript, What};
use super::words::{shown_name, squeezed};
use crate::hostile::{cases, text};

fn what() -> impl Strategy<Value = What> {
    prop_oneof![
        3 => Just(What::Started),
        2 => Just(What::Done),
        1 => Just(What::TimedOut),
        2 => text().prop_map(What::Failed),
        1 => text().prop_map(What::Panicked),
        3 => (vec(text(), 0..3), text()).prop_map(|(by, lock)| What::Waiting { by, lock }),
    ]
}

/// Any events, in any order; waits are for sessions that are there, or for others.
pub(super) fn transcript() -> impl Strategy<Value = Transcript> {
    let time = prop_oneof![Just(0_u64), 0..10_000_000_u64, Just(u64::MAX)];
    let event = (any::<Index>(), time, text(), what(), any::<Index>());
    (vec(text(), 0..5), vec(event, 0..20)).prop_map(|(names, events)| {
        let mut transcript = Transcript::default();
        for name in &names {
            transcript.add_session(name);
        }
        for (session, at, step, mut what, holder) in events {
            if names.is_empty() {
                break;
            }
            if let What::Waiting { by, .. } = &mut what {
                by.push(holder.get(&names).clone());
            }
            let session = session.index(names.len());
            transcript.note(session, Duration::from_micros(at), &step, what);
        }
        transcript
    })
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn a_picture_is_xml_and_has_the_names_as_text(transcript in transcript()) {
        let svg = transcript.to_svg();
        let document = roxmltree::Document::parse(&svg).map_err(|error| error.to_string());
        prop_assert!(document.is_ok(), "{document:?}: {svg}");
        let document = document.unwrap();
        let known = ["svg", "title", "rect", "path", "text"];
        let mut heads = String::new();
        for node in document.descendants().filter(|node| node.is_element()) {
            prop_assert!(known.contains(&node.tag_name().name()), "{svg}");
            if node.attribute("font-weight") == Some("bold") {
                heads.push_str(node.text().unwrap_or_default());
            }
        }
        let only = |text: &str| text.replace([' ', '…', '\u{a0}'], "");
        let names: String = transcript.sessions.iter().map(|name| shown_name(name)).collect();
        if !heads.contains('…') {
            prop_assert_eq!(only(&heads), only(&names));
        }
    }

    #[test]
    fn every_line_of_a_diagram_is_a_statement(transcript in transcript()) {
        let diagram = transcript.to_mermaid();
        let mut open = vec![false; transcript.sessions.len()];
        for line in diagram.split_terminator('\n').skip(1) {
            prop_assert!(!line.contains(char::is_control), "{line:?}");
            let line = line.strip_prefix("    ").unwrap_or_else(|| panic!("{line:?}"));
            let session = |text: &str| text.strip_prefix('s')?.parse::<usize>().ok();
            if let Some(of) = line.strip_prefix("activate ").and_then(session) {
                prop_assert!(!std::mem::replace(&mut open[of], true), "{diagram}");
            } else if let Some(of) = line.strip_prefix("deactivate ").and_then(session) {
                prop_assert!(std::mem::replace(&mut open[of], false), "{diagram}");
            } else {
                let (head, text) = match line.strip_prefix("participant ") {
                    Some(participant) => participant.split_once(" as "),
                    None => line.split_once(": "),
                }
                .unwrap_or_else(|| panic!("{line:?}"));
                let ends: Vec<_> = head.trim_start_matches("Note over ").split("-)").collect();
                let there = |end: &&str| session(end).is_some_and(|of| of < open.len());
                prop_assert!(ends.len() <= 2 && ends.iter().all(there), "{line:?}");
                // Mermaid reads codes, and the breaks that are its own.
                let text = text.replace("<br/>", " ");
                prop_assert!(!text.contains(['<', '>', '"', '%', '{', '}', '&', '[', ']']), "{line:?}");
                let is_end = |word: &str| word.eq_ignore_ascii_case("end");
                prop_assert!(!text.split_whitespace().any(is_end), "{line:?}");
                let codes = text.matches('#').count();
                prop_assert_eq!(text.matches(';').count(), codes, "{:?}", line);
            }
        }
        prop_assert!(!open.contains(&true), "{diagram}");
    }

    #[test]
    fn a_line_of_the_text_is_a_line_of_the_terminal(transcript in transcript()) {
        let text = transcript.to_string();
        let moves = |c: char| c.is_control() && c != '\n';
        prop_assert!(!text.contains(moves), "{text:?}");
        for name in &transcript.sessions {
            prop_assert!(!squeezed(name).contains(char::is_control));
        }
    }
}
