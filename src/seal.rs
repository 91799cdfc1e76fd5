/// No other crate can name it, so none can implement a trait that has a method with it.
#[derive(Debug, Clone, Copy)]
pub struct Seal;
