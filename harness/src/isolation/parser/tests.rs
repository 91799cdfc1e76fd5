use super::Parser;
use crate::isolation::error::SpecError;
use crate::isolation::script::{Script, ScriptEntry};
fn parse(text: &str) -> Result<Script, SpecError> {
    Parser::new(text).file()
}

const SESSIONS: &str = "session s1 step a { A } step b { B } session s2 step c { C }\n";

fn permutations(text: &str) -> Vec<Vec<ScriptEntry>> {
    let spec = parse(&format!("{SESSIONS}{text}")).unwrap();
    spec.permutations().collect()
}

#[test]
fn a_file_has_all_parts_in_its_order() {
    let spec = parse(
        "setup { S1 } setup { S2 } teardown { T }
        session s1 setup { S3 } step a { A } step b { B } teardown { T1 }
        session \"s 2\" step \"step\" { C }
        permutation a \"step\"
        permutation b a a",
    )
    .unwrap();
    assert_eq!(spec.setups, ["S1", "S2"]);
    assert_eq!(spec.teardown.as_deref(), Some("T"));

    let [s1, s2] = &spec.sessions[..] else {
        panic!("{:?}", spec.sessions)
    };
    assert_eq!((&*s1.name, s1.steps.clone()), ("s1", 0..2));
    assert_eq!(
        (s1.setup.as_deref(), s1.teardown.as_deref()),
        (Some("S3"), Some("T1"))
    );
    assert_eq!((&*s2.name, s2.steps.clone()), ("s 2", 2..3));
    assert_eq!((s2.setup.as_deref(), s2.teardown.as_deref()), (None, None));

    let steps = spec.steps.iter();
    let steps = steps.map(|step| (&*step.name, step.session, &*step.sql));
    assert!(steps.eq([("a", 0, "A"), ("b", 0, "B"), ("step", 1, "C")]));

    let order = |steps: &[usize]| steps.iter().copied().map(ScriptEntry::unmarked).collect();
    let orders: [Vec<_>; 2] = [order(&[0, 2]), order(&[1, 0, 0])];
    assert_eq!(spec.permutations, orders);
}

#[test]
fn the_permutations_are_those_of_the_file_or_else_all() {
    let orders = |text| -> Vec<Vec<usize>> {
        let steps = |order: Vec<ScriptEntry>| order.iter().map(|entry| entry.step).collect();
        permutations(text).into_iter().map(steps).collect()
    };
    assert_eq!(orders("permutation c\npermutation b"), [[2], [1]]);
    assert_eq!(orders(""), [[0, 1, 2], [0, 2, 1], [2, 0, 1]]);
}

#[test]
fn a_marker_may_name_a_step_that_comes_later_in_the_permutation() {
    let entry = |step, waits_at_first, not_before: &[usize]| ScriptEntry {
        step,
        waits_at_first,
        not_before: not_before.to_vec(),
    };
    assert_eq!(
        permutations("permutation c(b, *,a) a (c)\nb(*)"),
        [[
            entry(2, true, &[1, 0]),
            entry(0, false, &[2]),
            entry(1, true, &[])
        ]]
    );
}
