//! What happened in a test's sessions, and how to show it.

mod events;
#[cfg(test)]
mod examples;
mod mermaid;
#[cfg(test)]
#[expect(clippy::unwrap_used)]
mod properties;
mod rows;
mod svg;
mod text;
mod words;

pub use events::Transcript;
pub(crate) use events::What;
