//! What statements touch, so that two of them that touch nothing in common need not be run in both
//! orders.

mod advisory;
mod cascade;
mod catalog;
mod condition;
mod define;
mod inserted;
mod keys;
mod order;
mod print;
#[cfg(test)]
mod properties;
mod query;
mod row;
mod server;
mod shape;
mod shapes;
mod statement;
mod tokens;
mod touch;
mod value;
mod write;

pub(super) use catalog::{Catalog, Relation};
pub(super) use print::{Footprint, KeyColumn, Lock, RowKey, Serializable, Strength, Thing, Touch};
pub(super) use shapes::Shapes;
pub(super) use statement::{Kind, Statement};
