use std::fmt;
use std::sync::OnceLock;

/// What follows from something else: made when somebody asks for it first, and kept up to
/// date from then on. What nobody asks for costs nothing.
#[derive(Clone)]
pub(crate) struct Derived<T>(OnceLock<T>);

impl<T> Default for Derived<T> {
    fn default() -> Self {
        Self(OnceLock::new())
    }
}

impl<T> fmt::Debug for Derived<T> {
    /// Says nothing: whether somebody has asked makes no difference.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}

impl<T> Derived<T> {
    /// Gives it.
    pub(crate) fn get(&self, make: impl FnOnce() -> T) -> &T {
        self.0.get_or_init(make)
    }

    /// Keeps it up to date.
    pub(crate) fn change(&mut self, change: impl FnOnce(&mut T)) {
        if let Some(made) = self.0.get_mut() {
            change(made);
        }
    }
}
