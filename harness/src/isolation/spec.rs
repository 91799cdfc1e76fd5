use std::ops::Range;
use std::time::Duration;

mod error;
mod interleavings;
mod parser;
mod permutation;
mod run;
mod scanner;
mod transcript;

pub use error::SpecError;
pub use transcript::SpecTranscript;

use interleavings::Interleavings;
use parser::Parser;

/// The time that isolationtester gives a step.
const TIMEOUT: Duration = Duration::from_secs(300);

/// A test of several sessions, in the language of PostgreSQL's own isolation tests.
///
/// A file names the SQL of each *step*, tells which *session* runs it, and lists the
/// *permutations*: the orders in which the steps are sent. Without such a list, every order is
/// meant in which the steps of each session keep theirs.
///
/// ```text
/// setup    { CREATE TABLE accounts (balance int); INSERT INTO accounts VALUES (100); }
/// teardown { DROP TABLE accounts; }
///
/// session s1
/// setup       { BEGIN; }
/// step lock1  { SELECT balance FROM accounts FOR UPDATE; }
/// step commit { COMMIT; }
///
/// session s2
/// step lock2  { SELECT balance FROM accounts FOR UPDATE; }  # waits for the commit
///
/// permutation lock1 lock2 commit
/// ```
///
/// The parts come in this order, and only the sessions have to be there:
///
/// - any number of `setup` blocks, each sent as one query, and at most one `teardown`
/// - the sessions, each with at most one `setup`, then its steps, then at most one `teardown`
/// - the permutations, which may leave steps out, and repeat them
///
/// A step of a permutation can have markers, which say when it is reported as completed:
/// `lock2(*)` is reported as waiting at first, in any case, and `lock2(commit)` not as completed
/// before `commit` is. PostgreSQL's marker `notices` is not supported.
///
/// SQL ends at the first `}`, whatever it stands in. A name is an identifier, with double quotes
/// around it if it is one of the words of this language; `s1` and `S1` are two names. A `#`
/// outside of SQL starts a comment. All of this is as in [PostgreSQL's description][readme].
///
/// [readme]: https://github.com/postgres/postgres/blob/master/src/test/isolation/README
#[derive(Debug, Clone)]
pub struct Spec {
    setups: Vec<String>,
    teardown: Option<String>,
    sessions: Vec<SpecSession>,
    /// Of all sessions, in the order of the file.
    steps: Vec<SpecStep>,
    /// As in the file: none, if all are meant.
    permutations: Vec<Vec<SpecEntry>>,
    timeout: Duration,
}

#[derive(Debug, Clone)]
struct SpecSession {
    name: String,
    setup: Option<String>,
    teardown: Option<String>,
    /// Where its steps are among those of all sessions.
    steps: Range<usize>,
}

#[derive(Debug, Clone)]
struct SpecStep {
    name: String,
    session: usize,
    sql: String,
}

/// A step in a permutation, with its markers.
#[derive(Debug, Clone, PartialEq, Eq)]
struct SpecEntry {
    step: usize,
    /// The marker `*`.
    waits_at_first: bool,
    /// The steps that have to complete first: of other sessions, and in this permutation.
    not_before: Vec<usize>,
}

impl SpecEntry {
    fn unmarked(step: usize) -> Self {
        Self {
            step,
            waits_at_first: false,
            not_before: Vec::new(),
        }
    }
}

impl Spec {
    /// Reads a file's text.
    ///
    /// ```
    /// use diesel_locks::harness::Spec;
    ///
    /// let text = "
    ///     session s1  step lock1 { SELECT pg_advisory_lock(1); }
    ///     session s2  step lock2 { SELECT pg_advisory_lock(1); }
    ///     permutation lock1 lock3
    /// ";
    /// let error = Spec::parse(text).unwrap_err();
    /// assert_eq!((error.line(), error.column()), (4, 23));
    /// assert_eq!(error.message(), r#"undefined step "lock3" in the permutation"#);
    ///
    /// Spec::parse(&text.replace("lock3", "lock2"))?;
    /// # Ok::<(), diesel_locks::harness::SpecError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The first thing in the text that is wrong: what PostgreSQL's `isolationtester` refuses too,
    /// and besides a session's name that is used twice, a NUL character in SQL or in a name, and
    /// the marker `notices`. A step that no permutation uses is no error.
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        Parser::new(text).file()
    }

    /// The names of the steps that no permutation of the file uses, sorted.
    fn unused_steps(&self) -> Vec<String> {
        let used = |step: &usize| {
            let mut entries = self.permutations.iter().flatten();
            self.permutations.is_empty() || entries.any(|entry| entry.step == *step)
        };
        let unused = (0..self.steps.len()).filter(|step| !used(step));
        let mut names: Vec<_> = unused.map(|step| self.steps[step].name.clone()).collect();
        names.sort();
        names
    }

    /// The permutations of the file, or else all of them.
    fn permutations(&self) -> impl Iterator<Item = Vec<SpecEntry>> {
        let sessions = || self.sessions.iter().map(|session| session.steps.clone());
        let all = self
            .permutations
            .is_empty()
            .then(|| Interleavings::new(sessions()))
            .into_iter()
            .flatten()
            .map(|order| order.into_iter().map(SpecEntry::unmarked).collect());
        self.permutations.iter().cloned().chain(all)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used)]
mod tests {
    use super::{Spec, SpecEntry};

    const SESSIONS: &str = "session s1 step a { A } step b { B } session s2 step c { C }\n";

    fn permutations(text: &str) -> Vec<Vec<SpecEntry>> {
        let spec = Spec::parse(&format!("{SESSIONS}{text}")).unwrap();
        spec.permutations().collect()
    }

    #[test]
    fn a_file_has_all_parts_in_its_order() {
        let spec = Spec::parse(
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

        let order = |steps: &[usize]| steps.iter().copied().map(SpecEntry::unmarked).collect();
        let orders: [Vec<_>; 2] = [order(&[0, 2]), order(&[1, 0, 0])];
        assert_eq!(spec.permutations, orders);
    }

    #[test]
    fn the_permutations_are_those_of_the_file_or_else_all() {
        let orders = |text| -> Vec<Vec<usize>> {
            let steps = |order: Vec<SpecEntry>| order.iter().map(|entry| entry.step).collect();
            permutations(text).into_iter().map(steps).collect()
        };
        assert_eq!(orders("permutation c\npermutation b"), [[2], [1]]);
        assert_eq!(orders(""), [[0, 1, 2], [0, 2, 1], [2, 0, 1]]);
    }

    #[test]
    fn a_marker_may_name_a_step_that_comes_later_in_the_permutation() {
        let entry = |step, waits_at_first, not_before: &[usize]| SpecEntry {
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
}
