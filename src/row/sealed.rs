//! What keeps other crates from implementing the traits of this room.
#![expect(unnameable_types, reason = "only this crate names them")]

/// For traits whose implementors can be listed.
pub trait Sealed {}

/// For traits that are implemented for whatever Diesel makes: a parameter of a method.
#[derive(Debug)]
pub struct Seal;
