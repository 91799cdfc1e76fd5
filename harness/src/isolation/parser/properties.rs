use std::fmt::Write;

use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::Index;

use super::Parser;
use crate::hostile::{cases, text};
use crate::isolation::script::{Script, ScriptEntry, ScriptSession, ScriptStep};

/// A name as a file has it between quotes.
fn name() -> impl Strategy<Value = String> {
    text().prop_map(|text| text.replace(['\n', '\0'], ""))
}

/// SQL as it is between braces: without the spaces beside them.
fn sql() -> impl Strategy<Value = String> {
    text().prop_map(|text| {
        text.replace(['}', '\0'], "")
            .trim_matches([' ', '\t', '\r', '\x0c'])
            .to_owned()
    })
}

type Block = Option<String>;

fn script() -> impl Strategy<Value = Script> {
    let session = (option::of(sql()), 1..4_usize, option::of(sql()));
    let entry = (any::<Index>(), any::<bool>(), vec(any::<Index>(), 0..3));
    (
        (vec(sql(), 0..3), option::of(sql())),
        btree_set(name(), 1..4),
        vec(session, 4),
        (btree_set(name(), 12), vec(sql(), 12)),
        vec(vec(entry, 1..6), 0..3),
    )
        .prop_map(
            |((setups, teardown), names, sessions, (steps, sql), permutations)| {
                let mut steps = steps.into_iter().zip(sql);
                let mut script = Script {
                    setups,
                    teardown,
                    ..Script::default()
                };
                for (session, (name, (setup, count, teardown))) in
                    names.into_iter().zip(sessions).enumerate()
                {
                    let first = script.steps.len();
                    let own = steps.by_ref().take(count);
                    script
                        .steps
                        .extend(own.map(|(name, sql)| ScriptStep { name, session, sql }));
                    let steps = first..script.steps.len();
                    script.sessions.push(ScriptSession {
                        name,
                        setup,
                        teardown,
                        steps,
                    });
                }
                let all = script.steps.len();
                for entries in permutations {
                    let mut entries: Vec<_> = entries
                        .into_iter()
                        .map(|(step, waits_at_first, not_before)| ScriptEntry {
                            step: step.index(all),
                            waits_at_first,
                            not_before: not_before.iter().map(|step| step.index(all)).collect(),
                        })
                        .collect();
                    let there: Vec<_> = entries.iter().map(|entry| entry.step).collect();
                    let session = |step: usize| script.steps[step].session;
                    for entry in &mut entries {
                        let own = session(entry.step);
                        entry
                            .not_before
                            .retain(|at| there.contains(at) && session(*at) != own);
                    }
                    script.permutations.push(entries);
                }
                script
            },
        )
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The file that says all this, with `space` wherever there may be some.
fn written(script: &Script, space: &str) -> String {
    let mut file = String::new();
    let block = |file: &mut String, word: &str, sql: &Block| {
        if let Some(sql) = sql {
            let _ = write!(file, "{word}{space}{{ {sql} }}{space}");
        }
    };
    for setup in &script.setups {
        block(&mut file, "setup", &Some(setup.clone()));
    }
    block(&mut file, "teardown", &script.teardown);
    for session in &script.sessions {
        let _ = write!(file, "session{space}{}{space}", quoted(&session.name));
        block(&mut file, "setup", &session.setup);
        for step in &script.steps[session.steps.clone()] {
            let word = format!("step{space}{}", quoted(&step.name));
            block(&mut file, &word, &Some(step.sql.clone()));
        }
        block(&mut file, "teardown", &session.teardown);
    }
    for entries in &script.permutations {
        file.push_str("permutation");
        for entry in entries {
            let first = entry.waits_at_first.then(|| "*".to_owned());
            let later = entry
                .not_before
                .iter()
                .map(|step| quoted(&script.steps[*step].name));
            let markers: Vec<_> = first.into_iter().chain(later).collect();
            let markers = match markers.is_empty() {
                true => String::new(),
                false => format!("({})", markers.join(&format!("{space},"))),
            };
            let name = quoted(&script.steps[entry.step].name);
            let _ = write!(file, "{space}{name}{markers}{space}");
        }
        file.push_str(space);
    }
    file
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn a_file_is_read_as_it_was_written(
        script in script(),
        space in prop::sample::select(vec![" ", "\n", "\t\r\n", " # \"{}\n", "\n#}\n#\n"]),
    ) {
        let file = written(&script, space);
        let read = Parser::new(&file).file();
        prop_assert_eq!(
            read.map(|read| format!("{read:#?}")),
            Ok(format!("{script:#?}")),
            "{}", file
        );
    }

    #[test]
    fn any_text_is_read_or_refused_at_a_place_that_is_in_it(text in text()) {
        refused_in(&text);
    }

    /// Most of such a file is as it should be.
    #[test]
    fn a_file_with_an_error_is_refused_at_a_place_that_is_in_it(
        script in script(),
        wrong in text(),
        (from, to) in any::<(Index, Index)>(),
    ) {
        let mut file: Vec<char> = written(&script, " ").chars().collect();
        let (from, to) = (from.index(file.len() + 1), to.index(file.len() + 1));
        file.splice(from.min(to)..to.min(from + 9).max(from.min(to)), wrong.chars());
        refused_in(&file.into_iter().collect::<String>());
    }
}

fn refused_in(text: &str) {
    let Err(error) = Parser::new(text).file() else {
        return;
    };
    let line = text.split('\n').nth(error.line() - 1);
    let line = line.unwrap_or_else(|| panic!("no such line: {error}, {text:?}"));
    assert!(
        error.column() <= line.chars().count() + 1,
        "{error}, {text:?}"
    );
}
