//! What a statement touches with its binds: rows, where that can be told.

use super::advisory::advisory;
use super::catalog::Catalog;
use super::print::{Lock, Strength, Thing, Touch};
use super::row::{asks_for_one, row};
use super::shape::Shape;
use super::statement::Statement;
use super::tokens::tokens;

const SEQUENCE: &str = "sequence";

/// Without rows and keys where its values are other ones each time.
pub(crate) fn touch(
    catalog: &Catalog,
    shape: &Shape,
    statement: &Statement,
    is_varying: bool,
) -> Touch {
    let tokens = tokens(&statement.sql);
    let unknown = Statement::default();
    let statement = if is_varying { &unknown } else { statement };
    let row = match is_varying {
        true => None,
        false => row(catalog, shape, statement, &tokens),
    };
    let thing = |name: &String| {
        let root = catalog.root(name);
        match &row {
            Some(found) if found.key.table == *name => Thing::row(root, &found.key.words()),
            _ => Thing::any(root),
        }
    };
    let mut touch = Touch {
        reads: shape.reads.iter().map(thing).collect(),
        writes: shape.writes.iter().map(thing).collect(),
        locks: (shape.locks.iter())
            .map(|(name, strength)| Lock {
                thing: thing(name),
                strength: *strength,
            })
            .collect(),
        is_deferred: shape.is_deferred,
        ..Touch::default()
    };
    for table in &shape.sequences {
        let thing = match table {
            Some(table) => Thing::row(SEQUENCE, table),
            None => Thing::any(SEQUENCE),
        };
        touch.bumps.push(Lock {
            thing,
            strength: Strength::Update,
        });
    }
    // A number of a sequence is taken before the wait, and once more after it.
    if let Some(found) = row.filter(|found| found.is_whole && shape.sequences.is_empty()) {
        let own = |lock: &&Lock| lock.thing.row.is_some();
        touch.waits_for = touch.locks.iter().find(own).cloned();
        touch.row = touch.waits_for.is_some().then_some(found.key);
    }
    if shape.advisory {
        advisory(statement, &tokens, &mut touch, is_varying);
    }
    if shape.order_matters && !asks_for_one(catalog, shape, &tokens) {
        let fired = match shape.fires {
            true => Some(shape.reads.iter().chain(&shape.writes)),
            false => None,
        };
        let scanned = shape.named.iter().chain(fired.into_iter().flatten());
        touch.scans = scanned.map(|name| Thing::any(catalog.root(name))).collect();
    }
    touch
}
