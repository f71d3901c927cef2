//! Where jobs run.
//!
//! An engine is asked by [`Errand`](hyperion_model::errand::Errand)s and tells
//! [`News`](hyperion_model::errand::News); it never says what it cannot know, and
//! never starts a task twice.

mod local;

pub use local::{Leaving, Local};
