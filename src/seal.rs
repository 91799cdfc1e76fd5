//! What keeps other crates from implementing a trait of this one.

/// For traits whose implementors can be listed.
pub trait Sealed {}

/// For traits that are implemented for whatever Diesel or the caller makes: a parameter of a method,
/// which no other crate can name.
#[derive(Debug, Clone, Copy)]
pub struct Seal;
