//! What statements touch, so that two of them that touch nothing in common need not be run in both
//! orders.

mod advisory;
mod catalog;
mod condition;
mod define;
mod order;
mod print;
#[cfg(test)]
mod properties;
mod query;
mod row;
mod shape;
mod shapes;
mod statement;
mod tokens;
mod touch;
mod write;

pub(super) use catalog::{Catalog, Relation};
pub(super) use print::{Footprint, Lock, RowKey, Serializable, Strength, Thing, Touch};
pub(super) use shapes::Shapes;
pub(super) use statement::{Kind, Statement};
