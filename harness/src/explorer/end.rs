use std::any::Any;
use std::error::Error;

/// How a session has ended.
#[derive(Default)]
pub(super) struct End {
    /// What it returned, as `Debug` shows it; nothing for steps.
    pub(super) result: Option<String>,
    /// Whether that is an error.
    pub(super) has_failed: bool,
    /// The error of a step.
    pub(super) error: Option<Box<dyn Error + Send + Sync>>,
    pub(super) panic: Option<String>,
    /// It was ended on purpose.
    pub(super) has_crashed: bool,
    /// The state of steps.
    pub(super) state: Option<Box<dyn Any + Send>>,
}
