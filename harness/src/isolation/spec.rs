use std::time::Duration;

use super::error::SpecError;
use super::parser::Parser;
use super::script::Script;

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
    pub(super) script: Script,
    pub(super) timeout: Duration,
}

impl Spec {
    /// Reads a file's text.
    ///
    /// ```
    /// use diesel_locks_harness::Spec;
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
    /// # Ok::<(), diesel_locks_harness::SpecError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The first thing in the text that is wrong: what PostgreSQL's `isolationtester` refuses too,
    /// and besides a session's name that is used twice, a NUL character in SQL or in a name, and
    /// the marker `notices`. A step that no permutation uses is no error.
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        Ok(Self {
            script: Parser::new(text).file()?,
            timeout: TIMEOUT,
        })
    }
}
