//! What a statement touches, whatever its binds are.

use std::collections::BTreeSet;

use super::print::Strength;
use super::tokens::Token;

/// What a statement of some text touches: whole relations, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) reads: BTreeSet<String>,
    pub(crate) writes: BTreeSet<String>,
    pub(crate) locks: BTreeSet<(String, Strength)>,
    /// The writes of which is known what comes with them: how strong each is, by what it fires
    /// triggers, and whether it takes defaults.
    pub(super) written: BTreeSet<(String, Strength, String, bool)>,
    /// What it names itself, without what comes with that.
    pub(crate) named: BTreeSet<String>,
    /// Whether it takes numbers of sequences: of these tables, or of any.
    pub(crate) sequences: BTreeSet<Option<String>>,
    /// Whether it calls functions for advisory locks.
    pub(crate) advisory: bool,
    /// Whether something is checked when its transaction commits.
    pub(crate) is_deferred: bool,
    /// Whether what comes of it may depend on where in its table a row is.
    pub(crate) order_matters: bool,
    /// Whether it calls functions of the application's, or fires its triggers.
    pub(crate) fires: bool,
}

/// The weakest lock that its words ask for is not known to be that of each table: the strongest.
pub(super) fn row_lock(tokens: &[Token]) -> Strength {
    let mut strongest = None;
    for (at, token) in tokens.iter().enumerate() {
        if !token.is("for") {
            continue;
        }
        let is = |more: usize, word: &str| tokens.get(at + more).is_some_and(|t| t.is(word));
        let strength = if is(1, "key") && is(2, "share") {
            Some(Strength::KeyShare)
        } else if is(1, "share") {
            Some(Strength::Share)
        } else if is(1, "no") && is(2, "key") {
            Some(Strength::NoKeyUpdate)
        } else if is(1, "update") {
            Some(Strength::Update)
        } else {
            None
        };
        strongest = strongest.max(strength);
    }
    strongest.unwrap_or(Strength::Update)
}
