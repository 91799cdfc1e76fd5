use std::fmt;

use super::script::Script;
use crate::transcript::Transcript;

/// What came of the permutations of a [`Spec`](crate::Spec).
///
/// Its text is that of PostgreSQL's `isolationtester`, line by line, but for what Diesel does not
/// show: the tables of rows, notices and notifications.
///
/// ```text
/// Parsed test spec with 2 sessions
///
/// starting permutation: lock1 lock2 commit
/// step lock1: SELECT balance FROM accounts FOR UPDATE;
/// step lock2: SELECT balance FROM accounts FOR UPDATE; <waiting ...>
/// step commit: COMMIT;
/// step lock2: <... completed>
/// ```
#[derive(Debug, Clone)]
pub struct SpecTranscript {
    unused: Vec<String>,
    sessions: usize,
    permutations: Vec<PermutationTranscript>,
}

/// What came of one permutation.
#[derive(Debug, Clone)]
pub(super) struct PermutationTranscript {
    pub(super) text: String,
    pub(super) transcript: Transcript,
}

impl SpecTranscript {
    pub(super) fn new(script: &Script, permutations: Vec<PermutationTranscript>) -> Self {
        Self {
            unused: script.unused_steps(),
            sessions: script.sessions.len(),
            permutations,
        }
    }

    /// The permutations in their order, each as a transcript with times and lanes, and with who
    /// waited for whom, but without the names of the locks.
    pub fn permutations(&self) -> impl Iterator<Item = &Transcript> {
        self.permutations
            .iter()
            .map(|permutation| &permutation.transcript)
    }
}

impl fmt::Display for SpecTranscript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.unused {
            writeln!(f, "unused step name: {step}")?;
        }
        writeln!(f, "Parsed test spec with {} sessions", self.sessions)?;
        for permutation in &self.permutations {
            write!(f, "\n{}", permutation.text)?;
        }
        Ok(())
    }
}
