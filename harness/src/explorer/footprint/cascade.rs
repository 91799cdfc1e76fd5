//! What is deleted and changed with a row.

use std::collections::BTreeSet;

use super::catalog::{Catalog, Reference, Relation};

/// Whether what is deleted with a row, or changed, may touch other rows of its table.
pub(super) fn comes_back(catalog: &Catalog, table: &str, relation: &Relation) -> bool {
    let is_own = |reference: &Reference| reference.table == table;
    let children = relation.referenced_by.iter();
    let mut left: Vec<(&Reference, bool)> = children.map(|child| (child, true)).collect();
    let mut seen = BTreeSet::new();
    while let Some((reference, is_child)) = left.pop() {
        if !reference.cascades || (!is_child && !seen.insert(&reference.table)) {
            continue;
        }
        let Some(other) = catalog.relations.get(&reference.table) else {
            return true;
        };
        // A child looks for its parent again where it has another one, or is new.
        let refers = match is_child {
            true => reference.sets_default,
            false => other.references.iter().any(is_own),
        };
        if refers || other.referenced_by.iter().any(is_own) || !other.relatives.is_empty() {
            return true;
        }
        left.extend(other.referenced_by.iter().map(|child| (child, false)));
    }
    false
}
